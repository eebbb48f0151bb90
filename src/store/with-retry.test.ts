import { describe, expect, it } from 'vitest';
import { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { seededRandom } from '../base/random.ts';
import { BusyError } from './busy-error.ts';
import { createMemoryStore } from './memory-store.ts';
import { HastyClock } from './testing/hasty-clock.ts';
import { type RetryOptions, withRetry } from './with-retry.ts';

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const failure = (): StorageError => new StorageError('store-unavailable', 'It does not answer.');
/** One that always draws the longest wait. */
const worst = { ...seededRandom(1), fraction: () => 1 };

type Act = (real: () => Promise<string | undefined>) => Promise<string | undefined>;

/** A memory store whose first swaps go as `acts` say, and the options to repeat them with. */
function scripted(...acts: Act[]): { inner: ObjectStore; store: ObjectStore; clock: HastyClock } {
  const inner = createMemoryStore();
  const clock = new HastyClock();
  const failing: ObjectStore = {
    ...inner,
    swap: (...args) => {
      const real = () => inner.swap(...args);
      return (acts.shift() ?? ((make) => make()))(real);
    },
  };
  return { inner, store: withRetry(failing, { clock, random: worst }), clock };
}

const failBefore: Act = () => Promise.reject(failure());
const failAfter: Act = async (real) => {
  await real();
  throw failure();
};

function failingGet(times: number, error: StorageError, options: Partial<RetryOptions> = {}) {
  const inner = createMemoryStore();
  const clock = new HastyClock();
  let calls = 0;
  const failing: ObjectStore = {
    ...inner,
    get: (...args) => {
      calls += 1;
      return calls <= times ? Promise.reject(error) : inner.get(...args);
    },
  };
  const store = withRetry(failing, { clock, random: worst, ...options });
  return { inner, store, clock, calls: () => calls };
}

describe('withRetry', () => {
  it('repeats what may pass, waiting twice as long each time up to a bound', async () => {
    const { inner, store, clock } = failingGet(6, failure(), { baseDelayMs: 10, maxDelayMs: 100 });
    await inner.put('key', [bytesOf('value')]);
    expect(await store.get('key')).toEqual(bytesOf('value'));
    expect(clock.waitsMs).toEqual([10, 20, 40, 80, 100, 100]);
  });

  it('draws each wait at random below its bound', async () => {
    const random = seededRandom(5);
    const { inner, store, clock } = failingGet(5, failure(), { random, baseDelayMs: 1000 });
    await inner.put('key', []);
    await store.get('key');
    expect(new Set(clock.waitsMs).size).toBe(5);
    for (const [index, waitMs] of clock.waitsMs.entries()) {
      expect(waitMs).toBeLessThan(1000 * 2 ** index);
    }
  });

  it('waits at least as long as the store asks for', async () => {
    const { inner, store, clock } = failingGet(1, new BusyError('Slow down.', 2000));
    await inner.put('key', []);
    await store.get('key');
    expect(clock.waitsMs[0]).toBeGreaterThanOrEqual(2000);
  });

  it('gives up at the deadline with the last error', async () => {
    const { store, clock, calls } = failingGet(Infinity, failure(), { deadlineMs: 10_000 });
    await expect(store.get('key')).rejects.toMatchObject({ code: 'store-unavailable' });
    expect(clock.monotonicMs()).toBeLessThanOrEqual(10_000);
    expect(calls()).toBeGreaterThan(3);
  });

  it.each(['not-found', 'store-denied', 'corrupt'] as const)('does not repeat %s', async (code) => {
    const { store, calls } = failingGet(Infinity, new StorageError(code, 'No.'));
    await expect(store.get('key')).rejects.toMatchObject({ code });
    expect(calls()).toBe(1);
  });

  it('stops when its caller gives up, also in the middle of a wait', async () => {
    const controller = new AbortController();
    const { store, calls } = failingGet(Infinity, failure(), {
      onRetry: () => controller.abort(),
    });
    const { signal } = controller;
    await expect(store.get('key', undefined, { signal })).rejects.toMatchObject({
      code: 'store-unavailable',
    });
    expect(calls()).toBe(1);
  });
});

describe('withRetry of a swap', () => {
  it('repeats one that was not made', async () => {
    const { inner, store } = scripted(failBefore, failBefore);
    const version = await store.swap('r', undefined, bytesOf('a'));
    expect(await inner.load('r')).toEqual({ value: bytesOf('a'), version });
  });

  it('finds one that was made and whose answer was lost', async () => {
    const { inner, store } = scripted(failAfter);
    const version = await store.swap('r', undefined, bytesOf('a'));
    expect(version).toBeDefined();
    expect(await inner.load('r')).toEqual({ value: bytesOf('a'), version });
  });

  it('reports a loss that is certain', async () => {
    const { inner, store } = scripted();
    await inner.swap('r', undefined, bytesOf('other'));
    expect(await store.swap('r', undefined, bytesOf('a'))).toBeUndefined();
  });

  it('does not take its own late first attempt for a rival', async () => {
    // The first attempt is under way when its answer is given up, and arrives before the second.
    let late: (() => Promise<string | undefined>) | undefined;
    const { inner, store } = scripted(
      (real) => {
        late = real;
        return Promise.reject(failure());
      },
      async (real) => {
        await late?.();
        return real();
      },
    );
    const version = await store.swap('r', undefined, bytesOf('a'));
    expect(version).toBeDefined();
    expect(await inner.load('r')).toEqual({ value: bytesOf('a'), version });
  });

  it('says that it cannot know when another value is there after a lost answer', async () => {
    const { inner, store, clock } = scripted(async (real) => {
      const version = await real();
      await inner.swap('r', version, bytesOf('other'));
      throw failure();
    });
    await expect(store.swap('r', undefined, bytesOf('a'))).rejects.toThrow('cannot be known');
    expect(clock.waitsMs).toEqual([]);
    expect((await inner.load('r'))?.value).toEqual(bytesOf('other'));
  });
});
