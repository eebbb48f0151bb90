import { type FileHandle, mkdir, open, rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StorageError } from '../base/errors.ts';
import { unfilled } from '../base/memory-pool.ts';

/** Files hold data of volumes: nobody but their owner reads them. */
const fileMode = 0o600;
export const directoryMode = 0o700;

export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

export function isErrno(error: unknown, ...codes: string[]): boolean {
  const errno = errnoOf(error);
  return errno !== undefined && codes.includes(errno);
}

/** What a failed file-system call means for the one who called the store. */
export function fileError(error: unknown, doing: string): StorageError {
  if (error instanceof StorageError) return error;
  const errno = errnoOf(error);
  const reason = error instanceof Error ? error.message : String(error);
  const message = `${doing} failed: ${reason}.`;
  switch (errno) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new StorageError('no-space', message, { cause: error });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new StorageError('store-denied', message, { cause: error });
    case 'ENOENT':
    case 'ENOTDIR':
    case 'EISDIR':
      return new StorageError('not-found', message, { cause: error });
    default:
      return new StorageError('store-unavailable', message, { cause: error });
  }
}

/** Runs `action` with the file open and closes it whatever happens. */
export async function withFile<T>(
  path: string,
  flags: string,
  action: (file: FileHandle) => Promise<T>,
): Promise<T> {
  const file = await open(path, flags, fileMode);
  try {
    return await action(file);
  } finally {
    await file.close();
  }
}

async function writeAll(file: FileHandle, parts: readonly Uint8Array[]): Promise<void> {
  let rest = parts.filter((part) => part.length > 0);
  while (rest.length > 0) {
    let { bytesWritten } = await file.writev(rest);
    const left: Uint8Array[] = [];
    for (const part of rest) {
      const taken = Math.min(bytesWritten, part.length);
      bytesWritten -= taken;
      if (taken < part.length) left.push(part.subarray(taken));
    }
    rest = left;
  }
}

/** A new file with these bytes, on the disk when this resolves; its name is not yet. */
export function writeNewFile(path: string, parts: readonly Uint8Array[]): Promise<void> {
  return withFile(path, 'wx', async (file) => {
    await writeAll(file, parts);
    await file.datasync();
  });
}

/** `lengthBytes` of the file from `offset`; fewer only when the file ends there. */
export async function readBytes(
  file: FileHandle,
  offset: number,
  lengthBytes: number,
  allocate: (lengthBytes: number) => Uint8Array = unfilled,
): Promise<Uint8Array> {
  const bytes = allocate(lengthBytes);
  let filled = 0;
  while (filled < lengthBytes) {
    const { bytesRead } = await file.read(bytes, filled, lengthBytes - filled, offset + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled === lengthBytes ? bytes : bytes.subarray(0, filled);
}

/** Makes the names in the directory survive a power loss. */
export function syncDirectory(path: string): Promise<void> {
  return withFile(path, 'r', (directory) => directory.sync());
}

/** Makes the directory and its parents where they are missing, and their names durable. */
export async function makeDirectory(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: directoryMode });
  if (first === undefined) return;
  const top = dirname(first);
  for (let made = path; made !== top; made = dirname(made)) await syncDirectory(dirname(made));
}

/** Removes `path` and its parents below `root` as long as they are empty. */
export async function removeEmptyDirectories(path: string, root: string): Promise<void> {
  for (let directory = path; directory !== root; directory = dirname(directory)) {
    try {
      await rmdir(directory);
    } catch {
      // Not empty, already gone or not ours to remove: in each case there is nothing more to do.
      return;
    }
  }
}

/**
 * Makes the name of a file in `directory` durable, with the names of all directories that lead to it
 * from `root`. Another process may have made one of those a moment ago and not synced it yet, or
 * removed and made it anew: so a directory counts as durable only as long as it is the very same one
 * (inode and time of birth) whose parents this process has synced before.
 */
export class DirectorySyncer {
  readonly #root: string;
  readonly #durable = new Map<string, string>();

  constructor(root: string) {
    this.#root = root;
  }

  async sync(directory: string): Promise<void> {
    const synced: [string, string][] = [];
    for (let path = directory; ; path = dirname(path)) {
      const identity = await withFile(path, 'r', async (file) => {
        await file.sync();
        const { ino, birthtimeNs } = await file.stat({ bigint: true });
        return `${ino}:${birthtimeNs}`;
      });
      if (path === this.#root || this.#durable.get(path) === identity) break;
      synced.push([path, identity]);
    }
    for (const [path, identity] of synced) this.#remember(path, identity);
  }

  #remember(path: string, identity: string): void {
    const maxRemembered = 1000;
    if (this.#durable.size >= maxRemembered) this.#durable.clear();
    this.#durable.set(path, identity);
  }
}
