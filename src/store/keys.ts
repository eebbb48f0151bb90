import { StorageError } from '../base/errors.ts';

/**
 * What a key may look like, in every driver alike: parts of `[A-Za-z0-9._-]` between slashes. The
 * rule keeps a key from leaving its store (`..`), from meaning something to a URL or a shell, and
 * from colliding with what the directory driver keeps for itself (`.tmp`, names with an `@`).
 */
const keyPattern = /^[A-Za-z0-9._-]+(?:\/[A-Za-z0-9._-]+)*$/;
const prefixPattern = /^[A-Za-z0-9._/-]*$/;

/** Shorter than what S3 (1,024 bytes with the store's prefix) and PATH_MAX allow. */
export const keyMaxBytes = 512;
/** Shorter than a file name may be (255 bytes), with room for the suffix of a register. */
export const keyPartMaxBytes = 200;
/** The first part that no key may have. */
export const reservedPart = '.tmp';

function isBadPart(part: string): boolean {
  return part === '.' || part === '..' || part.length > keyPartMaxBytes;
}

/** Throws a `StorageError` of code `usage` unless `key` is one. */
export function checkKey(key: string): void {
  const good =
    key.length <= keyMaxBytes &&
    keyPattern.test(key) &&
    key !== reservedPart &&
    !key.startsWith(`${reservedPart}/`) &&
    !key.split('/').some(isBadPart);
  if (!good) {
    throw new StorageError('usage', `${JSON.stringify(key)} cannot be the key of an object.`);
  }
}

/** Throws a `StorageError` of code `usage` unless `prefix` can begin a key (or is empty). */
export function checkPrefix(prefix: string): void {
  const parts = prefix.split('/');
  const last = parts.pop() ?? '';
  const good =
    prefix.length <= keyMaxBytes &&
    prefixPattern.test(prefix) &&
    last.length <= keyPartMaxBytes &&
    !parts.some((part) => part === '' || isBadPart(part));
  if (!good) {
    throw new StorageError('usage', `${JSON.stringify(prefix)} cannot begin the key of an object.`);
  }
}
