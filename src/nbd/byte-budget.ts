import { assert } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';

/** Bytes that all connections together may hold; who finds none left waits for a call. */
export class ByteBudget {
  private readonly clock: Clock;
  private readonly limitBytes: number;
  private held = 0;
  private readonly waiters = new Set<() => void>();
  private waking = false;

  constructor(clock: Clock, limitBytes: number) {
    this.clock = clock;
    this.limitBytes = limitBytes;
  }

  get heldBytes(): number {
    return this.held;
  }

  /** With nothing held, anything fits: a request larger than the limit must not wait for ever. */
  fits(bytes: number): boolean {
    return this.held + bytes <= this.limitBytes || this.held === 0;
  }

  hold(bytes: number): void {
    this.held += bytes;
  }

  release(bytes: number): void {
    this.held -= bytes;
    assert(this.held >= 0, 'more bytes were released than held');
    if (this.waiters.size > 0 && bytes > 0) this.wakeSoon();
  }

  /** Calls `retry` once, after something was released. */
  wait(retry: () => void): void {
    this.waiters.add(retry);
  }

  forget(retry: () => void): void {
    this.waiters.delete(retry);
  }

  private wakeSoon(): void {
    if (this.waking) return;
    this.waking = true;
    this.clock.soon(() => {
      this.waking = false;
      const retries = [...this.waiters];
      this.waiters.clear();
      for (const retry of retries) retry();
    });
  }
}
