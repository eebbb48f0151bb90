import { isStorageError, StorageError, toStorageError } from '../base/errors.ts';

/** Names the object in what went wrong with it; an object that is missing is damage. */
export function aboutObject(error: unknown, key: string): StorageError {
  const known = toStorageError(error);
  if (known.code !== 'corrupt' && known.code !== 'not-found') return known;
  return new StorageError('corrupt', `Object ${key} is damaged: ${known.message}`, {
    cause: error,
  });
}

/** Whether it is said of an object, by `aboutObject` too, that it is not there. */
export function isMissingObject(error: unknown): boolean {
  if (isStorageError(error, 'not-found')) return true;
  return isStorageError(error, 'corrupt') && isStorageError(error.cause, 'not-found');
}
