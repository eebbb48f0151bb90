import type { Clock } from '../../base/clock.ts';

/** A clock for tests on which every wait is over at once, and remembered. */
export class HastyClock implements Clock {
  readonly waitsMs: number[] = [];
  #nowMs = 0;

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, action: () => void): () => void {
    let cancelled = false;
    queueMicrotask(() => {
      if (cancelled) return;
      this.#nowMs += delayMs;
      this.waitsMs.push(delayMs);
      action();
    });
    return () => {
      cancelled = true;
    };
  }

  soon(action: () => void): void {
    queueMicrotask(action);
  }
}
