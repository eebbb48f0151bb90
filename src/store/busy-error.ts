import { StorageError } from '../base/errors.ts';

/** A store that asks for patience: `withRetry` waits at least as long before it tries again. */
export class BusyError extends StorageError {
  readonly retryAfterMs: number;

  constructor(message: string, retryAfterMs: number, options?: { cause?: unknown }) {
    super('store-unavailable', message, options);
    this.retryAfterMs = retryAfterMs;
  }
}
