import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { blockBytes, pageBlocks } from '../../src/format/geometry.ts';
import type { Manifest } from '../../src/format/manifest.ts';
import { nowhere } from '../../src/format/map-page.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { withMetrics } from '../../src/store/with-metrics.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import type { MapVersion } from '../../src/volume/map-version.ts';
import { PageCache } from '../../src/volume/page-cache.ts';
import { onlyHeldBytes, storedProgress } from '../../src/volume/snapshot-usage.ts';
import { presentVersion, snapshotVersion } from '../../src/volume/stored-version.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { cloneOf } from '../support/clones.ts';
import { VolumeHost } from '../support/volume-host.ts';

const plain = { fua: false };
const blockCount = 3 * pageBlocks;

function pick(random: Random, count: number): number {
  return Math.floor(random.fraction() * count);
}

async function snapshotOf(volume: Volume, name: string): Promise<void> {
  const { id } = await volume.createSnapshot({ name });
  await volume.whenSnapshotCompleted(id);
}

async function change(volume: Volume, random: Random): Promise<void> {
  for (let count = 0; count < 6; count += 1) {
    const length = 1 + pick(random, 40);
    // Near the start of a page, so that ranges meet.
    const first = pick(random, 3) * pageBlocks + pick(random, 200);
    const bytes = new Uint8Array(length * blockBytes).fill(1 + pick(random, 255));
    if (random.fraction() < 0.2) await volume.trim(first * blockBytes, bytes.byteLength, plain);
    else await volume.write(first * blockBytes, bytes, plain);
  }
}

/** Every block of every segment that a version holds. */
async function blocksOf(version: MapVersion, after: number): Promise<Set<string>> {
  const held = new Set<string>();
  for (const pageIndex of version.pageIndices()) {
    (await version.load(pageIndex)).forEachRun((_start, count, segment, index) => {
      if (segment === nowhere.segment || segment <= after) return;
      for (let at = 0; at < count; at += 1) held.add(`${segment} ${index + at}`);
    });
  }
  return held;
}

/** What each snapshot alone holds, found by listing all blocks of all versions. */
async function expectedBytes(store: ObjectStore, manifest: Manifest): Promise<number[]> {
  const pages = new PageCache(2 ** 20);
  const after = manifest.ancestors.at(-1)?.lastSegment ?? 0;
  const versions = [await presentVersion(store, manifest, pages, 4)];
  for (const { id } of manifest.snapshots)
    versions.push(await snapshotVersion(store, manifest, id, pages));
  const held = await Promise.all(versions.map((version) => blocksOf(version, after)));
  const [, ...snapshots] = held;
  return snapshots.map((blocks) => {
    const others = held.filter((each) => each !== blocks);
    const only = [...blocks].filter((block) => others.every((other) => !other.has(block)));
    return only.length * blockBytes;
  });
}

test('what only a snapshot holds is what no other has, nor the volume, block for block', async () => {
  const random = seededRandom(4);
  const host = new VolumeHost(createMemoryStore());
  await host.create({ name: 'drive', sizeBytes: blockCount * blockBytes });
  const volume = await host.open('drive');
  for (let round = 0; round < 7; round += 1) {
    await change(volume, random);
    await snapshotOf(volume, `s${round}`);
  }
  await volume.deleteSnapshot(volume.snapshots[3]?.id ?? '');
  await change(volume, random);
  await volume.flush();
  await volume.close();
  const manifest = await findVolume(host.store, 'drive');
  const expected = await expectedBytes(host.store, manifest);
  expect(expected.filter((bytes) => bytes > 0).length).toBeGreaterThan(3);
  for (const [at, snapshot] of manifest.snapshots.entries())
    expect(await onlyHeldBytes(host.store, manifest, snapshot)).toBe(expected[at]);
});

test('what a clone has of its ancestor is not held by its snapshots alone', async () => {
  const random = seededRandom(5);
  const host = new VolumeHost(createMemoryStore());
  await host.create({ name: 'drive', sizeBytes: blockCount * blockBytes });
  const volume = await host.open('drive');
  await change(volume, random);
  await snapshotOf(volume, 'source');
  await volume.close();
  await cloneOf(host.store, 'drive', 'source', 'copy');
  const clone = await host.open('copy');
  await clone.write(0, new Uint8Array(blockBytes).fill(1), plain);
  await snapshotOf(clone, 'first');
  await clone.trim(0, blockCount * blockBytes, plain);
  await clone.close();
  const manifest = await findVolume(host.store, 'copy');
  const [first] = manifest.snapshots;
  if (first === undefined) throw new Error('no snapshot');
  expect(await onlyHeldBytes(host.store, manifest, first)).toBe(blockBytes);
  expect(await expectedBytes(host.store, manifest)).toEqual([blockBytes]);
});

test('pages that another version has at the same place are not read for it', async () => {
  const measured = withMetrics(createMemoryStore(), { clock: systemClock });
  const host = new VolumeHost(measured);
  await host.create({ name: 'drive', sizeBytes: 64 * pageBlocks * blockBytes });
  const volume = await host.open('drive');
  const one = new Uint8Array(blockBytes).fill(1);
  for (let page = 0; page < 64; page += 1)
    await volume.write(page * pageBlocks * blockBytes, one, plain);
  await snapshotOf(volume, 'all');
  await volume.write(5 * pageBlocks * blockBytes, one, plain);
  await volume.close();
  const manifest = await findVolume(host.store, 'drive');
  const [all] = manifest.snapshots;
  if (all === undefined) throw new Error('no snapshot');
  const gets = (): number => measured.snapshot().operations.get.requests;
  const before = gets();
  expect(await onlyHeldBytes(host.store, manifest, all)).toBe(blockBytes);
  // Two page tables, and the one page of both that differs.
  expect(gets() - before).toBeLessThanOrEqual(4);
});

test('the store tells how far a pending snapshot is', async () => {
  const host = new VolumeHost(createMemoryStore(), { checkpointIdleMs: 60_000 });
  await host.create({ name: 'drive', sizeBytes: blockCount * blockBytes, durability: 'store' });
  const volume = await host.open('drive');
  const one = new Uint8Array(blockBytes);
  await volume.write(0, one, { fua: true });
  await volume.write(0, one, { fua: true });
  const manifest = await findVolume(host.store, 'drive');
  const made = await volume.createSnapshot({ name: 'late' });
  const pending = { ...made, isCompleted: false, checkpoint: undefined, segment: 3 };
  const progress = await storedProgress(host.store, manifest, pending);
  expect(progress).toEqual({ segments: 3, storedSegments: 2 });
  await volume.close();
});
