import { type Clock, sleep } from '../base/clock.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Random } from '../base/random.ts';
import { BusyError } from './busy-error.ts';
import { throwIfAborted } from './cancel.ts';
import { settleSwap } from './settle-swap.ts';
import { wrapCalls } from './wrap-calls.ts';

export interface RetryOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** The longest wait before the first repetition; it doubles with each one. */
  readonly baseDelayMs?: number;
  readonly maxDelayMs?: number;
  /** No repetition begins later than this after the call began. */
  readonly deadlineMs?: number;
  /** Told of each repetition before the wait. */
  readonly onRetry?: (error: StorageError, delayMs: number) => void;
}

const defaultBaseDelayMs = 50;
const defaultMaxDelayMs = 5_000;
const defaultDeadlineMs = 60_000;

/**
 * A store that repeats what failed for a reason that may pass (class `retry`), after a random wait.
 * A swap is repeated only when reading back shows that it was not made, and a refusal after an
 * unknown outcome is not taken for a loss: it may be our own first attempt that was in the way.
 */
export function withRetry(store: ObjectStore, options: RetryOptions): ObjectStore {
  const retrying = wrapCalls(store, (call) => repeat(options, call.signal, call.make));
  return {
    ...retrying,
    swap(key, expected, value, callOptions) {
      let unknown = false;
      const attempt = async (): Promise<string | undefined> => {
        const settle = () => settleSwap(store, key, expected, value, callOptions);
        try {
          const version = await store.swap(key, expected, value, callOptions);
          if (version !== undefined || !unknown) return version;
        } catch (error) {
          if (!mayPass(error)) throw error;
          unknown = true;
          const outcome = await settle();
          if (outcome.kind === 'applied') return outcome.version;
          if (outcome.kind === 'other') throw new UndecidedError(key, error);
          throw error;
        }
        const outcome = await settle();
        if (outcome.kind === 'applied') return outcome.version;
        throw new UndecidedError(key);
      };
      return repeat(options, callOptions?.signal, attempt);
    },
  };
}

/** A swap that was made or not: somebody else's value is there now. A repetition changes nothing. */
class UndecidedError extends StorageError {
  constructor(key: string, cause?: unknown) {
    const message = `Whether ${key} was changed cannot be known, for another has changed it since.`;
    super('store-unavailable', message, { cause });
  }
}

function mayPass(error: unknown): error is StorageError {
  return isStorageError(error) && error.class === 'retry' && !(error instanceof UndecidedError);
}

async function repeat<T>(
  options: RetryOptions,
  signal: AbortSignal | undefined,
  action: () => Promise<T>,
): Promise<T> {
  const { clock, deadlineMs = defaultDeadlineMs } = options;
  const lastMs = clock.monotonicMs() + deadlineMs;
  for (let failures = 0; ; failures += 1) {
    try {
      return await action();
    } catch (error) {
      if (!mayPass(error) || signal?.aborted) throw error;
      const delayMs = chooseDelayMs(options, failures, error);
      if (clock.monotonicMs() + delayMs > lastMs) throw error;
      options.onRetry?.(error, delayMs);
      throwIfAborted(signal);
      await sleep(clock, delayMs, signal);
      throwIfAborted(signal);
    }
  }
}

/** Anything up to a bound that doubles: what failed together does not come back together. */
function chooseDelayMs(options: RetryOptions, failures: number, error: StorageError): number {
  const { random, baseDelayMs = defaultBaseDelayMs, maxDelayMs = defaultMaxDelayMs } = options;
  const delayMs = random.fraction() * Math.min(maxDelayMs, baseDelayMs * 2 ** failures);
  return error instanceof BusyError ? error.retryAfterMs + delayMs : delayMs;
}
