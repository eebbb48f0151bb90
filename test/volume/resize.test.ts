import { describe, expect, test } from 'vitest';
import { sleep, systemClock } from '../../src/base/clock.ts';
import { StorageError } from '../../src/base/errors.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import { seededRandom } from '../../src/base/random.ts';
import { encodeManifest } from '../../src/format/manifest.ts';
import { manifestKey } from '../../src/format/names.ts';
import { openMoment } from '../../src/volume/moment-reader.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { type FaultPlan, withFaults } from '../../src/store/with-faults.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { checkVolume } from '../../src/volume/check.ts';
import { loadManifest } from '../../src/volume/ownership.ts';
import { growDetached, type Resized } from '../../src/volume/resize.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { readSnapshot } from '../support/snapshot-reader.ts';
import { forgetStore } from '../support/sound-stores.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { readAll, VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const plain = { fua: false };
const random = seededRandom(23);
const noBytes = new Uint8Array(mebibyte);

async function madeHost(sizeBytes: number, store = createMemoryStore()): Promise<VolumeHost> {
  const host = new VolumeHost(store);
  await host.create({ name: 'drive', sizeBytes });
  return host;
}

async function sizeIn(store: ObjectStore): Promise<number> {
  return (await findVolume(store, 'drive')).sizeBytes;
}

async function readBack(volume: Volume, offset: number, lengthBytes: number): Promise<Uint8Array> {
  const into = new Uint8Array(lengthBytes);
  await volume.read(offset, into);
  return into;
}

function growFrom(host: VolumeHost, sizeBytes: number): Promise<Resized> {
  return growDetached({ store: host.store, random, name: 'drive', writerId: host.name }, sizeBytes);
}

