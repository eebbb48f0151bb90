import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { seededRandom } from '../base/random.ts';
import { createLocalDisk } from '../store/local-disk.ts';
import { createMemoryStore } from '../store/memory-store.ts';
import { StoreTrust } from './store-trust.ts';

let directory: string;
let calls: number;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'elasticdrive-trust-'));
  calls = 0;
});
afterEach(() => rm(directory, { recursive: true }));

const inner = createMemoryStore();

function trustOf(changes: Partial<ObjectStore> = {}, endpoint?: string): StoreTrust {
  const put: ObjectStore['put'] = (...args) => {
    calls += 1;
    return inner.put(...args);
  };
  return new StoreTrust({
    store: { ...inner, put, ...changes },
    endpoint,
    disk: createLocalDisk(directory),
    clock: systemClock,
    random: seededRandom(1),
    log: silentLog,
  });
}

/** A swap that looks at no version. */
const swap: ObjectStore['swap'] = async (key, _expected, value) => {
  for (;;) {
    const version = await inner.swap(key, (await inner.load(key))?.version, value);
    if (version !== undefined) return version;
  }
};
const fails = (code: 'store-unavailable' | 'store-denied') => (): Promise<never> =>
  Promise.reject(new StorageError(code, 'No.'));

describe('whether a store can be trusted with writing', () => {
  it('is found out once, and remembered where the state is', async () => {
    const trust = trustOf();
    expect(await Promise.all([trust.judge(), trust.judge()])).toEqual([undefined, undefined]);
    const probing = calls;
    expect(probing).toBeGreaterThan(0);
    expect(await trustOf().judge()).toBe(undefined);
    expect(calls).toBe(probing);
    expect(await readdir(join(directory, 'trusted-stores'))).toHaveLength(1);
  });

  it('is found out anew of a bucket of the same name on another server', async () => {
    await trustOf().judge();
    const probing = calls;
    await trustOf({}, 'https://s3.example.org').judge();
    expect(calls).toBe(2 * probing);
  });

  it('is denied to one that ignores conditions, and looked at again by the next process', async () => {
    const distrust = await trustOf({ swap }).judge();
    expect(distrust).toContain('cannot be trusted with writing: it failed create-if-absent (');
    expect(await trustOf().judge()).toBe(undefined);
  });

  it('is denied to one that this host may only read', async () => {
    expect(await trustOf({ put: fails('store-denied') }).judge()).toContain('store-denied: No.');
  });

  it('is not known while the store does not answer', async () => {
    const changes: Partial<ObjectStore> = { list: fails('store-unavailable') };
    const trust = trustOf(changes);
    await expect(trust.judge()).rejects.toMatchObject({ code: 'store-unavailable' });
    await expect(trust.judge()).rejects.toThrow('could not be probed yet');
  });

  it('is no question with one whose reading is wrong', async () => {
    const get = (): Promise<Uint8Array> => Promise.resolve(new Uint8Array(1));
    await expect(trustOf({ get }).judge()).rejects.toMatchObject({ code: 'unsupported' });
  });
});
