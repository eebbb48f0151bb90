import type { ObjectStore } from '../base/object-store.ts';
import { cancelled, throwIfAborted } from './cancel.ts';
import { type Operation, wrapCalls } from './wrap-calls.ts';

/**
 * How many calls may be under way at once. Each kind has a queue of its own, so that a reader never
 * waits for uploads, and a lease is never lost because both stood in its way.
 */
export interface ConcurrencyLimits {
  /** `get`, `getStart` and `list`. */
  readonly reads: number;
  /** `put` and `delete`. */
  readonly writes: number;
  /** `load`, `swap` and `remove`. */
  readonly registers: number;
}

export const defaultConcurrencyLimits: ConcurrencyLimits = { reads: 32, writes: 16, registers: 8 };

const laneOf: Readonly<Record<Operation, keyof ConcurrencyLimits>> = {
  get: 'reads',
  getStart: 'reads',
  list: 'reads',
  put: 'writes',
  delete: 'writes',
  load: 'registers',
  swap: 'registers',
  remove: 'registers',
};

/** A store that makes callers wait, first come first served, while too many calls are under way. */
export function withConcurrencyLimit(store: ObjectStore, limits: ConcurrencyLimits): ObjectStore {
  const lanes = {
    reads: new Lane(limits.reads),
    writes: new Lane(limits.writes),
    registers: new Lane(limits.registers),
  };
  return wrapCalls(store, async (call) => {
    const lane = lanes[laneOf[call.operation]];
    throwIfAborted(call.signal);
    await lane.enter(call.signal);
    try {
      return await call.make();
    } finally {
      lane.leave();
    }
  });
}

class Lane {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(limit: number) {
    this.#free = limit;
  }

  enter(signal: AbortSignal | undefined): Promise<void> | undefined {
    if (this.#free > 0) {
      this.#free -= 1;
      return undefined;
    }
    return new Promise((resolve, reject) => {
      const proceed = (): void => {
        signal?.removeEventListener('abort', giveUp);
        resolve();
      };
      const giveUp = (): void => {
        this.#waiting.delete(proceed);
        if (signal !== undefined) reject(cancelled(signal));
      };
      this.#waiting.add(proceed);
      signal?.addEventListener('abort', giveUp, { once: true });
    });
  }

  /** Hands the place to the one who has waited longest. */
  leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free += 1;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
