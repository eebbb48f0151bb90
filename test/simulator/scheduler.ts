import type { Clock } from '../../src/base/clock.ts';

interface Event {
  readonly atMs: number;
  readonly order: number;
  action: (() => void) | undefined;
}

/** Turns asked of the machine's event loop at once: one at a time would cost ten times as much. */
const turnsAhead = 64;
const startMs = 1_000_000;

/**
 * Time and order of everything in a simulated world. Between two events the machine does all that
 * follows from the first and needs no time (its microtasks), so the order of all is that of the
 * queue: by time, then by when it was asked for.
 */
export class Scheduler implements Clock {
  private nowMs = startMs;
  private readonly queue: Event[] = [];
  private asked = 0;
  private failure: Error | undefined;
  /** Events that have happened. */
  happened = 0;
  /** Called before each event; may end the world. */
  onEvent: () => void = () => undefined;

  get elapsedMs(): number {
    return this.nowMs - startMs;
  }

  monotonicMs(): number {
    return this.nowMs;
  }

  wallMs(): number {
    return 1_790_000_000_000 + this.nowMs;
  }

  after(delayMs: number, action: () => void): () => void {
    this.asked += 1;
    const event: Event = { atMs: this.nowMs + Math.max(0, delayMs), order: this.asked, action };
    this.push(event);
    return () => {
      event.action = undefined;
    };
  }

  soon(action: () => void): void {
    this.after(0, action);
  }

  /** Ends the run with what went wrong. */
  fail(error: unknown): void {
    this.failure ??= asError(error);
  }

  /** Lets events happen until `isDone`; fails when nothing more would. */
  run(isDone: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      let left = 0;
      let ended = false;
      const ask = (): void => {
        left = turnsAhead;
        for (let turn = 0; turn < turnsAhead; turn += 1) setImmediate(next);
      };
      const next = (): void => {
        if (ended) return;
        left -= 1;
        try {
          if (this.failure !== undefined) throw this.failure;
          if (isDone()) {
            ended = true;
            resolve();
            return;
          }
          this.step();
        } catch (error) {
          ended = true;
          reject(asError(error));
          return;
        }
        if (left === 0) ask();
      };
      ask();
    });
  }

  private step(): void {
    for (;;) {
      const event = this.pop();
      if (event === undefined) throw new Error('nothing is left to happen, and not all is done');
      if (event.action === undefined) continue;
      this.nowMs = Math.max(this.nowMs, event.atMs);
      this.happened += 1;
      this.onEvent();
      // What came before may have ended whoever waited for this.
      event.action?.();
      return;
    }
  }

  private push(event: Event): void {
    const { queue } = this;
    let at = queue.length;
    queue.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = queue[parent] as Event;
      if (!isBefore(event, above)) break;
      queue[at] = above;
      at = parent;
    }
    queue[at] = event;
  }

  private pop(): Event | undefined {
    const { queue } = this;
    const first = queue[0];
    const last = queue.pop();
    if (queue.length === 0 || last === undefined) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= queue.length) break;
      if (child + 1 < queue.length && isBefore(queue[child + 1] as Event, queue[child] as Event)) {
        child += 1;
      }
      const below = queue[child] as Event;
      if (!isBefore(below, last)) break;
      queue[at] = below;
      at = child;
    }
    queue[at] = last;
    return first;
  }
}

export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

function isBefore(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
