import { type Clock, sleep } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Random } from '../base/random.ts';
import { BusyError } from './busy-error.ts';
import { type Operation, wrapCalls } from './wrap-calls.ts';

/**
 * What goes wrong and how often: rates are between 0 (never, the default) and 1 (always). The plan is
 * read at every call, so its owner may change it while the store is in use.
 */
export interface FaultPlan {
  /** The call fails and does nothing. */
  errorBefore?: number;
  /** The call does its work, and then its answer is lost. */
  errorAfter?: number;
  /** The call fails, and does its work up to `maxLateMs` after that: a request that was on its way. */
  late?: number;
  maxLateMs?: number;
  /** The call does nothing, and asks for patience. */
  busy?: number;
  /** The call does nothing, and is refused as one without permission would be. */
  denied?: number;
  /** The call takes up to `maxDelayMs` longer, half of it before and half after its work. */
  delay?: number;
  maxDelayMs?: number;
  /** `get` and `getStart` give fewer bytes than there are, as no good driver does. */
  truncate?: number;
  /** `get` and `getStart` give bytes with one bit changed. */
  flip?: number;
  /** Only these calls are harmed; all when not given. */
  only?: (operation: Operation, key: string) => boolean;
}

export interface FaultOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly plan: FaultPlan;
}

/** A store that fails as real ones do, at random but the same way for the same seed. For tests. */
export function withFaults(store: ObjectStore, options: FaultOptions): ObjectStore {
  const { clock, random, plan } = options;
  const happens = (rate: number | undefined): boolean =>
    rate !== undefined && rate > 0 && random.fraction() < rate;
  const harmed = (operation: Operation, key: string): boolean =>
    plan.only === undefined || plan.only(operation, key);
  const damage = (operation: Operation, key: string, bytes: Uint8Array): Uint8Array => {
    if (!harmed(operation, key) || bytes.length === 0) return bytes;
    if (happens(plan.truncate)) return bytes.slice(0, pick(random, bytes.length));
    if (!happens(plan.flip)) return bytes;
    const flipped = bytes.slice();
    const index = pick(random, bytes.length);
    flipped[index] = (flipped[index] ?? 0) ^ (1 << pick(random, 8));
    return flipped;
  };

  const failing = wrapCalls(store, async ({ operation, key, make }) => {
    if (!harmed(operation, key)) return make();
    const delayMs = happens(plan.delay) ? random.fraction() * (plan.maxDelayMs ?? 0) : 0;
    if (delayMs > 0) await sleep(clock, delayMs / 2);
    if (happens(plan.errorBefore)) throw injected(operation, key, 'before it was done');
    if (happens(plan.busy)) throw new BusyError(`The store is busy: ${key}.`, random.fraction());
    if (happens(plan.denied)) throw new StorageError('store-denied', `${key} is refused.`);
    if (happens(plan.late)) {
      clock.after(random.fraction() * (plan.maxLateMs ?? 0), () => {
        // Nobody waits for it any more.
        make().catch(() => undefined);
      });
      throw injected(operation, key, 'and may be done later');
    }
    const result = await make();
    if (delayMs > 0) await sleep(clock, delayMs / 2);
    if (happens(plan.errorAfter)) throw injected(operation, key, 'after it was done');
    return result;
  });
  return {
    ...failing,
    get: async (key, range, callOptions) =>
      damage('get', key, await failing.get(key, range, callOptions)),
    getStart: async (key, maxBytes, callOptions) => {
      const { bytes, objectBytes } = await failing.getStart(key, maxBytes, callOptions);
      return { bytes: damage('getStart', key, bytes), objectBytes };
    },
  };
}

function pick(random: Random, count: number): number {
  return Math.floor(random.fraction() * count);
}

function injected(operation: Operation, key: string, when: string): StorageError {
  return new StorageError(
    'store-unavailable',
    `An injected fault: ${operation} of ${key} failed ${when}.`,
  );
}
