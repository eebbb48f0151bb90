import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StorageError } from '../base/errors.ts';
import { corrupt } from '../format/binary.ts';
import { Fields, parseJson } from '../format/json-fields.ts';
import { decodeEntry, encodableEntry, type KeyEntry } from './keyring-entry.ts';

export interface KeyringContent {
  readonly keys: readonly KeyEntry[];
  /** The name of the key for volumes that name none. */
  readonly defaultKey: string | undefined;
}

const keyringFormat = 'elasticdrive-keyring';
const keyringVersion = 1;

/** The named keys of this host: one file that its owner alone may read, and that lies in no store. */
export class Keyring {
  readonly path: string;
  readonly #guardedBy: string | undefined;

  /** What lies in a directory that somebody else guards may have any mode there. */
  constructor(path: string, guardedBy?: string) {
    this.path = path;
    this.#guardedBy = guardedBy;
  }

  /** What the file says now; empty where there is none yet. */
  async read(): Promise<KeyringContent> {
    const bytes = await this.#bytes();
    if (bytes === undefined) return { keys: [], defaultKey: undefined };
    const fields = new Fields(parseJson(bytes, this.path), this.path);
    if (fields.text('format') !== keyringFormat) throw corrupt(`${this.path} is no keyring`);
    const found = fields.count('version');
    if (found !== keyringVersion) {
      throw corrupt(`${this.path} is of version ${found}, this program knows ${keyringVersion}`);
    }
    return {
      keys: fields.list('keys').map(decodeEntry),
      defaultKey: fields.optional('default', () => fields.text('default')),
    };
  }

  /** The key of this name, or the default one; `not-found` when there is none. */
  async find(name?: string): Promise<KeyEntry> {
    const { keys, defaultKey } = await this.read();
    const wanted = name ?? defaultKey;
    const entry = keys.find((each) => each.name === wanted);
    if (entry !== undefined) return entry;
    const first = 'make one with "elasticdrive key create"';
    if (keys.length === 0) {
      throw new StorageError('not-found', `there is no key in ${this.path}: ${first}`);
    }
    const others = keys.map((each) => each.name).join(', ');
    throw new StorageError(
      'not-found',
      wanted === undefined
        ? `no key of ${this.path} is the default one: name one of ${others}`
        : `there is no key "${wanted}" in ${this.path}, only ${others}`,
    );
  }

  /**
   * Replaces the file at once and for good. The new file is also the lock: who finds it there leaves
   * it to the other command, for a key that is lost is data that is lost.
   */
  async change(by: (content: KeyringContent) => KeyringContent): Promise<void> {
    const directory = dirname(this.path);
    const temporary = `${this.path}.new`;
    let handle: FileHandle;
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      handle = await open(temporary, 'wx', 0o600);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw this.#failed('change', cause);
      throw new StorageError(
        'held',
        `another command is changing ${this.path}: try again, or remove ${temporary} when none is running`,
      );
    }
    try {
      const { keys, defaultKey } = by(await this.read());
      const document = {
        format: keyringFormat,
        version: keyringVersion,
        default: defaultKey ?? null,
        keys: keys.map(encodableEntry),
      };
      await handle.writeFile(`${JSON.stringify(document, null, 2)}\n`);
      await handle.sync();
      await rename(temporary, this.path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error instanceof StorageError ? error : this.#failed('change', error);
    } finally {
      await handle.close();
    }
    await syncDirectory(directory);
  }

  async #bytes(): Promise<Uint8Array | undefined> {
    let handle: FileHandle;
    try {
      handle = await open(this.path, 'r');
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw this.#failed('read', cause);
    }
    try {
      const { mode } = await handle.stat();
      if ((mode & 0o077) !== 0 && dirname(this.path) !== this.#guardedBy) {
        throw new StorageError(
          'denied',
          `others may read ${this.path}: run "chmod 600 ${this.path}"`,
        );
      }
      return await handle.readFile();
    } finally {
      await handle.close();
    }
  }

  #failed(what: string, cause: unknown): StorageError {
    const { code, message } = cause as NodeJS.ErrnoException;
    const text = `cannot ${what} the keyring ${this.path} (${code ?? message})`;
    return new StorageError('local-io', text, { cause });
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
