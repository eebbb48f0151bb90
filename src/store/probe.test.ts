import { describe, expect, it } from 'vitest';
import { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { seededRandom } from '../base/random.ts';
import { createMemoryStore } from './memory-store.ts';
import { type ProbeVerdict, probeStore } from './probe.ts';
import { HastyClock } from './testing/hasty-clock.ts';

const probe = (store: ObjectStore): Promise<ProbeVerdict> =>
  probeStore(store, { clock: new HastyClock(), random: seededRandom(1) });
const failed = ({ checks }: ProbeVerdict): string[] =>
  checks.filter(({ ok }) => !ok).map(({ name }) => name);

describe('probeStore', () => {
  it('trusts a store that does all it should, and leaves nothing behind', async () => {
    const store = createMemoryStore();
    const verdict = await probe(store);
    expect(failed(verdict)).toEqual([]);
    expect(verdict).toMatchObject({ trustedForReading: true, trustedForWriting: true });
    expect(verdict.checks.map(({ name }) => name)).toEqual([
      'write',
      'read',
      'ranges',
      'list',
      'create-if-absent',
      'compare-and-swap',
      'stale versions',
      'delete',
      'clean up',
    ]);
    expect(verdict.metrics.operations.swap.requests).toBeGreaterThan(100);
    expect((await store.list('')).keys).toEqual([]);
  });

  it('finds out a store that takes conditions and ignores them', async () => {
    const inner = createMemoryStore();
    const verdict = await probe({
      ...inner,
      swap: async (key, _expected, value) => {
        for (;;) {
          const version = await inner.swap(key, (await inner.load(key))?.version, value);
          if (version !== undefined) return version;
        }
      },
    });
    expect(failed(verdict)).toEqual(['create-if-absent', 'compare-and-swap', 'stale versions']);
    expect(verdict).toMatchObject({ trustedForReading: true, trustedForWriting: false });
  });

  it('finds out a store that compares first and swaps later', async () => {
    const inner = createMemoryStore();
    const verdict = await probe({
      ...inner,
      swap: async (key, expected, value) => {
        if ((await inner.load(key))?.version !== expected) return undefined;
        await new Promise((resolve) => setImmediate(resolve));
        return inner.swap(key, (await inner.load(key))?.version, value);
      },
    });
    expect(failed(verdict)).toContain('compare-and-swap');
    expect(verdict.trustedForWriting).toBe(false);
  });

  it('finds out a store that tells the winner that it lost', async () => {
    const inner = createMemoryStore();
    const verdict = await probe({
      ...inner,
      swap: async (key, expected, value) => {
        await inner.swap(key, expected, value);
        return undefined;
      },
    });
    expect(verdict.trustedForWriting).toBe(false);
  });

  it('finds out a store whose listing lags behind', async () => {
    const inner = createMemoryStore();
    const verdict = await probe({
      ...inner,
      list: async (prefix, options) => {
        const page = await inner.list(prefix, options);
        return { ...page, keys: page.keys.slice(0, -1) };
      },
    });
    expect(failed(verdict)).toContain('list');
    expect(verdict.trustedForReading).toBe(false);
  });

  it('reports a store that refuses to be written, and does not go on', async () => {
    const inner = createMemoryStore();
    const verdict = await probe({
      ...inner,
      put: () => Promise.reject(new StorageError('store-denied', 'No permission.')),
    });
    expect(verdict.checks.map(({ name, ok }) => [name, ok])).toEqual([
      ['write', false],
      ['clean up', true],
    ]);
    expect(verdict.checks[0]?.detail).toBe('store-denied: No permission.');
    expect(verdict.trustedForWriting).toBe(false);
  });
});
