/**
 * What the world can do wrong, as codes that do not change. The code says what happened; the table
 * says what a caller may do about it, what an NBD client is told and how a command exits.
 */
export type ErrorCode =
  | 'usage' // a wrong argument or configuration
  | 'not-found'
  | 'already-exists'
  | 'conflict' // a compare-and-swap lost
  | 'held' // another host holds the volume
  | 'in-use' // clones read what was to be deleted
  | 'lost-ownership' // another host took the volume from us
  | 'read-only'
  | 'out-of-range' // past the end of the device
  | 'unsupported'
  | 'no-space' // the local disk is full
  | 'wrong-key'
  | 'corrupt' // bytes that fail their checksum, or an object that is missing
  | 'store-unavailable' // the object store does not answer, or answers with an error
  | 'store-denied' // the object store refuses us: credentials, permissions
  | 'denied' // a client may not do this, whoever it is
  | 'local-io' // the local disk fails
  | 'shutting-down'
  | 'internal';

/** `retry`: the same call may succeed later. `fatal`: it will not. `corrupt`: data is damaged. */
export type ErrorClass = 'retry' | 'fatal' | 'corrupt';

interface ErrorTraits {
  readonly class: ErrorClass;
  /** Name of the error that an NBD client gets (NBD protocol document, "Error values"). */
  readonly nbd:
    | 'EPERM'
    | 'EIO'
    | 'ENOMEM'
    | 'EINVAL'
    | 'ENOSPC'
    | 'EOVERFLOW'
    | 'ENOTSUP'
    | 'ESHUTDOWN';
  /** Exit status of a command that ends with this error. */
  readonly exitStatus: number;
}

export const errorTraits: Readonly<Record<ErrorCode, ErrorTraits>> = {
  usage: { class: 'fatal', nbd: 'EINVAL', exitStatus: 2 },
  'not-found': { class: 'fatal', nbd: 'EIO', exitStatus: 10 },
  'already-exists': { class: 'fatal', nbd: 'EINVAL', exitStatus: 1 },
  conflict: { class: 'retry', nbd: 'EIO', exitStatus: 1 },
  held: { class: 'fatal', nbd: 'EPERM', exitStatus: 11 },
  'in-use': { class: 'fatal', nbd: 'EPERM', exitStatus: 1 },
  'lost-ownership': { class: 'fatal', nbd: 'ESHUTDOWN', exitStatus: 11 },
  'read-only': { class: 'fatal', nbd: 'EPERM', exitStatus: 1 },
  'out-of-range': { class: 'fatal', nbd: 'EINVAL', exitStatus: 2 },
  unsupported: { class: 'fatal', nbd: 'ENOTSUP', exitStatus: 1 },
  'no-space': { class: 'retry', nbd: 'ENOSPC', exitStatus: 1 },
  'wrong-key': { class: 'fatal', nbd: 'EPERM', exitStatus: 12 },
  corrupt: { class: 'corrupt', nbd: 'EIO', exitStatus: 13 },
  'store-unavailable': { class: 'retry', nbd: 'EIO', exitStatus: 1 },
  'store-denied': { class: 'fatal', nbd: 'EIO', exitStatus: 1 },
  denied: { class: 'fatal', nbd: 'EPERM', exitStatus: 1 },
  'local-io': { class: 'fatal', nbd: 'EIO', exitStatus: 1 },
  'shutting-down': { class: 'fatal', nbd: 'ESHUTDOWN', exitStatus: 1 },
  internal: { class: 'fatal', nbd: 'EIO', exitStatus: 1 },
};

/**
 * An error of the world. `message` is one sentence for a person that says what happened and, where
 * there is something to do, what to do. It never holds a secret.
 */
export class StorageError extends Error {
  override readonly name = 'StorageError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }

  get class(): ErrorClass {
    return errorTraits[this.code].class;
  }
}

export function isStorageError(error: unknown, code?: ErrorCode): error is StorageError {
  return error instanceof StorageError && (code === undefined || error.code === code);
}

/** The error as a `StorageError`; what is not one already becomes `internal` with its cause kept. */
export function toStorageError(error: unknown): StorageError {
  if (error instanceof StorageError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new StorageError('internal', message, { cause: error });
}
