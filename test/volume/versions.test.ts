import { expect, test } from 'vitest';
import type { ChangeExtent, Changes } from '../../src/base/block-device.ts';
import { systemClock } from '../../src/base/clock.ts';
import { StorageError } from '../../src/base/errors.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { blockBytes, pageBlocks } from '../../src/format/geometry.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import type { ReadOnlyVolume } from '../../src/volume/read-only-volume.ts';
import { SnapshotReader, VersionMemory } from '../../src/volume/snapshot-reader.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { changedRanges } from '../../src/volume/map-difference.ts';
import type { MapVersion } from '../../src/volume/map-version.ts';
import { changeManifest } from '../../src/volume/manifest-change.ts';
import { PageCache } from '../../src/volume/page-cache.ts';
import { presentVersion, snapshotVersion } from '../../src/volume/stored-version.ts';
import { cloneOf, snapshotOf } from '../support/clones.ts';
import { forgetStore } from '../support/sound-stores.ts';
import { smallSettings, VolumeHost } from '../support/volume-host.ts';

const plain = { fua: false };
const memory = new VersionMemory(2 ** 20);

async function openSnapshot(store: ObjectStore, name: string): Promise<ReadOnlyVolume> {
  const manifest = await findVolume(store, 'drive');
  const snapshot = manifest.snapshots.find((each) => each.name === name);
  if (snapshot === undefined) throw new Error(`no snapshot ${name}`);
  const reader = new SnapshotReader({ store, clock: systemClock, memory });
  return reader.open(manifest, snapshot, smallSettings);
}

/** What each block that was ever written holds; all others are zeroes. */
class Model {
  readonly blocks: Map<number, number>;
  /** What was written since the snapshot before. */
  written = new Set<number>();

  constructor(blocks: Iterable<readonly [number, number]> = []) {
    this.blocks = new Map(blocks);
  }

  /** Keeps what it is now, and begins to note what is written from now on. */
  cut(): Model {
    const kept = new Model(this.blocks);
    kept.written = this.written;
    this.written = new Set();
    return kept;
  }

  /** Blocks that hold something else in `other`. */
  differing(other: Model): number[] {
    const all = new Set([...this.blocks.keys(), ...other.blocks.keys()]);
    return [...all].filter(
      (block) => (this.blocks.get(block) ?? 0) !== (other.blocks.get(block) ?? 0),
    );
  }
}

const sizeBytes = 3.5 * pageBlocks * blockBytes;

/** A block near the ends of pages, where mistakes are. */
function someBlock(random: Random): number {
  const page = Math.floor(random.fraction() * 3.5);
  const near = Math.floor(random.fraction() * 24) - 12;
  return Math.max(0, Math.min(sizeBytes / blockBytes - 8, page * pageBlocks + near));
}

async function change(volume: Volume, model: Model, random: Random, count: number): Promise<void> {
  for (let at = 0; at < count; at += 1) {
    const block = someBlock(random);
    const length = 1 + Math.floor(random.fraction() * 6);
    const value = random.fraction() < 0.3 ? 0 : 1 + Math.floor(random.fraction() * 255);
    const bytes = new Uint8Array(length * blockBytes).fill(value);
    const options = { ...plain, mayPunchHole: random.fraction() < 0.5 };
    if (value > 0) await volume.write(block * blockBytes, bytes, plain);
    else await volume.zero(block * blockBytes, bytes.length, options);
    for (let each = block; each < block + length; each += 1) {
      model.blocks.set(each, value);
      model.written.add(each);
    }
  }
}

async function expectContent(device: ReadOnlyVolume, model: Model): Promise<void> {
  for (const [block, value] of model.blocks) {
    const bytes = new Uint8Array(blockBytes);
    await device.read(block * blockBytes, bytes);
    expect([block, bytes]).toEqual([block, new Uint8Array(blockBytes).fill(value)]);
  }
}