describe('growing', () => {
  test('gives zeroes to write on, and another host finds it all', async () => {
    const host = await madeHost(mebibyte);
    const volume = await host.open('drive');
    const data = random.bytes(mebibyte);
    await volume.write(0, data, plain);
    const resized = await volume.grow(200 * mebibyte);
    expect(resized).toEqual({ beforeBytes: mebibyte, sizeBytes: 200 * mebibyte });
    expect(volume.sizeBytes).toBe(200 * mebibyte);
    // A client may rely on it: whatever happens now, the store has it.
    expect(await sizeIn(host.store)).toBe(200 * mebibyte);
    expect(await readBack(volume, mebibyte, mebibyte)).toEqual(new Uint8Array(mebibyte));
    await volume.write(199 * mebibyte, data, plain);
    await volume.close();
    const there = await new VolumeHost(host.store).open('drive');
    expect(there.sizeBytes).toBe(200 * mebibyte);
    expect(await readBack(there, 0, mebibyte)).toEqual(data);
    expect(await readBack(there, 199 * mebibyte, mebibyte)).toEqual(data);
    await there.close();
  });

  test('outlives a crash right after it, with what was written behind the old end', async () => {
    const host = await madeHost(mebibyte);
    const volume = await host.open('drive');
    await volume.grow(2 * mebibyte);
    const data = random.bytes(4096);
    await volume.write(2 * mebibyte - 4096, data, plain);
    await volume.flush();
    await volume.abandon();
    const again = await host.open('drive');
    expect(again.sizeBytes).toBe(2 * mebibyte);
    expect(await readBack(again, 2 * mebibyte - 4096, 4096)).toEqual(data);
    await again.close();
  });

  test('is done once although answers of the store are lost', async () => {
    const truth = createMemoryStore();
    const plan: FaultPlan = {};
    const store = withFaults(truth, { clock: systemClock, random, plan });
    const host = await madeHost(mebibyte, store);
    const volume = await host.open('drive');
    plan.errorAfter = 0.5;
    for (let size = 2; size < 12; size += 1) {
      await volume.grow(size * mebibyte);
      expect(await sizeIn(truth)).toBe(size * mebibyte);
      expect(volume.sizeBytes).toBe(size * mebibyte);
    }
    plan.errorAfter = 0;
    await volume.close();
  });

  test.each([
    ['smaller', mebibyte - 4096, '--shrink'],
    ['of no size that there is', mebibyte + 512, 'multiple of 4096'],
    ['larger than 64 TiB', 64 * 2 ** 40 + 4096, 'up to 64 TiB'],
  ])('refuses to make it %s', async (_, sizeBytes, message) => {
    const host = await madeHost(mebibyte);
    const volume = await host.open('drive');
    await expect(volume.grow(sizeBytes)).rejects.toMatchObject({ code: 'usage' });
    await expect(volume.grow(sizeBytes)).rejects.toThrow(message);
    expect(volume.sizeBytes).toBe(mebibyte);
    await volume.close();
    await expect(growFrom(host, sizeBytes)).rejects.toThrow(message);
  });

  test('of a volume that nobody has changes its size and nothing else', async () => {
    const host = await madeHost(mebibyte);
    const before = await findVolume(host.store, 'drive');
    await growFrom(host, 2 * mebibyte);
    const { nonce, ...after } = await findVolume(host.store, 'drive');
    expect(after).toEqual({ ...before, nonce: undefined, sizeBytes: 2 * mebibyte });
    expect(nonce).not.toBe(before.nonce);
  });

  test('leaves what a crash left in the journal where it is', async () => {
    const host = await madeHost(mebibyte);
    const volume = await host.open('drive');
    const data = random.bytes(mebibyte);
    await volume.write(0, data, plain);
    await volume.flush();
    await volume.abandon();
    await growFrom(host, 2 * mebibyte);
    const again = await host.open('drive');
    expect(again.sizeBytes).toBe(2 * mebibyte);
    expect((await readAll(again)).subarray(0, mebibyte)).toEqual(data);
    await again.close();
  });

  test('is refused to whoever does not have it while another does, by that one’s name', async () => {
    const host = await madeHost(mebibyte);
    const volume = await host.open('drive');
    const other = new VolumeHost(host.store);
    const refused = growFrom(other, 2 * mebibyte);
    await expect(refused).rejects.toMatchObject({ code: 'held' });
    await expect(refused).rejects.toThrow(host.name);
    expect(await sizeIn(host.store)).toBe(mebibyte);
    await volume.close();
  });

  test('and attaching at the same moment: both come to their end', async () => {
    for (let round = 0; round < 10; round += 1) {
      const host = await madeHost(mebibyte);
      const [opened, grown] = await Promise.allSettled([
        host.open('drive'),
        growFrom(host, 2 * mebibyte),
        growFrom(host, 2 * mebibyte),
      ]);
      if (opened.status === 'rejected') throw opened.reason;
      expect(grown.status).toBe('fulfilled');
      expect(await sizeIn(host.store)).toBe(2 * mebibyte);
      await opened.value.close();
      expect(await sizeIn(host.store)).toBe(2 * mebibyte);
    }
  });
});

/** Data at both ends of a volume of two map pages and a bit. */
async function written(
  store: ObjectStore,
): Promise<{ host: VolumeHost; volume: Volume; data: Uint8Array }> {
  const host = await madeHost(130 * mebibyte, store);
  const volume = await host.open('drive');
  const data = random.bytes(mebibyte);
  for (const at of [0, 30, 63.5, 100, 129]) await volume.write(at * mebibyte, data, plain);
  await volume.flush();
  return { host, volume, data };
}

/** A store that does what is asked of it until `remaining` changes were made, and is away then. */
class BreakingStore {
  remaining = Number.POSITIVE_INFINITY;
  readonly away = Promise.withResolvers<void>();
  readonly store: ObjectStore;

  constructor(truth: ObjectStore) {
    const change = <T>(make: () => Promise<T>): Promise<T> => {
      this.remaining -= 1;
      if (this.remaining >= 0) return make();
      this.away.resolve();
      return Promise.reject(new StorageError('store-unavailable', 'away'));
    };
    this.store = {
      ...truth,
      put: (...args) => change(() => truth.put(...args)),
      swap: (...args) => change(() => truth.swap(...args)),
    };
  }
}

