import { link, mkdir, open, readdir, rename, rm, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { StorageError } from '../base/errors.ts';
import type { RegisterValue } from '../base/object-store.ts';
import {
  directoryMode,
  isErrno,
  makeDirectory,
  readBytes,
  syncDirectory,
  writeNewFile,
} from './file-io.ts';

/**
 * Registers of the directory store, without any lock. The register `K` is
 *
 *     K@/<incarnation>/<number>
 *
 * where the incarnation is random, made with the register and gone with it, and the highest number
 * is the present value. A version is `<incarnation>-<number>`. docs/decisions has the proof that
 * every swap has at most one winner.
 */
export const registerSuffix = '@';
const numberDigits = 16;
/** Versions that stay on disk, so that a reader or a swapper that was slow finds its own. */
export const keptVersions = 8;
const maxTries = 100;

const numberPattern = /^\d{16}$/;
const versionPattern = /^([0-9a-f]+)-(\d{1,16})$/;

interface Version {
  readonly incarnation: string;
  readonly number: number;
}

/** What registers need of the store that they are in. */
export interface RegisterHome {
  /** A path that nothing has, in the same file system as the registers. */
  temporaryPath(): string;
  /** Random hexadecimal digits. */
  nonce(): string;
  /** Makes the names in a directory durable, and the directory's own. */
  sync(directory: string): Promise<void>;
}

function numberName(number: number): string {
  return String(number).padStart(numberDigits, '0');
}

function formatVersion({ incarnation, number }: Version): string {
  return `${incarnation}-${number}`;
}

function parseVersion(text: string): Version | undefined {
  const match = versionPattern.exec(text);
  if (match?.[1] === undefined) return undefined;
  return { incarnation: match[1], number: Number(match[2]) };
}

/** The version numbers in the directory of one incarnation, ascending. */
async function readNumbers(directory: string): Promise<number[]> {
  const names = await readdir(directory);
  return names
    .filter((name) => numberPattern.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}

/** The present version of the register at `path` (`K@`), or `undefined` when there is none. */
async function findVersion(path: string): Promise<Version | undefined> {
  for (let tries = 0; tries < maxTries; tries += 1) {
    try {
      const [incarnation] = await readdir(path);
      if (incarnation === undefined) return undefined;
      const number = (await readNumbers(join(path, incarnation))).at(-1);
      if (number !== undefined) return { incarnation, number };
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
      // Either there is no register, or it was removed between the two listings: look again.
      if (!(await exists(path))) return undefined;
    }
  }
  throw new StorageError('store-unavailable', `${path} keeps changing; try again.`);
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}

function versionPath(path: string, { incarnation, number }: Version): string {
  return join(path, incarnation, numberName(number));
}

/** Runs `action` on the file of the present version, again when that was trimmed meanwhile. */
async function withPresent<T>(
  path: string,
  action: (file: string, version: string) => Promise<T>,
): Promise<T | undefined> {
  for (let tries = 0; tries < maxTries; tries += 1) {
    const version = await findVersion(path);
    if (version === undefined) return undefined;
    try {
      return await action(versionPath(path, version), formatVersion(version));
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
    }
  }
  throw new StorageError('store-unavailable', `${path} changes too fast to be read; try again.`);
}

export function loadRegister(path: string): Promise<RegisterValue | undefined> {
  return withPresent(path, async (name, version) => {
    const file = await open(name, 'r');
    try {
      const { size } = await file.stat();
      const value = await readBytes(file, 0, size);
      if (value.length !== size) {
        throw new StorageError('corrupt', `${name} is shorter than its length says.`);
      }
      return { value, version };
    } finally {
      await file.close();
    }
  });
}

/** Bytes of the register's present value. */
export function registerBytes(path: string): Promise<number | undefined> {
  return withPresent(path, async (name) => (await stat(name)).size);
}

/**
 * Makes a register that is not there: a directory with the first version in it is prepared aside
 * and renamed, which fails when the name holds a directory with anything in it.
 */
export async function createRegister(
  path: string,
  value: Uint8Array,
  home: RegisterHome,
): Promise<string | undefined> {
  if ((await findVersion(path)) !== undefined) return undefined;
  const version = { incarnation: home.nonce(), number: 1 };
  const temporary = home.temporaryPath();
  try {
    await mkdir(join(temporary, version.incarnation), { recursive: true, mode: directoryMode });
    await writeNewFile(versionPath(temporary, version), [value]);
    await syncDirectory(join(temporary, version.incarnation));
    await syncDirectory(temporary);
    if (!(await renameIntoPlace(temporary, path))) return undefined;
    await home.sync(dirname(path));
    return formatVersion(version);
  } finally {
    await removeTree(temporary);
  }
}

/** Renames, making the directory above where it is missing. False: the name is taken. */
export async function renameIntoPlace(from: string, to: string): Promise<boolean> {
  for (let tries = 1; ; tries += 1) {
    try {
      await rename(from, to);
      return true;
    } catch (error) {
      if (isErrno(error, 'ENOTEMPTY', 'EEXIST')) return false;
      // Another process may remove an empty directory just after it was made here.
      if (!isErrno(error, 'ENOENT') || tries === maxTries) throw error;
      await makeDirectory(dirname(to));
    }
  }
}

/** Replaces the present version if it is `expected`. */
export async function swapRegister(
  path: string,
  expected: string,
  value: Uint8Array,
  home: RegisterHome,
): Promise<string | undefined> {
  const before = parseVersion(expected);
  if (before === undefined) return undefined;
  const temporary = home.temporaryPath();
  try {
    await writeNewFile(temporary, [value]);
    // Without this look the swap would be as safe, but a process that slept while its file was
    // written would more often have to say "unknown" where "lost" is certain.
    const present = await findVersion(path);
    if (present === undefined || formatVersion(present) !== expected) return undefined;
    const after = { incarnation: before.incarnation, number: before.number + 1 };
    const directory = join(path, before.incarnation);
    const outcome = await claimNumber(directory, after.number, temporary);
    if (outcome === 'lost') return undefined;
    if (outcome === 'unknown') {
      throw new StorageError(
        'store-unavailable',
        `${basename(path)} was changed many times during one swap; load it to see the outcome.`,
      );
    }
    await home.sync(directory);
    await trim(directory);
    return formatVersion(after);
  } finally {
    await removeTree(temporary);
  }
}

/**
 * Links `temporary` as version `number` of the incarnation in `directory`. One of many who try the
 * same number wins, unless the number was used and trimmed long ago: then the link succeeds too.
 * It was not so for certain when the listing made afterwards still shows the predecessor and nothing
 * so high that `number` could have been trimmed.
 */
export async function claimNumber(
  directory: string,
  number: number,
  temporary: string,
): Promise<'won' | 'lost' | 'unknown'> {
  const name = join(directory, numberName(number));
  try {
    await link(temporary, name);
  } catch (error) {
    // NFS may repeat a call whose answer was lost: the name that is in the way is then our own.
    if (isErrno(error, 'EEXIST') && !(await isSameFile(temporary, name))) return 'lost';
    if (isErrno(error, 'ENOENT')) {
      // The register is gone, or our file is (cleaned away from a process that slept for hours).
      if (!(await exists(directory))) return 'lost';
      throw new StorageError('store-unavailable', `${temporary} is gone; the swap was not made.`);
    }
    if (!isErrno(error, 'EEXIST')) throw error;
  }
  try {
    const numbers = await readNumbers(directory);
    const highest = numbers.at(-1) ?? 0;
    if (highest < number + keptVersions && numbers.includes(number - 1)) return 'won';
    // Far below the highest, the file is either a stranger in a hole or old enough to be trimmed.
    if (highest >= number + keptVersions) await unlinkIfThere(name);
    return 'unknown';
  } catch (error) {
    // The whole register was removed in this moment, perhaps with our value in it.
    if (isErrno(error, 'ENOENT')) return 'unknown';
    throw error;
  }
}

/**
 * Removes old versions, the lowest first: while a number is there, no later one was trimmed. What
 * cannot be removed stays for the next swap, for this one has succeeded.
 */
async function trim(directory: string): Promise<void> {
  try {
    const numbers = await readNumbers(directory);
    const highest = numbers.at(-1) ?? 0;
    for (const number of numbers) {
      if (number > highest - keptVersions) return;
      await unlinkIfThere(join(directory, numberName(number)));
    }
  } catch {
    // Nothing was promised about old versions.
  }
}

async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}

async function isSameFile(a: string, b: string): Promise<boolean> {
  try {
    const [first, second] = await Promise.all([stat(a), stat(b)]);
    return first.ino === second.ino && first.dev === second.dev;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

/** Takes the register away in one step; what is left of it is removed aside. */
export async function removeRegister(path: string, home: RegisterHome): Promise<void> {
  const aside = home.temporaryPath();
  try {
    await rename(path, aside);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return;
    throw error;
  }
  await home.sync(dirname(path));
  await removeTree(aside);
}

/** Removes what nobody looks at any more; what resists is left to the next cleaning. */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true, maxRetries: 3, retryDelay: 10 });
  } catch {
    // It is out of everybody's way already.
  }
}
