import type { Clock } from '../../src/base/clock.ts';

interface Timer {
  readonly atMs: number;
  readonly action: () => void;
}

/** A clock that moves only when it is told to. Work that needs no time goes on by itself. */
export class VirtualClock implements Clock {
  private nowMs = 1_000_000;
  private readonly timers = new Set<Timer>();

  monotonicMs(): number {
    return this.nowMs;
  }

  wallMs(): number {
    return 1_790_000_000_000 + this.nowMs;
  }

  after(delayMs: number, action: () => void): () => void {
    const timer = { atMs: this.nowMs + delayMs, action };
    this.timers.add(timer);
    return () => this.timers.delete(timer);
  }

  soon(action: () => void): void {
    setImmediate(action);
  }

  /** Time passes and nothing happens: a process that is stopped, or its machine suspended. */
  jump(durationMs: number): void {
    this.nowMs += durationMs;
  }

  /** Lets `durationMs` pass, timer by timer, each with all that follows from it. */
  async advance(durationMs: number): Promise<void> {
    const endMs = this.nowMs + durationMs;
    for (;;) {
      await settle();
      const due = [...this.timers].filter((timer) => timer.atMs <= endMs);
      const next = due.sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined) break;
      this.timers.delete(next);
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.action();
    }
    this.nowMs = endMs;
  }
}

/** Resolves when everything that needs no time has happened. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn += 1) {
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
}
