import { type Clock, sleep } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';

/** Holds work in the background back to a rate, and ends it when it is to stop. */
export class Pacer {
  private readonly clock: Clock;
  private readonly bytesPerSecond: () => number;
  private readonly stopping = new AbortController();
  /** When the next byte may be moved. */
  private freeMs = 0;

  /** The rate is asked for with each piece of work. */
  constructor(clock: Clock, bytesPerSecond: () => number) {
    this.clock = clock;
    this.bytesPerSecond = bytesPerSecond;
  }

  get isStopped(): boolean {
    return this.stopping.signal.aborted;
  }

  /** Waits for the turn of so many bytes; fails when the work is to end. */
  async pace(bytes: number): Promise<void> {
    const nowMs = this.clock.monotonicMs();
    const startMs = Math.max(this.freeMs, nowMs);
    this.freeMs = startMs + (bytes / this.bytesPerSecond()) * 1000;
    if (startMs > nowMs) await sleep(this.clock, startMs - nowMs, this.stopping.signal);
    this.requireGoing();
  }

  requireGoing(): void {
    if (this.isStopped)
      throw new StorageError('shutting-down', 'Work in the background was stopped.');
  }

  stop(): void {
    this.stopping.abort();
  }
}
