import type { Clock } from '../base/clock.ts';
import { type ErrorCode, toStorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { type Operation, wrapCalls } from './wrap-calls.ts';

/** Upper bounds of the buckets of `latencyCounts`; the last bucket has none. */
export const latencyBoundsMs = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];

/** What one kind of call did since the store was opened. A repetition counts as a call of its own. */
export interface OperationMetrics {
  /** Calls that have ended. */
  readonly requests: number;
  /** Failed calls by code; `not-found` is among them. */
  readonly errors: Readonly<Partial<Record<ErrorCode, number>>>;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly latencyTotalMs: number;
  readonly latencyMaxMs: number;
  /** Calls by how long they took: one more number than `latencyBoundsMs` has. */
  readonly latencyCounts: readonly number[];
}

export interface StoreMetrics {
  readonly inFlight: number;
  readonly operations: Readonly<Record<Operation, OperationMetrics>>;
}

export interface MeasuredStore extends ObjectStore {
  snapshot(): StoreMetrics;
}

interface Counters {
  requests: number;
  errors: Partial<Record<ErrorCode, number>>;
  sentBytes: number;
  receivedBytes: number;
  latencyTotalMs: number;
  latencyMaxMs: number;
  latencyCounts: number[];
}

/** Counts and times the calls of a store. */
export function withMetrics(store: ObjectStore, { clock }: { clock: Clock }): MeasuredStore {
  const counters: Record<Operation, Counters> = {
    put: noCounts(),
    get: noCounts(),
    getStart: noCounts(),
    list: noCounts(),
    delete: noCounts(),
    load: noCounts(),
    swap: noCounts(),
    remove: noCounts(),
  };
  let inFlight = 0;

  const measured = wrapCalls(store, async (call) => {
    const count = counters[call.operation];
    const startMs = clock.monotonicMs();
    inFlight += 1;
    count.sentBytes += call.sentBytes;
    try {
      const result = await call.make();
      count.receivedBytes += call.receivedBytes(result);
      return result;
    } catch (error) {
      const { code } = toStorageError(error);
      count.errors[code] = (count.errors[code] ?? 0) + 1;
      throw error;
    } finally {
      inFlight -= 1;
      addLatency(count, clock.monotonicMs() - startMs);
    }
  });
  return {
    ...measured,
    snapshot: () => ({
      inFlight,
      operations: structuredClone(counters),
    }),
  };
}

function noCounts(): Counters {
  return {
    requests: 0,
    errors: {},
    sentBytes: 0,
    receivedBytes: 0,
    latencyTotalMs: 0,
    latencyMaxMs: 0,
    latencyCounts: new Array<number>(latencyBoundsMs.length + 1).fill(0),
  };
}

function addLatency(count: Counters, latencyMs: number): void {
  count.requests += 1;
  count.latencyTotalMs += latencyMs;
  count.latencyMaxMs = Math.max(count.latencyMaxMs, latencyMs);
  const found = latencyBoundsMs.findIndex((boundMs) => latencyMs <= boundMs);
  const bucket = found === -1 ? latencyBoundsMs.length : found;
  count.latencyCounts[bucket] = (count.latencyCounts[bucket] ?? 0) + 1;
}
