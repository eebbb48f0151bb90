import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { listAll, type ObjectStore } from '../../src/base/object-store.ts';
import { seededRandom } from '../../src/base/random.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { openReadOnly } from '../../src/volume/read-only-volume.ts';
import { accountForSpace } from '../../src/volume/space-accounting.ts';
import { defaultSpaceSettings } from '../../src/volume/space-settings.ts';
import { defaultVolumeSettings, type VolumeSettings } from '../../src/volume/settings.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { forgetStore } from '../support/sound-stores.ts';
import { readAll, VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const blockBytes = 4096;
const plain = { fua: false };

/** Nothing of it happens by itself; what is dead is deleted at once. */
const byHand: Partial<VolumeSettings> = {
  space: { ...defaultSpaceSettings, bytesPerSecond: 2 ** 30, graceMs: 0, lookMs: 2 ** 30 },
};

async function usageOf(
  store: ObjectStore,
  part = 'volumes/',
): Promise<{ objects: number; bytes: number }> {
  const usage = { objects: 0, bytes: 0 };
  for await (const { key, sizeBytes } of listAll(store, 'volumes/')) {
    if (!key.includes(part)) continue;
    usage.objects += 1;
    usage.bytes += sizeBytes;
  }
  return usage;
}

/** A volume and what it must hold, written block by block. */
class Mirror {
  readonly volume: Volume;
  readonly expected: Uint8Array;
  private readonly random = seededRandom(5);

  constructor(volume: Volume, expected = new Uint8Array(volume.sizeBytes)) {
    this.volume = volume;
    this.expected = expected;
  }

  async write(block: number, count = 1): Promise<void> {
    const bytes = this.random.bytes(count * blockBytes);
    this.expected.set(bytes, block * blockBytes);
    await this.volume.write(block * blockBytes, bytes, plain);
  }

  async trim(block: number, count: number): Promise<void> {
    this.expected.fill(0, block * blockBytes, (block + count) * blockBytes);
    await this.volume.trim(block * blockBytes, count * blockBytes, plain);
  }

  async overwrite(times: number): Promise<void> {
    const blocks = this.expected.length / blockBytes;
    for (let at = 0; at < times; at += 1) {
      await this.write(Math.floor(this.random.fraction() * blocks));
    }
  }

  async requireEqual(volume = this.volume): Promise<void> {
    expect(Buffer.compare(await readAll(volume), this.expected)).toBe(0);
  }
}

async function mirrored(
  store: ObjectStore,
  mebibytes: number,
): Promise<{ mirror: Mirror; host: VolumeHost }> {
  const host = new VolumeHost(store, byHand);
  await host.create({ name: 'drive', sizeBytes: mebibytes * mebibyte });
  return { mirror: new Mirror(await host.open('drive')), host };
}

describe('space that comes back', () => {
  test('after random overwrites of a full volume, at most 1.35 times the live data is stored', async () => {
    const store = createMemoryStore();
    const { mirror, host } = await mirrored(store, 24);
    for (let block = 0; block < 6144; block += 256) await mirror.write(block, 256);
    await mirror.overwrite(9000);
    const before = (await usageOf(store)).bytes;
    const { deletedBytes } = await mirror.volume.compact();
    const after = (await usageOf(store)).bytes;
    expect(before - after).toBeGreaterThan(0);
    expect(deletedBytes).toBeGreaterThan(0);
    expect(after).toBeLessThan(1.35 * 24 * mebibyte);
    await mirror.requireEqual();
    await mirror.volume.close();
    const again = await host.open('drive');
    await mirror.requireEqual(again);
    await again.close();
    // Who has nothing of it in any cache reads the same.
    const other = new VolumeHost(store, byHand);
    const there = await other.open('drive');
    await mirror.requireEqual(there);
    await there.close();
  });

  test('after trimming everything and one pass, under 2 % of it is stored', async () => {
    const store = createMemoryStore();
    const { mirror } = await mirrored(store, 24);
    for (let block = 0; block < 6144; block += 256) await mirror.write(block, 256);
    await mirror.overwrite(3000);
    const before = (await usageOf(store)).bytes;
    await mirror.trim(0, 6144);
    await mirror.volume.compact();
    expect((await usageOf(store)).bytes).toBeLessThan(0.02 * before);
    await mirror.requireEqual();
    await mirror.volume.close();
  });

  test('small segments are merged, and again when there are many', async () => {
    const store = createMemoryStore();
    const { mirror } = await mirrored(store, 64);
    for (let at = 0; at < 200; at += 1) {
      await mirror.write(at * 80, 3);
      await mirror.volume.flush();
      if (at % 20 === 19) await mirror.volume.compact();
    }
    const { objects } = await usageOf(store, '/segments/');
    const compacted = await usageOf(store, '/compacted/');
    expect(objects + compacted.objects).toBeLessThan(40);
    await mirror.requireEqual();
    await mirror.volume.close();
  });

  test('what was moved is moved again, and its old object deleted', async () => {
    const store = createMemoryStore();
    const { mirror, host } = await mirrored(store, 16);
    for (let round = 0; round < 4; round += 1) {
      await mirror.overwrite(2500);
      await mirror.volume.compact();
      await mirror.requireEqual();
    }
    const { placement } = await findVolume(store, 'drive');
    expect(placement?.serial).toBeGreaterThan(2);
    expect((await usageOf(store, '/placements/')).objects).toBeLessThanOrEqual(2);
    await mirror.volume.close();
    const again = await host.open('drive');
    await mirror.requireEqual(again);
    await again.close();
  });
});

describe('what space is there for', () => {
  async function account(store: ObjectStore) {
    return accountForSpace(store, systemClock, await findVolume(store, 'drive'));
  }

  test('every byte is accounted for, with what each snapshot keeps', async () => {
    const store = createMemoryStore();
    const { mirror } = await mirrored(store, 16);
    const snapshot = async (name: string): Promise<void> => {
      const { id } = await mirror.volume.createSnapshot({ name, description: '', tags: {} });
      await mirror.volume.whenSnapshotCompleted(id);
    };
    for (let block = 0; block < 4096; block += 256) await mirror.write(block, 256);
    await snapshot('first');
    for (let block = 0; block < 1024; block += 256) await mirror.write(block, 256);
    await snapshot('second');
    await mirror.write(0, 256);
    for (const isCompacted of [false, true]) {
      if (isCompacted) await mirror.volume.compact();
      else await mirror.volume.flush();
      const found = await account(store);
      const kept = found.snapshots.reduce((sum, { bytes }) => sum + bytes, 0);
      const { liveBytes, sharedBytes, retainedBytes, deadBytes, unknownBytes } = found;
      const usage = await usageOf(store);
      const sum = liveBytes + kept + sharedBytes + retainedBytes + deadBytes + unknownBytes;
      expect(sum).toBe(usage.bytes);
      expect(found).toMatchObject({ storedBytes: usage.bytes, unknownBytes: 0, retainedBytes: 0 });
      if (!isCompacted) continue;
      expect(liveBytes / (16 * mebibyte)).toBeCloseTo(1, 1);
      // The first mebibytes of the first snapshot, and the one of the second that was replaced.
      expect(found.snapshots[0]?.bytes).toBeGreaterThan(3.9 * mebibyte);
      expect(found.snapshots[0]?.bytes).toBeLessThan(4.2 * mebibyte);
      expect(found.snapshots[1]?.bytes).toBeGreaterThan(0.9 * mebibyte);
      expect(found.snapshots[1]?.bytes).toBeLessThan(1.2 * mebibyte);
    }
    await mirror.volume.close();
  });

  test('what a snapshot keeps is kept, and comes back when it is deleted', async () => {
    const store = createMemoryStore();
    const { mirror } = await mirrored(store, 16);
    for (let block = 0; block < 4096; block += 256) await mirror.write(block, 256);
    const wish = { name: 'kept', description: '', tags: {} };
    const { id } = await mirror.volume.createSnapshot(wish);
    await mirror.volume.whenSnapshotCompleted(id);
    await mirror.trim(0, 4096);
    await mirror.volume.compact();
    expect((await usageOf(store)).bytes).toBeGreaterThan(16 * mebibyte);
    await mirror.volume.deleteSnapshot(id);
    await mirror.volume.compact();
    expect((await usageOf(store)).bytes).toBeLessThan(0.02 * 16 * mebibyte);
    await mirror.requireEqual();
    await mirror.volume.close();
  });
});

describe('what must not go wrong', () => {
  test('nothing is deleted before the grace period is over, nor when another has the volume', async () => {
    const store = createMemoryStore();
    const { mirror, host } = await mirrored(store, 16);
    for (let round = 0; round < 2; round += 1) {
      for (let block = 0; block < 4096; block += 256) await mirror.write(block, 256);
    }
    await mirror.volume.flush();
    const before = await usageOf(store, '/segments/');
    const { waitingBytes, deletedObjects } = await mirror.volume.compact({ graceMs: 60_000 });
    expect(waitingBytes).toBeGreaterThan(15 * mebibyte);
    expect(deletedObjects).toBe(0);
    expect((await usageOf(store, '/segments/')).bytes).toBeGreaterThanOrEqual(before.bytes);
    const rival = new VolumeHost(store, byHand);
    const there = await rival.open('drive', { takeOver: 'now' });
    await expect(mirror.volume.compact()).rejects.toMatchObject({ code: 'lost-ownership' });
    expect((await usageOf(store, '/segments/')).bytes).toBeGreaterThanOrEqual(before.bytes);
    await mirror.volume.abandon();
    await there.close();
    expect(host.name).not.toBe(rival.name);
  });

  test('a writer that was taken over and finds its map deleted says that, not that it is damaged', async () => {
    const store = createMemoryStore();
    const { mirror } = await mirrored(store, 16);
    await mirror.write(0);
    await mirror.volume.compact();
    await mirror.write(1);
    await mirror.volume.flush();
    const there = await new VolumeHost(store, byHand).open('drive', { takeOver: 'now' });
    await there.write(0, new Uint8Array(blockBytes), { fua: false });
    for (let pass = 0; pass < 2; pass += 1) await there.compact({ graceMs: 0 });
    await expect(mirror.volume.compact()).rejects.toMatchObject({ code: 'lost-ownership' });
    await mirror.volume.abandon();
    await there.close();
  });

  test('an object that is damaged is left where it is, and the others are compacted', async () => {
    const store = createMemoryStore();
    const { mirror } = await mirrored(store, 32);
    for (let block = 0; block < 8192; block += 256) await mirror.write(block, 256);
    for (let block = 0; block < 8192; block += 2) await mirror.write(block);
    await mirror.volume.flush();
    const keys: string[] = [];
    for await (const { key } of listAll(store, 'volumes/')) {
      if (key.includes('/segments/')) keys.push(key);
    }
    const [first = ''] = keys;
    const bytes = await store.get(first);
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    await store.delete(first);
    await store.put(first, [bytes]);
    forgetStore(store);
    for (let pass = 0; pass < 3; pass += 1) await mirror.volume.compact();
    expect((await usageOf(store, first)).objects).toBe(1);
    expect((await usageOf(store, '/compacted/')).objects).toBeGreaterThan(0);
    await mirror.volume.abandon();
  });

  test('a reader with an older map is told that blocks are gone, and reads what was only moved', async () => {
    const store = createMemoryStore();
    const { mirror } = await mirrored(store, 16);
    for (let block = 0; block < 4096; block += 256) await mirror.write(block, 256);
    await mirror.volume.compact();
    const old = await openReadOnly({
      ...{ store, clock: systemClock, name: 'drive', reason: 'a test' },
      settings: { ...defaultVolumeSettings, cacheBytes: 2 ** 20 },
    });
    const before = mirror.expected.slice();
    const bytes = new Uint8Array(blockBytes);
    // Its map is read once, and kept.
    await old.read(blockBytes, bytes);
    for (let block = 0; block < 4096; block += 2) await mirror.write(block);
    await mirror.volume.compact();
    for (let block = 1; block < 4096; block += 102) {
      await old.read(block * blockBytes, bytes);
      const from = block * blockBytes;
      expect(Buffer.compare(bytes, before.subarray(from, from + blockBytes))).toBe(0);
    }
    // Of what was replaced there is nothing any more: an error, never other bytes.
    await expect(old.read(2048 * blockBytes, bytes)).rejects.toMatchObject({ code: 'corrupt' });
    await old.close();
    await mirror.volume.close();
  });
});