/** The blocks that the changes name, asked for in pieces of different sizes. */
async function changedBlocks(changes: Changes, random: Random): Promise<Set<number>> {
  const found = new Set<number>();
  for (let at = 0; at < sizeBytes; ) {
    const length = Math.min(
      sizeBytes - at,
      blockBytes * (1 + Math.floor(random.fraction() * 40_000)),
    );
    const extents: ChangeExtent[] = await changes.status(
      at,
      length,
      1 + Math.floor(random.fraction() * 9),
    );
    const total = extents.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    expect(total).toBeGreaterThan(0);
    expect(total).toBeLessThanOrEqual(length);
    for (const { lengthBytes, changed } of extents) {
      const [first, end] = [at / blockBytes, (at + lengthBytes) / blockBytes];
      if (changed) for (let block = first; block < end; block += 1) found.add(block);
      at += lengthBytes;
    }
  }
  return found;
}

/** All that differs is said to be changed, and nothing that was not written; `versions` in order. */
async function expectChanges(
  changes: Changes | undefined,
  versions: readonly Model[],
  random: Random,
): Promise<void> {
  const found = await changedBlocks(changes as Changes, random);
  const [before, ...later] = versions as [Model, ...Model[]];
  for (const block of before.differing(later.at(-1) as Model)) {
    expect([block, found.has(block)]).toEqual([block, true]);
  }
  const written = new Set(later.flatMap((each) => [...each.written]));
  for (const block of found) expect([block, written.has(block)]).toEqual([block, true]);
}

/** Makes a snapshot, and waits until it can be read. */
async function snapshotNow(volume: Volume, name: string): Promise<void> {
  const { id } = await volume.createSnapshot({ name });
  await volume.whenSnapshotCompleted(id);
}

test.each([1, 2, 3])(
  'snapshots read as they were, and say what was changed; seed %i',
  async (seed) => {
    const random = seededRandom(seed);
    const store = createMemoryStore();
    const host = new VolumeHost(store, { checkpointSegments: 1, uploadIntervalMs: 1 }, seed);
    await host.create({ name: 'drive', sizeBytes });
    const model = new Model();
    const snapshots: { name: string; model: Model }[] = [];
    let volume = await host.open('drive');
    for (let round = 0; round < 4; round += 1) {
      // While it is written: what was changed since each snapshot, whether or not a checkpoint has it.
      for (let step = 0; step < 3; step += 1) {
        await change(volume, model, random, 6);
        for (const [index, { name }] of snapshots.entries()) {
          const since = [...snapshots.slice(index).map((each) => each.model), model];
          await expectChanges(await volume.changesSince(name), since, random);
        }
        if (random.fraction() < 0.5) await new Promise((resolve) => setTimeout(resolve, 10));
      }
      expect(await volume.moments()).toEqual(snapshots.map(({ name }) => name));
      await snapshotNow(volume, `s${round}`);
      snapshots.push({ name: `s${round}`, model: model.cut() });
      if (random.fraction() < 0.5) continue;
      if (random.fraction() < 0.5) await volume.close();
      else await volume.abandon();
      volume = await host.open('drive');
    }
    await change(volume, model, random, 6);
    for (const [at, { name, model: present }] of snapshots.entries()) {
      const device = await openSnapshot(store, name);
      await expectContent(device, present);
      const earlier = snapshots.slice(0, at);
      expect(await device.moments()).toEqual(earlier.map((each) => each.name));
      for (const [index, { name: moment }] of earlier.entries()) {
        const models = snapshots.slice(index, at + 1).map((each) => each.model);
        await expectChanges(await device.changesSince(moment), models, random);
      }
      await device.close();
    }
    await volume.close();
  },
);

/** All blocks that are not in the same state or place in two versions. */
async function blocksBetween(before: MapVersion, after: MapVersion): Promise<Set<number>> {
  const found = new Set<number>();
  let last = -1;
  for await (const { offset, lengthBytes } of changedRanges(before, after)) {
    expect(offset).toBeGreaterThan(last);
    last = offset + lengthBytes - 1;
    for (let at = offset; at < offset + lengthBytes; at += blockBytes) found.add(at / blockBytes);
  }
  return found;
}

