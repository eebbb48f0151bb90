import type { Done } from '../base/block-device.ts';
import type { Clock } from '../base/clock.ts';
import type { StorageError } from '../base/errors.ts';

/** A moment on both clocks: a machine that was suspended sees it on the second alone. */
interface Moment {
  readonly monotonicMs: number;
  readonly wallMs: number;
}

/**
 * What must be known before a request is answered: `ours`, that nobody else can have the volume;
 * `unheard`, that, or that the store has been asked ever since that was so, and did not answer.
 */
export type Certainty = 'ours' | 'unheard';

interface Waiter {
  readonly certainty: Certainty;
  readonly patient: boolean;
  readonly sinceMs: number;
  readonly resolve: () => void;
  readonly reject: (error: StorageError) => void;
}

/**
 * The share of the lease for which its holder counts on it. Others wait for all of it: the rest is
 * for clocks that run differently fast.
 */
const ownShare = 0.9;
const longAgo: Moment = { monotonicMs: Number.NEGATIVE_INFINITY, wallMs: Number.NEGATIVE_INFINITY };

/**
 * How long a writer may go on answering without hearing from the store. Another takes the volume only
 * after it has seen the lease unchanged for all its time, so until then nobody else has written, and
 * what is read here is what there is. All is counted from when the store was asked, not from its
 * answer: a process that was stopped in between finds its lease run out when it wakes.
 */
export class Lease {
  private readonly clock: Clock;
  private readonly lengthMs: number;
  private readonly ask: () => void;
  private renewedAt = longAgo;
  private heardAt = longAgo;
  private waiters: Waiter[] = [];
  private ended: StorageError | undefined;

  /** `ask` has the store asked anew, for as long as this is awaited, and this told what came of it. */
  constructor(clock: Clock, leaseMs: number, ask: () => void) {
    this.clock = clock;
    this.lengthMs = leaseMs * ownShare;
    this.ask = ask;
  }

  now(): Moment {
    return { monotonicMs: this.clock.monotonicMs(), wallMs: this.clock.wallMs() };
  }

  /** For how long nobody else can have the volume. */
  get remainingMs(): number {
    return Math.max(0, this.renewedAt.monotonicMs + this.lengthMs - this.clock.monotonicMs());
  }

  get isAwaited(): boolean {
    return this.waiters.length > 0;
  }

  /**
   * Done at once while that much is certain; else when it is, having asked. Rejects when the volume
   * is another's, or, for who is not patient, when the store was asked and did not answer.
   */
  certain(certainty: Certainty, patient: boolean): Done {
    if (this.holds(certainty, this.clock.monotonicMs(), this.clock.wallMs())) return undefined;
    if (this.ended !== undefined) return Promise.reject(this.ended);
    const sinceMs = this.clock.monotonicMs();
    return new Promise((resolve, reject) => {
      this.waiters.push({ certainty, patient, sinceMs, resolve, reject });
      this.ask();
    });
  }

  private holds(certainty: Certainty, monotonicMs: number, wallMs: number): boolean {
    const since = certainty === 'ours' ? this.renewedAt : this.heardAt;
    const { lengthMs } = this;
    return monotonicMs - since.monotonicMs < lengthMs && wallMs - since.wallMs < lengthMs;
  }

  /** The store has taken a change of the lease that it was asked for at `asked`. */
  renewed(asked: Moment): void {
    this.renewedAt = asked;
    this.heardAt = asked;
    this.settle(undefined);
  }

  /**
   * The store was asked at `asked` and has not answered. Who has slept past the lease before that
   * gains nothing by it: another may have the volume, and the store must say so or deny it.
   */
  unanswered(asked: Moment, error: StorageError): void {
    if (this.holds('unheard', asked.monotonicMs, asked.wallMs)) this.heardAt = asked;
    this.settle({ sinceMs: asked.monotonicMs, error });
  }

  /** Answers those who wait, as far as what they wait for is known by now. */
  private settle(failed: { readonly sinceMs: number; readonly error: StorageError } | undefined) {
    const now = this.now();
    const waiting = this.waiters;
    this.waiters = [];
    for (const waiter of waiting) {
      if (this.holds(waiter.certainty, now.monotonicMs, now.wallMs)) waiter.resolve();
      // One that came later than the question has the next one to hope for.
      else if (failed === undefined || waiter.patient || waiter.sinceMs > failed.sinceMs)
        this.waiters.push(waiter);
      else waiter.reject(failed.error);
    }
  }

  /** The volume is another's, or is given up. */
  end(error: StorageError): void {
    this.ended ??= error;
    this.renewedAt = longAgo;
    this.heardAt = longAgo;
    for (const waiter of this.waiters.splice(0)) waiter.reject(error);
  }
}
