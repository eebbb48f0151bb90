import type { Clock } from '../../src/base/clock.ts';
import { asError, type Scheduler } from './scheduler.ts';

/**
 * One life of a daemon: what waits for time or for I/O in it. When it is killed, nothing of it ever
 * goes on; while it sleeps (SIGSTOP, a paused machine), what would wake it piles up.
 */
export class Life {
  readonly scheduler: Scheduler;
  readonly clock: Clock;
  isAlive = true;
  /** Files that it has open. */
  openFiles = 0;
  isAsleep = false;
  /** Another host was let take the volume: what this one promises on its disk is void. */
  isContested = false;
  private readonly missed: (() => void)[] = [];
  /** How far its wall clock is from the true time. */
  skewMs: number;

  constructor(scheduler: Scheduler, skewMs: number) {
    this.scheduler = scheduler;
    this.skewMs = skewMs;
    this.clock = {
      monotonicMs: () => scheduler.monotonicMs(),
      wallMs: () => scheduler.wallMs() + this.skewMs,
      after: (delayMs, action) => scheduler.after(delayMs, () => this.deliver(action)),
      soon: (action) => scheduler.soon(() => this.deliver(action)),
    };
  }

  /** Lets something happen to this life: at once, when it wakes, or never. */
  deliver(action: () => void): void {
    if (!this.isAlive) return;
    if (this.isAsleep) this.missed.push(action);
    else action();
  }

  kill(): void {
    this.isAlive = false;
    this.missed.length = 0;
  }

  sleep(): void {
    this.isAsleep = true;
  }

  wake(): void {
    this.isAsleep = false;
    // One after the other, each with what follows from it, as an event loop would.
    for (const action of this.missed.splice(0)) this.clock.soon(action);
  }

  /** When the process can hear its clients: at once, when it wakes, or never. */
  awake(): Promise<void> | undefined {
    if (this.isAlive && !this.isAsleep) return undefined;
    return new Promise((resolve) => this.deliver(resolve));
  }

  /** Hands a result of the world outside over to this life. */
  receive<T>(outside: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      outside.then(
        (value) => this.deliver(() => resolve(value)),
        (error: unknown) => this.deliver(() => reject(asError(error))),
      );
    });
  }

  /**
   * An operation of the machine that takes time: `perform` happens in the middle of it, and what it
   * gives is called when it ends. Both happen whether the process still lives or not.
   */
  operation<T>(beforeMs: number, afterMs: number, perform: () => () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = (action: () => T): void => {
        try {
          const result = action();
          this.deliver(() => resolve(result));
        } catch (error) {
          this.deliver(() => reject(asError(error)));
        }
      };
      this.scheduler.after(beforeMs, () => {
        try {
          const complete = perform();
          this.scheduler.after(afterMs, () => settle(complete));
        } catch (error) {
          this.deliver(() => reject(asError(error)));
        }
      });
    });
  }
}