test('versions of a volume and its clones are compared across where they part', async () => {
  const random = seededRandom(9);
  const store = createMemoryStore();
  const host = new VolumeHost(store);
  await host.create({ name: 'drive', sizeBytes });
  const models = new Map<string, Model>([['drive', new Model()]]);
  const use = async (name: string, snapshot?: string): Promise<void> => {
    const model = models.get(name) as Model;
    const volume = await host.open(name);
    await change(volume, model, random, 10);
    if (snapshot !== undefined) {
      await snapshotNow(volume, snapshot);
      models.set(`${name}@${snapshot}`, model.cut());
    }
    await volume.close();
  };
  const clone = async (from: string, snapshot: string, name: string): Promise<void> => {
    await cloneOf(store, from, snapshot, name);
    models.set(name, new Model((models.get(`${from}@${snapshot}`) as Model).blocks));
  };
  await use('drive', 'one');
  await clone('drive', 'one', 'left');
  await clone('drive', 'one', 'right');
  // From here on the same numbers are other segments in each of them.
  await use('drive', 'two');
  await use('left', 'two');
  await use('right');
  await clone('left', 'two', 'grandchild');
  await use('grandchild');
  const pages = new PageCache(2 ** 20);
  const versionOf = async (name: string): Promise<MapVersion> => {
    const [volume = '', snapshot] = name.split('@');
    const manifest = await findVolume(store, volume);
    return snapshot === undefined
      ? presentVersion(store, manifest, pages, 4)
      : snapshotVersion(store, manifest, snapshot, pages);
  };
  for (const [from, before] of models) {
    for (const [to, after] of models) {
      const found = await blocksBetween(await versionOf(from), await versionOf(to));
      const missed = before.differing(after).filter((block) => !found.has(block));
      expect([from, to, missed]).toEqual([from, to, []]);
      if (from === to) expect(found.size).toBe(0);
    }
  }
  // What a clone has not touched is not said to be changed.
  const sinceBirth = await blocksBetween(await versionOf('drive@one'), await versionOf('right'));
  const { written } = models.get('right') as Model;
  expect([...sinceBirth].filter((block) => !written.has(block))).toEqual([]);
});

test('what was not written since a snapshot costs no request to the store', async () => {
  const store = createMemoryStore();
  const host = new VolumeHost(store);
  await host.create({ name: 'drive', sizeBytes });
  const first = await host.open('drive');
  for (const page of [0, 1, 2]) {
    await first.write(page * pageBlocks * blockBytes, new Uint8Array(blockBytes).fill(1), plain);
  }
  await snapshotNow(first, 'before');
  await first.close();
  const volume = await host.open('drive');
  // It is in RAM and unchanged.
  await volume.read(0, new Uint8Array(sizeBytes));
  const changes = (await volume.changesSince('before')) as Changes;
  const counted = countGets(store);
  expect(await changes.status(0, sizeBytes, 10)).toEqual([
    { lengthBytes: sizeBytes, changed: false },
  ]);
  expect(counted.gets()).toBe(0);
  await volume.write(pageBlocks * blockBytes, new Uint8Array(blockBytes).fill(2), plain);
  expect(await changes.status(0, sizeBytes, 10)).toEqual([
    { lengthBytes: pageBlocks * blockBytes, changed: false },
    { lengthBytes: blockBytes, changed: true },
    { lengthBytes: sizeBytes - (pageBlocks + 1) * blockBytes, changed: false },
  ]);
  // The one page of the snapshot that may differ.
  expect(counted.gets()).toBe(1);
  counted.stop();
  await volume.close();
});

test('a trim that was found again in the journal is a change', async () => {
  const store = createMemoryStore();
  const host = new VolumeHost(store);
  await host.create({ name: 'drive', sizeBytes: 2 ** 20 });
  const first = await host.open('drive');
  await first.write(0, new Uint8Array(3 * blockBytes).fill(1), plain);
  await snapshotNow(first, 'before');
  await first.trim(blockBytes, blockBytes, { fua: true });
  await first.abandon();
  const volume = await host.open('drive');
  const changes = (await volume.changesSince('before')) as Changes;
  expect(await changes.status(0, 3 * blockBytes, 9)).toEqual([
    { lengthBytes: blockBytes, changed: false },
    { lengthBytes: blockBytes, changed: true },
    { lengthBytes: blockBytes, changed: false },
  ]);
  await volume.close();
});