describe('shrinking', () => {
  test('leaves a past that is kept as large as it was, and sound', async () => {
    const host = await madeHost(130 * mebibyte);
    for (const offset of [128 * mebibyte, 0]) {
      const volume = await host.open('drive');
      await volume.write(offset, random.bytes(4096), plain);
      await volume.close();
      // The past is kept from the first checkpoint on, which knows of what is cut off later.
      await host.setRetention('drive', 3_600_000);
    }
    const volume = await host.open('drive');
    await volume.shrink(mebibyte);
    await volume.close();
    const { manifest } = await loadManifest(host.store, (await findVolume(host.store, 'drive')).id);
    expect(manifest.retention?.keptFrom?.checkpoint).toBeDefined();
    const { verdict, problems } = await checkVolume(host.store, 'drive', { clock: systemClock });
    expect([verdict, problems]).toEqual(['ok', []]);
  });

  test('cuts off for good: what grows again is zero, on another host too', async () => {
    const { host, volume, data } = await written(createMemoryStore());
    const cut = 30 * mebibyte + 8192;
    expect(await volume.shrink(cut)).toEqual({ beforeBytes: 130 * mebibyte, sizeBytes: cut });
    expect(await sizeIn(host.store)).toBe(cut);
    await volume.close();
    const other = new VolumeHost(host.store);
    await growFrom(other, 130 * mebibyte);
    const there = await other.open('drive');
    const expected = new Uint8Array(130 * mebibyte);
    expected.set(data, 0);
    expected.set(data.subarray(0, 8192), 30 * mebibyte);
    expect(Buffer.compare(await readAll(there), expected)).toBe(0);
    await there.close();
  });

  test('leaves snapshots their size and their blocks', async () => {
    const { host, volume } = await written(createMemoryStore());
    const before = await readAll(volume);
    const { id } = await volume.createSnapshot({ name: 'large' });
    await volume.whenSnapshotCompleted(id);
    await volume.shrink(mebibyte);
    await volume.createSnapshot({ name: 'small' });
    await volume.close();
    const large = await readSnapshot(host.store, 'drive', 'large');
    expect(Buffer.compare(large, before)).toBe(0);
    const small = await readSnapshot(host.store, 'drive', 'small');
    expect(Buffer.compare(small, before.subarray(0, mebibyte))).toBe(0);
    await growFrom(host, 130 * mebibyte);
    const again = await host.open('drive');
    expect(Buffer.compare(await readBack(again, 100 * mebibyte, mebibyte), noBytes)).toBe(0);
    await again.write(100 * mebibyte, random.bytes(4096), plain);
    await again.close();
    const still = await readSnapshot(host.store, 'drive', 'large');
    expect(Buffer.compare(still, before)).toBe(0);
  });

  test('serves nothing past the new end from its beginning on', async () => {
    const { volume } = await written(createMemoryStore());
    const shrinking = volume.shrink(mebibyte);
    expect(volume.sizeBytes).toBe(mebibyte);
    await shrinking;
    expect(volume.sizeBytes).toBe(mebibyte);
    await volume.close();
  });

  test('takes nothing from a past that is kept', async () => {
    const clock = new VirtualClock();
    const store = createMemoryStore();
    const host = new VolumeHost(store, { uploadIntervalMs: 60_000 }, 1, clock);
    await host.create({ name: 'drive', sizeBytes: 2 * mebibyte, retainMs: 3_600_000 });
    const volume = await host.open('drive');
    const end = new Uint8Array(4096).fill(7);
    await volume.write(2 * mebibyte - 4096, end, { fua: false });
    await clock.advance(1000);
    const timeMs = clock.wallMs();
    await clock.advance(1000);
    await volume.shrink(mebibyte);
    const moment = await volume.asOf({ timeMs, flushed: false });
    const then = await openMoment({ store, clock, settings: host.settings }, moment, timeMs);
    expect([then.sizeBytes, volume.sizeBytes]).toEqual([2 * mebibyte, mebibyte]);
    const found = new Uint8Array(4096);
    await then.read(2 * mebibyte - 4096, found);
    expect(Buffer.compare(found, end)).toBe(0);
    await volume.close();
  });

  test('refuses to make the volume larger', async () => {
    const { volume } = await written(createMemoryStore());
    await expect(volume.shrink(131 * mebibyte)).rejects.toThrow('leave --shrink out');
    expect(volume.sizeBytes).toBe(130 * mebibyte);
    await volume.close();
  });

  test('that is broken off anywhere leaves the old size or the new, and nothing cut comes back', async () => {
    const sizes: number[] = [];
    for (let changes = 0; ; changes += 1) {
      const truth = createMemoryStore();
      const breaking = new BreakingStore(truth);
      const { volume, data } = await written(breaking.store);
      await volume.close();
      forgetStore(breaking.store);
      const again = await new VolumeHost(breaking.store).open('drive');
      forgetStore(breaking.store);
      breaking.remaining = changes;
      const shrunk = again.shrink(mebibyte).then(
        () => true,
        () => false,
      );
      const isDone = await Promise.race([shrunk, breaking.away.promise.then(() => false)]);
      await again.abandon();
      const there = await new VolumeHost(truth).open('drive', { takeOver: 'now' });
      sizes.push(there.sizeBytes / mebibyte);
      await there.grow(130 * mebibyte);
      expect(await readBack(there, 0, mebibyte)).toEqual(data);
      const parts = [30, 63.5, 100, 129].map((at) => readBack(there, at * mebibyte, mebibyte));
      const zeroes = Buffer.alloc(mebibyte);
      const isZero = (await Promise.all(parts)).every((part) => zeroes.equals(part));
      if (sizes.at(-1) === 1) expect(isZero).toBe(true);
      // Nothing had changed yet.
      if (changes === 0) expect(isZero).toBe(false);
      await there.close();
      if (isDone) break;
    }
    expect(sizes.slice(0, -1)).toEqual(sizes.slice(0, -1).fill(130));
    expect(sizes.at(-1)).toBe(1);
    expect(sizes.length).toBeGreaterThan(3);
  });
});

