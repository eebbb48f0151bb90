import type { Clock } from '../base/clock.ts';
import { type ErrorCode, toStorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { type DurationCounts, DurationHistogram } from '../base/histogram.ts';
import { type Operation, wrapCalls } from './wrap-calls.ts';

/** What one kind of call did since the store was opened. A repetition counts as a call of its own. */
export interface OperationMetrics {
  /** Calls that have ended. */
  readonly requests: number;
  /** Failed calls by code; `not-found` is among them. */
  readonly errors: Readonly<Partial<Record<ErrorCode, number>>>;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly latency: DurationCounts;
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
  readonly latency: DurationHistogram;
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
      count.requests += 1;
      count.latency.add(clock.monotonicMs() - startMs);
    }
  });
  return {
    ...measured,
    snapshot: () => ({
      inFlight,
      operations: mapOperations(counters),
    }),
  };
}

function noCounts(): Counters {
  return {
    requests: 0,
    errors: {},
    sentBytes: 0,
    receivedBytes: 0,
    latency: new DurationHistogram(),
  };
}

function mapOperations(
  counters: Readonly<Record<Operation, Counters>>,
): StoreMetrics['operations'] {
  const read = Object.entries(counters).map(([operation, count]) => {
    const { latency, errors, ...others } = count;
    return [operation, { ...others, errors: { ...errors }, latency: latency.read() }] as const;
  });
  return Object.fromEntries(read) as Record<Operation, OperationMetrics>;
}
