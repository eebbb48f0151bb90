import { constants, writeSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { StorageError } from '../base/errors.ts';
import type { LocalDisk, LocalFile } from '../base/local-disk.ts';

/** The disk under `directory`, which is made when it is first needed, for its owner alone. */
export function createLocalDisk(directory: string): LocalDisk {
  const absolute = (path: string): string => join(directory, path);
  return {
    open: async (path, { create }) => {
      const target = absolute(path);
      if (create) await attempt(path, () => makeDirectory(dirname(target)));
      const handle = await attempt(path, () => open(target, create ? 'w+' : 'r+', 0o600));
      // A file that is synced is of no use if its name is lost.
      if (create) await attempt(path, () => syncDirectory(dirname(target)));
      return new NodeFile(path, target, handle);
    },
    list: (path) =>
      attempt(path, async () => (await readdir(absolute(path))).sort()).catch(unlessMissing([])),
    readFile: (path) =>
      attempt<Uint8Array | undefined>(path, () => readFile(absolute(path))).catch(
        unlessMissing(undefined),
      ),
    replaceFile: (path, bytes) => attempt(path, () => replaceFile(absolute(path), bytes)),
    rename: (from, to) =>
      attempt(from, async () => {
        await rename(absolute(from), absolute(to));
        await syncDirectory(dirname(absolute(to)));
      }),
    remove: (path) => attempt(path, () => rm(absolute(path), { recursive: true, force: true })),
  };
}

class NodeFile implements LocalFile {
  private readonly path: string;
  private readonly target: string;
  private readonly handle: FileHandle;
  /** The same file, opened so that each write is durable (O_DSYNC). */
  private durable: Promise<FileHandle> | undefined;

  constructor(path: string, target: string, handle: FileHandle) {
    this.path = path;
    this.target = target;
    this.handle = handle;
  }

  write(parts: readonly Uint8Array[], position: number): Promise<void> {
    return this.writeBy(this.handle, parts, position);
  }

  writeHere(bytes: Uint8Array, position: number): void {
    try {
      let done = 0;
      while (done < bytes.byteLength) {
        done += writeSync(this.handle.fd, bytes, done, bytes.byteLength - done, position + done);
      }
    } catch (error) {
      throw localError(error, this.path);
    }
  }

  async writeDurably(parts: readonly Uint8Array[], position: number): Promise<void> {
    this.durable ??= attempt(this.path, () =>
      open(this.target, constants.O_RDWR | constants.O_DSYNC),
    );
    await this.writeBy(await this.durable, parts, position);
  }

  private writeBy(
    handle: FileHandle,
    parts: readonly Uint8Array[],
    position: number,
  ): Promise<void> {
    return attempt(this.path, async () => {
      let at = position;
      // IOV_MAX is 1024 on Linux.
      for (let from = 0; from < parts.length; from += 1024) {
        const some = parts.slice(from, from + 1024);
        const lengthBytes = some.reduce((sum, part) => sum + part.byteLength, 0);
        await this.writeAll(handle, some, lengthBytes, at);
        at += lengthBytes;
      }
    });
  }

  private async writeAll(
    handle: FileHandle,
    parts: readonly Uint8Array[],
    lengthBytes: number,
    at: number,
  ): Promise<void> {
    const [only] = parts;
    const { bytesWritten } =
      parts.length === 1 && only !== undefined
        ? await handle.write(only, 0, lengthBytes, at)
        : await handle.writev(parts, at);
    if (bytesWritten === lengthBytes) return;
    // A short write is how a full disk begins: the rest says why.
    const rest = Buffer.concat(parts).subarray(bytesWritten);
    await this.writeAll(handle, [rest], rest.byteLength, at + bytesWritten);
  }

  read(into: Uint8Array, position: number): Promise<void> {
    return attempt(this.path, async () => {
      let done = 0;
      while (done < into.byteLength) {
        const length = into.byteLength - done;
        const { bytesRead } = await this.handle.read(into, done, length, position + done);
        if (bytesRead === 0) {
          throw new StorageError('local-io', `${this.path} ends at byte ${position + done}.`);
        }
        done += bytesRead;
      }
    });
  }

  sync(): Promise<void> {
    return attempt(this.path, () => this.handle.datasync());
  }

  sizeBytes(): Promise<number> {
    return attempt(this.path, async () => (await this.handle.stat()).size);
  }

  close(): Promise<void> {
    return attempt(this.path, async () => {
      await this.handle.close();
      await (await this.durable)?.close();
    });
  }
}

/** Makes a directory and those above it, each name durable in its parent. */
async function makeDirectory(directory: string): Promise<void> {
  const first = await mkdir(directory, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let made = directory; made.length >= first.length; made = dirname(made)) {
    await syncDirectory(dirname(made));
  }
}

async function replaceFile(target: string, bytes: Uint8Array): Promise<void> {
  await makeDirectory(dirname(target));
  const temporary = `${target}.new`;
  const handle = await open(temporary, 'w', 0o600);
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, target);
  await syncDirectory(dirname(target));
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function attempt<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw localError(error, path);
  }
}

function localError(error: unknown, path: string): StorageError {
  if (error instanceof StorageError) return error;
  const code = (error as NodeJS.ErrnoException).code;
  const cause = { cause: error };
  if (code === 'ENOENT') return new StorageError('not-found', `There is no ${path}.`, cause);
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new StorageError(
      'no-space',
      `The local disk is full: ${path} could not be written; free some space.`,
      cause,
    );
  }
  return new StorageError('local-io', `The local disk failed at ${path}: ${String(error)}`, cause);
}

function unlessMissing<T>(instead: T): (error: unknown) => T {
  return (error) => {
    if (error instanceof StorageError && error.code === 'not-found') return instead;
    throw error;
  };
}
