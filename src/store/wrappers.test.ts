import { describe, expect, it } from 'vitest';
import { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { seededRandom } from '../base/random.ts';
import { createMemoryStore } from './memory-store.ts';
import { HastyClock } from './testing/hasty-clock.ts';
import { withConcurrencyLimit } from './with-concurrency-limit.ts';
import { type FaultPlan, withFaults } from './with-faults.ts';
import { withMetrics } from './with-metrics.ts';

const limits = { reads: 2, writes: 1, registers: 1 };

/** A store whose reads end only when told to. */
function gated(): { store: ObjectStore; waiting: (() => void)[] } {
  const waiting: (() => void)[] = [];
  const inner = createMemoryStore();
  const get = (key: string): Promise<Uint8Array> =>
    new Promise((resolve) => {
      waiting.push(() => resolve(new TextEncoder().encode(key)));
    });
  return { store: { ...inner, get }, waiting };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('withConcurrencyLimit', () => {
  it('lets so many through and the others wait their turn', async () => {
    const { store, waiting } = gated();
    const limited = withConcurrencyLimit(store, limits);
    const done: string[] = [];
    const calls = ['a', 'b', 'c', 'd'].map(async (key) => {
      await limited.get(key);
      done.push(key);
    });
    await turn();
    expect(waiting).toHaveLength(2);
    for (let ended = 1; ended <= 4; ended += 1) {
      waiting[ended - 1]?.();
      await turn();
      expect(waiting).toHaveLength(Math.min(4, ended + 2));
    }
    await Promise.all(calls);
    expect(done).toEqual(['a', 'b', 'c', 'd']);
  });

  it('does not let writes and registers wait for reads', async () => {
    const { store } = gated();
    const limited = withConcurrencyLimit(store, limits);
    for (const key of ['a', 'b', 'c']) void limited.get(key);
    await limited.put('object', []);
    expect(await limited.swap('register', undefined, new Uint8Array(1))).toBeDefined();
  });

  it('gives the place of one that failed or gave up to the next', async () => {
    const { store, waiting } = gated();
    const limited = withConcurrencyLimit(store, { ...limits, reads: 1 });
    const controller = new AbortController();
    const first = limited.get('a');
    const second = limited.get('b', undefined, { signal: controller.signal });
    const third = limited.get('c');
    controller.abort();
    await expect(second).rejects.toMatchObject({ code: 'store-unavailable' });
    waiting[0]?.();
    await first;
    await turn();
    expect(waiting).toHaveLength(2);
    waiting[1]?.();
    expect(new TextDecoder().decode(await third)).toBe('c');
    await expect(limited.getStart('missing', 1)).rejects.toMatchObject({ code: 'not-found' });
    await expect(limited.getStart('missing', 1)).rejects.toMatchObject({ code: 'not-found' });
  });
});

describe('withMetrics', () => {
  it('counts calls, bytes, errors and how long they took', async () => {
    const clock = new HastyClock();
    const inner = createMemoryStore();
    const slow: ObjectStore = {
      ...inner,
      get: async (...args) => {
        await new Promise<void>((resolve) => {
          clock.after(15, resolve);
        });
        return inner.get(...args);
      },
    };
    const store = withMetrics(slow, { clock });
    await store.put('a', [new Uint8Array(10), new Uint8Array(5)]);
    await store.get('a');
    await store.get('a', { offset: 0, lengthBytes: 4 });
    await store.get('missing').catch(() => undefined);
    await store.swap('r', undefined, new Uint8Array(7));
    await store.load('r');
    const { operations, inFlight } = store.snapshot();
    expect(inFlight).toBe(0);
    expect(operations.put).toMatchObject({ requests: 1, sentBytes: 15, errors: {} });
    expect(operations.get).toMatchObject({
      requests: 3,
      receivedBytes: 19,
      errors: { 'not-found': 1 },
      latency: { totalMs: 45, maximumMs: 15 },
    });
    const { boundsMs, counts } = operations.get.latency;
    expect(counts[boundsMs.indexOf(25)]).toBe(3);
    expect(operations.swap).toMatchObject({ requests: 1, sentBytes: 7 });
    expect(operations.load).toMatchObject({ requests: 1, receivedBytes: 7 });
    expect(operations.list.requests).toBe(0);
  });

  it('gives a copy that stays as it is', async () => {
    const store = withMetrics(createMemoryStore(), { clock: new HastyClock() });
    const before = store.snapshot();
    await store.put('a', []);
    expect(before.operations.put.requests).toBe(0);
    expect(store.snapshot().operations.put.requests).toBe(1);
  });
});

describe('withFaults', () => {
  const bytes = seededRandom(4).bytes(100);
  const failing = (plan: FaultPlan, seed = 1) => {
    const inner = createMemoryStore();
    const options = { clock: new HastyClock(), random: seededRandom(seed), plan };
    return { inner, store: withFaults(inner, options) };
  };
  const codeOf = (call: Promise<unknown>): Promise<string> =>
    call.then(
      () => 'ok',
      (error: unknown) => (error instanceof StorageError ? error.code : String(error)),
    );

  it('fails before the work or after it', async () => {
    const { inner, store } = failing({ errorBefore: 1 });
    expect(await codeOf(store.put('a', [bytes]))).toBe('store-unavailable');
    expect(await codeOf(inner.get('a'))).toBe('not-found');
    const late = failing({ errorAfter: 1 });
    expect(await codeOf(late.store.put('a', [bytes]))).toBe('store-unavailable');
    expect(await late.inner.get('a')).toEqual(bytes);
  });

  it('cuts bodies and flips one bit of them, without harm to what is stored', async () => {
    const plan: FaultPlan = { truncate: 1 };
    const { inner, store } = failing(plan);
    await inner.put('a', [bytes]);
    expect((await store.get('a')).length).toBeLessThan(100);
    plan.truncate = 0;
    plan.flip = 1;
    const { bytes: flipped } = await store.getStart('a', 100);
    const changed = [...flipped].map((byte, index) => byte ^ (bytes[index] ?? 0)).filter(Boolean);
    expect(changed).toHaveLength(1);
    expect(Math.log2(changed[0] ?? 0) % 1).toBe(0);
    plan.flip = 0;
    expect(await store.get('a')).toEqual(bytes);
  });

  it('does the same for the same seed, and only what it is told to', async () => {
    const outcomes = async (seed: number): Promise<string> => {
      const plan: FaultPlan = { errorBefore: 0.5, only: (operation) => operation === 'list' };
      const { store } = failing(plan, seed);
      await store.put('a', []);
      const codes: string[] = [];
      for (let i = 0; i < 40; i += 1) codes.push(await codeOf(store.list('')));
      return codes.join();
    };
    expect(await outcomes(3)).toBe(await outcomes(3));
    expect(await outcomes(3)).not.toBe(await outcomes(4));
    expect(await outcomes(3)).toContain('store-unavailable');
    expect(await outcomes(3)).toContain('ok');
  });
});