test('snapshots of an attached volume are named without the store', async () => {
  const store = createMemoryStore();
  const host = new VolumeHost(store);
  await host.create({ name: 'drive', sizeBytes: 2 ** 20 });
  const volume = await host.open('drive');
  await snapshotNow(volume, 'one');
  const load = store.load.bind(store);
  store.load = () => Promise.reject(new StorageError('store-unavailable', 'away'));
  expect(await volume.moments()).toEqual(['one']);
  await expect(volume.changesSince('one')).rejects.toMatchObject({ code: 'store-unavailable' });
  store.load = load;
  expect(await volume.changesSince('one')).toBeDefined();
  await volume.close();
});

function countGets(store: ObjectStore): { gets(): number; stop(): void } {
  const get = store.get.bind(store);
  let count = 0;
  store.get = (...request) => {
    count += 1;
    return get(...request);
  };
  return {
    gets: () => count,
    stop: () => {
      store.get = get;
    },
  };
}

test('a writer that was followed compares nothing with what the next one has made', async () => {
  const store = createMemoryStore();
  const [slow, next] = [new VolumeHost(store), new VolumeHost(store)];
  await slow.create({ name: 'drive', sizeBytes: 2 ** 20 });
  const lost = await slow.open('drive');
  await lost.write(0, new Uint8Array(blockBytes).fill(1), { fua: true });
  const volume = await next.open('drive', { takeOver: 'now' });
  // The same segment number, the same index, other bytes.
  await volume.write(0, new Uint8Array(blockBytes).fill(2), plain);
  await snapshotNow(volume, 'one');
  await expect(lost.changesSince('one')).rejects.toMatchObject({ code: 'lost-ownership' });
  expect(lost.ended).toBe(true);
  await expect(lost.moments()).rejects.toMatchObject({ code: 'lost-ownership' });
  await lost.abandon();
  await volume.close();
});

test('a snapshot is read while another host has the volume and goes on', async () => {
  const store = createMemoryStore();
  const [writer, late] = [new VolumeHost(store), new VolumeHost(store)];
  await writer.create({ name: 'drive', sizeBytes: 2 ** 20 });
  const first = await writer.open('drive');
  await first.write(0, new Uint8Array(blockBytes).fill(1), plain);
  await snapshotNow(first, 'one');
  await first.close();
  const volume = await late.open('drive');
  await volume.write(0, new Uint8Array(blockBytes).fill(2), { fua: true });
  const device = await openSnapshot(store, 'one');
  const found = new Uint8Array(2 * blockBytes);
  await device.read(0, found);
  expect([found[0], found[blockBytes]]).toEqual([1, 0]);
  expect(await device.status(0, 2 * blockBytes, 9)).toMatchObject([
    { hole: false },
    { hole: true },
  ]);
  expect(device).toMatchObject({ name: 'drive@one', readOnly: true, sizeBytes: 2 ** 20 });
  expect(() => device.write()).toThrow('drive@one is a snapshot, which nobody writes');
  await device.close();
  await volume.close();
});

test('one that was deleted while it is read fails, and is not called damaged', async () => {
  const store = createMemoryStore();
  const host = new VolumeHost(store);
  await host.create({ name: 'drive', sizeBytes: 2 ** 20 });
  const volume = await host.open('drive');
  await volume.write(0, new Uint8Array(blockBytes).fill(1), plain);
  await volume.close();
  const { segment } = await snapshotOf(store, 'drive', 'one');
  const device = await openSnapshot(store, 'one');
  forgetStore(store);
  const { id } = await findVolume(store, 'drive');
  const key = `volumes/${id}/segments/${segment.toString(16).padStart(8, '0')}-00000001`;
  const object = await store.get(key);
  await store.delete(key);
  const into = new Uint8Array(blockBytes);
  await expect(device.read(0, into)).rejects.toMatchObject({ code: 'corrupt' });
  await changeManifest({ store, random: seededRandom(1) }, id, (manifest) => ({
    ...manifest,
    snapshots: [],
  }));
  await expect(device.read(0, into)).rejects.toMatchObject({
    code: 'not-found',
    message: 'Snapshot one of volume drive was deleted while it was being read.',
  });
  // What is there again is read: nothing was taken for lost.
  await store.put(key, [object]);
  await device.read(0, into);
  expect(into[0]).toBe(1);
});
