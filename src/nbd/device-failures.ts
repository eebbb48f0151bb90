import { AssertionError } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import { errorTraits, toStorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Refusal } from './validate.ts';

/**
 * A store that is down fails thousands of requests a second: of each thing that is said the log gets
 * one line a second, and not too many of different ones.
 */
const logIntervalMs = 1_000;
const linesPerInterval = 16;

/** Turns what a device failed with into what the client is told, and tells the operator. */
export class DeviceFailures {
  private readonly log: Log;
  private readonly clock: Clock;
  private intervalBeganMs = Number.NEGATIVE_INFINITY;
  private readonly logged = new Set<string>();
  private unlogged = 0;

  constructor(log: Log, clock: Clock) {
    this.log = log;
    this.clock = clock;
  }

  /** Our own mistakes end the process instead. */
  refusalOf(error: unknown, mayBeUnsupported = false): Refusal {
    if (error instanceof AssertionError) throw error;
    const { code, message } = toStorageError(error);
    this.note(code, message);
    const { nbd } = errorTraits[code];
    return {
      // The document has ENOTSUP for fast zeroing only.
      error: nbd === 'ENOTSUP' && !mayBeUnsupported ? 'EINVAL' : nbd,
      message: code === 'internal' ? 'internal error: see the log of the server' : message,
    };
  }

  private note(code: string, message: string): void {
    const nowMs = this.clock.monotonicMs();
    if (nowMs - this.intervalBeganMs >= logIntervalMs) {
      this.intervalBeganMs = nowMs;
      this.logged.clear();
    }
    if (this.logged.has(message) || this.logged.size === linesPerInterval) {
      this.unlogged += 1;
      return;
    }
    this.logged.add(message);
    this.log.warn('request failed', { code, error: message, unlogged: this.unlogged });
    this.unlogged = 0;
  }
}
