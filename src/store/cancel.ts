import { StorageError } from '../base/errors.ts';

/** Throws when the caller has given up on the call already. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw cancelled(signal);
}

/** The error of a call that its caller gave up on. Nothing retries it: the signal stays aborted. */
export function cancelled(signal: AbortSignal): StorageError {
  return new StorageError('store-unavailable', 'The call to the store was cancelled.', {
    cause: signal.reason,
  });
}
