import { type FileHandle, readdir, stat, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Clock, systemClock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type {
  ByteRange,
  CallOptions,
  ListOptions,
  ListPage,
  ObjectStart,
  ObjectStore,
  ReadOptions,
  RegisterValue,
} from '../base/object-store.ts';
import { type Random, systemRandom } from '../base/random.ts';
import { throwIfAborted } from './cancel.ts';
import {
  DirectorySyncer,
  fileError,
  isErrno,
  makeDirectory,
  readBytes,
  removeEmptyDirectories,
  withFile,
  writeNewFile,
} from './file-io.ts';
import { listDirectory } from './file-list.ts';
import {
  createRegister,
  loadRegister,
  type RegisterHome,
  registerSuffix,
  removeRegister,
  removeTree,
  renameIntoPlace,
  swapRegister,
} from './file-registers.ts';
import { checkKey, checkPrefix, reservedPart } from './keys.ts';

export interface FileStoreOptions {
  /** Where the store is; made, with its parents, by the first write. */
  readonly directory: string;
  /** Temporary files older than this are somebody's who died; the first write removes them. */
  readonly staleTemporaryMs?: number;
  readonly clock?: Clock;
  readonly random?: Random;
}

const defaultStaleTemporaryMs = 3_600_000;
/** A listing reads a directory anew for each page, so its pages are larger than those of S3. */
const defaultMaxKeys = 10_000;
/** Enough that no two processes ever draw the same name. */
const nonceBytes = 8;

/**
 * A store in a directory, local or shared. An object is a file, named by its key; it is written
 * under `.tmp`, synced and renamed, so that it is there in full or not at all. Registers: see
 * file-registers.ts. Several processes may use one directory at once.
 */
export function createFileStore(options: FileStoreOptions): ObjectStore {
  return new FileStore(options);
}

class FileStore implements ObjectStore {
  readonly url: string;
  readonly #root: string;
  readonly #temporary: string;
  readonly #staleTemporaryMs: number;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #syncer: DirectorySyncer;
  readonly #home: RegisterHome;
  #prepared: Promise<void> | undefined;
  #closed = false;

  constructor(options: FileStoreOptions) {
    this.#root = resolve(options.directory);
    this.url = pathToFileURL(this.#root).href;
    this.#temporary = join(this.#root, reservedPart);
    this.#staleTemporaryMs = options.staleTemporaryMs ?? defaultStaleTemporaryMs;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? systemRandom;
    this.#syncer = new DirectorySyncer(this.#root);
    this.#home = {
      temporaryPath: () => this.#temporaryPath(),
      nonce: () => this.#nonce(),
      sync: (directory) => this.#syncer.sync(directory),
    };
  }

  put(key: string, parts: readonly Uint8Array[], options?: CallOptions): Promise<void> {
    return this.#write(key, options, async (path) => {
      const temporary = this.#temporaryPath();
      try {
        await writeNewFile(temporary, parts);
        if (!(await renameIntoPlace(temporary, path))) throw wrongKind(key);
      } catch (error) {
        await removeTree(temporary);
        throw error;
      }
      await this.#syncer.sync(dirname(path));
    });
  }

  get(key: string, range?: ByteRange, options?: ReadOptions): Promise<Uint8Array> {
    return this.#read(key, options, (path) =>
      withFile(path, 'r', async (file) => {
        const { offset, lengthBytes } = range ?? { offset: 0, lengthBytes: await sizeOf(file) };
        const bytes = await readBytes(file, offset, lengthBytes, options?.allocate);
        if (bytes.length === lengthBytes) return bytes;
        const end = offset + lengthBytes;
        throw new StorageError('corrupt', `${key} in ${this.url} ends before byte ${end}.`);
      }),
    );
  }

  getStart(key: string, maxBytes: number, options?: ReadOptions): Promise<ObjectStart> {
    return this.#read(key, options, (path) =>
      withFile(path, 'r', async (file) => {
        const objectBytes = await sizeOf(file);
        const lengthBytes = Math.min(maxBytes, objectBytes);
        const bytes = await readBytes(file, 0, lengthBytes, options?.allocate);
        if (bytes.length === lengthBytes) return { bytes, objectBytes };
        throw new StorageError('corrupt', `${key} in ${this.url} is shorter than its length says.`);
      }),
    );
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ListPage> {
    const { startAfter = '', maxKeys = defaultMaxKeys } = options;
    checkPrefix(prefix);
    return this.#guard(`Listing ${prefix}`, options, () =>
      listDirectory(this.#root, { prefix, startAfter }, maxKeys),
    );
  }

  delete(key: string, options?: CallOptions): Promise<void> {
    return this.#write(key, options, async (path) => {
      await removeFile(path);
      await removeEmptyDirectories(dirname(path), this.#root);
    });
  }

  load(key: string, options?: CallOptions): Promise<RegisterValue | undefined> {
    return this.#read(key, options, (path) => loadRegister(path + registerSuffix));
  }

  swap(
    key: string,
    expected: string | undefined,
    value: Uint8Array,
    options?: CallOptions,
  ): Promise<string | undefined> {
    return this.#write(key, options, (path) => {
      const register = path + registerSuffix;
      if (expected === undefined) return createRegister(register, value, this.#home);
      return swapRegister(register, expected, value, this.#home);
    });
  }

  remove(key: string, options?: CallOptions): Promise<void> {
    return this.#write(key, options, async (path) => {
      await removeRegister(path + registerSuffix, this.#home);
      await removeEmptyDirectories(dirname(path), this.#root);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #read<T>(
    key: string,
    options: CallOptions | undefined,
    action: (path: string) => Promise<T>,
  ): Promise<T> {
    return this.#guard(`Reading ${key}`, options, () => {
      checkKey(key);
      return action(join(this.#root, key));
    });
  }

  #write<T>(
    key: string,
    options: CallOptions | undefined,
    action: (path: string) => Promise<T>,
  ): Promise<T> {
    return this.#guard(`Writing ${key}`, options, async () => {
      checkKey(key);
      await this.#prepare();
      return action(join(this.#root, key));
    });
  }

  async #guard<T>(
    doing: string,
    options: CallOptions | undefined,
    action: () => Promise<T>,
  ): Promise<T> {
    if (this.#closed) throw new StorageError('shutting-down', 'The store has been closed.');
    throwIfAborted(options?.signal);
    try {
      return await action();
    } catch (error) {
      throw fileError(error, `${doing} in ${this.url}`);
    }
  }

  /** Makes the directory of the store and cleans it, once, before the first write. */
  async #prepare(): Promise<void> {
    this.#prepared ??= this.#makeAndClean();
    try {
      await this.#prepared;
    } catch (error) {
      this.#prepared = undefined;
      throw error;
    }
  }

  async #makeAndClean(): Promise<void> {
    await makeDirectory(this.#temporary);
    const oldestMs = this.#clock.wallMs() - this.#staleTemporaryMs;
    for (const name of await readdir(this.#temporary)) {
      const path = join(this.#temporary, name);
      if (await isOlder(path, oldestMs)) await removeTree(path);
    }
  }

  #temporaryPath(): string {
    return join(this.#temporary, `${process.pid}-${this.#nonce()}`);
  }

  #nonce(): string {
    return Buffer.from(this.#random.bytes(nonceBytes)).toString('hex');
  }
}

async function sizeOf(file: FileHandle): Promise<number> {
  return (await file.stat()).size;
}

async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error;
  }
}

async function isOlder(path: string, oldestMs: number): Promise<boolean> {
  try {
    return (await stat(path)).mtimeMs < oldestMs;
  } catch (error) {
    // Its owner has just finished with it.
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

function wrongKind(key: string): StorageError {
  return new StorageError('usage', `${key} cannot be an object: other keys are below it.`);
}