describe('checking a volume whose size has changed', () => {
  async function problems(store: ObjectStore): Promise<string[]> {
    const report = await checkVolume(store, 'drive', { clock: systemClock });
    return report.problems.map(({ message }) => message);
  }

  /** Makes the size of a volume smaller in its manifest and nowhere else. */
  async function forgeSize(store: ObjectStore, sizeBytes: number): Promise<void> {
    const { id } = await findVolume(store, 'drive');
    const { manifest, version } = await loadManifest(store, id);
    await store.swap(manifestKey(id), version, encodeManifest({ ...manifest, sizeBytes }));
    forgetStore(store);
  }

  test('finds blocks past the end, in the page table, a map page and the log', async () => {
    const store = createMemoryStore();
    const { volume } = await written(store);
    await volume.close();
    await forgeSize(store, 30 * mebibyte + 4096);
    expect(await problems(store)).toEqual([
      expect.stringContaining('map page 0 has 383 blocks past the end of the volume'),
      expect.stringContaining('it has a page 1, past the end of the volume'),
      expect.stringContaining('it has a page 2, past the end of the volume'),
    ]);
  });

  test('finds what is written past the end after the checkpoint', async () => {
    const store = createMemoryStore();
    const host = new VolumeHost(store, { checkpointSegments: 1000, checkpointIdleMs: 600_000 });
    await host.create({ name: 'drive', sizeBytes: 2 * mebibyte });
    const volume = await host.open('drive');
    await volume.write(mebibyte, random.bytes(4096), plain);
    while (volume.statistics().uploadedSegments === 0) await sleep(systemClock, 5);
    await volume.abandon();
    await forgeSize(store, mebibyte);
    expect(await problems(store)).toEqual([
      expect.stringContaining('blocks past the end of the volume'),
    ]);
  });

  test('takes what is written past the end for no damage while the volume grows', async () => {
    const host = await madeHost(mebibyte);
    const volume = await host.open('drive');
    let isGrown = false;
    const looking = {
      ...host.store,
      load: async (...args: Parameters<ObjectStore['load']>) => {
        const found = await host.store.load(...args);
        if (isGrown || !args[0].endsWith('manifest.json')) return found;
        isGrown = true;
        await volume.grow(2 * mebibyte);
        await volume.write(mebibyte, random.bytes(4096), plain);
        while (volume.statistics().uploadedSegments === 0) await sleep(systemClock, 1);
        return found;
      },
    };
    expect(await problems(looking)).toEqual([]);
    expect(isGrown).toBe(true);
    await volume.close();
  });
});
