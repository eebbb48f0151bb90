import type { Clock } from '../../base/clock.ts';

/** A clock that stands still until a test moves it. */
export class ManualClock implements Clock {
  private nowMs = 0;
  private readonly timers = new Set<{ readonly atMs: number; readonly action: () => void }>();

  monotonicMs(): number {
    return this.nowMs;
  }

  wallMs(): number {
    return this.nowMs;
  }

  after(delayMs: number, action: () => void): () => void {
    const timer = { atMs: this.nowMs + delayMs, action };
    this.timers.add(timer);
    return () => this.timers.delete(timer);
  }

  soon(action: () => void): void {
    setImmediate(action);
  }

  advance(byMs: number): void {
    this.nowMs += byMs;
    for (const timer of [...this.timers]) {
      if (timer.atMs > this.nowMs || !this.timers.delete(timer)) continue;
      timer.action();
    }
  }

  /** Timers that are still set. */
  get pending(): number {
    return this.timers.size;
  }
}
