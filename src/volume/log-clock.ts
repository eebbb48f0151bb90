import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';

/** How far ahead of the wall clock these times may be before that is worth a line in the log. */
const worthTellingMs = 1000;

/**
 * The times in a volume's log: those of the wall clock as long as it goes forward. When it was set
 * back, the log's times go on from where they were, half as fast, until it has caught up: the log's
 * times never go back, and tell one write from another all the while.
 */
export class LogClock {
  private readonly clock: Clock;
  private readonly log: Log;
  private lastMs: number;
  private lastMonotonicMs: number;
  private isAhead = false;

  /** `lastMs`: the last time that the log has. */
  constructor(clock: Clock, log: Log, lastMs: number) {
    this.clock = clock;
    this.log = log;
    this.lastMs = lastMs;
    this.lastMonotonicMs = clock.monotonicMs();
  }

  /** Whole milliseconds since 1970. */
  nowMs(): number {
    const wallMs = this.clock.wallMs();
    const monotonicMs = this.clock.monotonicMs();
    const atLeastMs = this.lastMs + (monotonicMs - this.lastMonotonicMs) / 2;
    this.lastMonotonicMs = monotonicMs;
    this.lastMs = Math.max(wallMs, atLeastMs);
    this.tell(this.lastMs - wallMs);
    return Math.floor(this.lastMs);
  }

  private tell(aheadMs: number): void {
    if (aheadMs > worthTellingMs && !this.isAhead) {
      this.log.warn(
        'the clock was set back: times in the volume’s log are ahead of it for a while',
        {
          aheadMs: Math.round(aheadMs),
        },
      );
      this.isAhead = true;
    } else if (aheadMs === 0) {
      this.isAhead = false;
    }
  }
}
