import { beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { type FaultPlan, withFaults } from '../../src/store/with-faults.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { cloneOf } from '../support/clones.ts';
import { readSnapshot } from '../support/snapshot-reader.ts';
import { readAll, VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const plain = { fua: false };
const plan: FaultPlan = {};
let host: VolumeHost;
let store: ObjectStore;

beforeEach(async () => {
  Object.assign(plan, { errorAfter: 0, only: () => true });
  const { random } = new VolumeHost(createMemoryStore());
  store = withFaults(createMemoryStore(), { clock: systemClock, random, plan });
  host = new VolumeHost(store);
  await host.create({ name: 'drive', sizeBytes: 16 * mebibyte });
});

function blocksOf(value: number, count = 1): Uint8Array {
  return new Uint8Array(count * 4096).fill(value);
}

async function snapshot(volume: Volume, name: string): Promise<void> {
  await volume.whenSnapshotCompleted((await volume.createSnapshot({ name })).id);
}

async function firstBytes(content: Promise<Uint8Array>): Promise<number[]> {
  const bytes = await content;
  return [bytes[0] ?? -1, bytes[4096] ?? -1];
}

test('a volume is again what it was at a snapshot, and what it was until then is one', async () => {
  const volume = await host.open('drive');
  await volume.write(0, blocksOf(1, 2), plain);
  await snapshot(volume, 'good');
  await volume.grow(32 * mebibyte);
  await volume.write(4096, blocksOf(2), plain);
  await volume.write(20 * mebibyte, blocksOf(3), plain);
  const { to, before } = await volume.rollback('good');
  expect(to.name).toBe('good');
  expect(before).toMatchObject({ isCompleted: true, sizeBytes: 32 * mebibyte });
  expect(before.name).toMatch(/^before-rollback-\d{4}-\d\d-\d\dT\d{6}Z$/);
  expect(volume.ended).toBe(true);

  const again = await host.open('drive');
  expect(again.sizeBytes).toBe(16 * mebibyte);
  expect(await firstBytes(readAll(again))).toEqual([1, 1]);
  await again.write(0, blocksOf(4), plain);
  await snapshot(again, 'later');
  await again.close();
  expect(await firstBytes(readSnapshot(store, 'drive', before.name))).toEqual([1, 2]);
  expect((await readSnapshot(store, 'drive', before.name))[20 * mebibyte]).toBe(3);
  expect(await firstBytes(readSnapshot(store, 'drive', 'good'))).toEqual([1, 1]);
  expect(await firstBytes(readSnapshot(store, 'drive', 'later'))).toEqual([4, 1]);

  // And forth again, from another host.
  const other = new VolumeHost(store);
  await (await other.open('drive')).rollback(before.name, 'undone');
  const forth = await other.open('drive');
  expect(await firstBytes(readAll(forth))).toEqual([1, 2]);
  expect(forth.sizeBytes).toBe(32 * mebibyte);
  expect(forth.snapshots.map(({ name }) => name)).toEqual(['good', before.name, 'later', 'undone']);
  await forth.close();
});

test('to before anything was written, and of what nothing was written to since', async () => {
  const volume = await host.open('drive');
  await snapshot(volume, 'empty');
  await volume.rollback('empty', 'first');
  const second = await host.open('drive');
  await second.write(0, blocksOf(1), plain);
  await snapshot(second, 'same');
  await second.rollback('same', 'second');
  const third = await host.open('drive');
  expect(await firstBytes(readAll(third))).toEqual([1, 0]);
  await third.rollback('empty', 'third');
  const last = await host.open('drive');
  expect(await firstBytes(readAll(last))).toEqual([0, 0]);
  await last.close();
  expect(await firstBytes(readSnapshot(store, 'drive', 'third'))).toEqual([1, 0]);
});

test('a clone that was never written is rolled back beside its ancestor', async () => {
  const volume = await host.open('drive');
  await volume.write(0, blocksOf(1), plain);
  await snapshot(volume, 'source');
  await volume.close();
  await cloneOf(store, 'drive', 'source', 'copy');
  const clone = await host.open('copy');
  await snapshot(clone, 'born');
  await clone.rollback('born', 'until-now');
  const source = await host.open('drive');
  await source.rollback('source', 'until-now');
  const again = await host.open('copy');
  await again.write(4096, blocksOf(2), plain);
  expect(await firstBytes(readAll(again))).toEqual([1, 2]);
  await again.close();
  expect(await firstBytes(readSnapshot(store, 'copy', 'until-now'))).toEqual([1, 0]);
});

test('it goes by one change of the manifest, found done when its answer was lost', async () => {
  const volume = await host.open('drive');
  await volume.write(0, blocksOf(1), plain);
  await snapshot(volume, 'good');
  await volume.write(0, blocksOf(2), plain);
  const { epoch } = volume.statistics();
  Object.assign(plan, { errorAfter: 0.5, only: (operation: string) => operation === 'swap' });
  await volume.rollback('good', 'before');
  Object.assign(plan, { errorAfter: 0 });
  const manifest = await findVolume(store, 'drive');
  expect(manifest.snapshots.map(({ name }) => name)).toEqual(['good', 'before']);
  expect(manifest.head).toMatchObject({ epoch, variant: 1 });
  expect(manifest.writer).toBe(undefined);
});

test('what cannot be leaves the volume as it is', async () => {
  const volume = await host.open('drive');
  await volume.write(0, blocksOf(1), plain);
  await expect(volume.rollback('none')).rejects.toMatchObject({ code: 'not-found' });
  await snapshot(volume, 'good');
  await volume.write(0, blocksOf(2), plain);
  await expect(volume.rollback('good', 'good')).rejects.toMatchObject({ code: 'already-exists' });
  const again = await host.open('drive');
  expect(await firstBytes(readAll(again))).toEqual([2, 0]);
  await again.close();
});

test('a crash before the change leaves the volume, one after it the snapshot', async () => {
  const volume = await host.open('drive');
  await volume.write(0, blocksOf(1), plain);
  await snapshot(volume, 'good');
  await volume.write(0, blocksOf(2), plain);
  // The new head is never stored, and the daemon killed.
  Object.assign(plan, {
    errorBefore: 1,
    only: (operation: string, key: string) => operation === 'put' && key.includes('checkpoints'),
  });
  const rollingBack = volume.rollback('good', 'before');
  const failed = rollingBack.then(
    () => 'done',
    () => 'ended',
  );
  await new Promise((resolve) => setTimeout(resolve, 30));
  await volume.abandon();
  expect(await failed).toBe('ended');
  Object.assign(plan, { errorBefore: 0 });
  const second = await host.open('drive');
  expect(await firstBytes(readAll(second))).toEqual([2, 0]);
  // The change is made, and giving the volume up fails.
  let swaps = 0;
  Object.assign(plan, {
    errorBefore: 1,
    only: (operation: string, key: string) => {
      if (operation !== 'swap' || !key.endsWith('manifest.json')) return false;
      swaps += 1;
      return swaps > 2;
    },
  });
  const again = second.rollback('good', 'before').catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 60));
  await second.abandon();
  await again;
  Object.assign(plan, { errorBefore: 0 });
  const manifest = await findVolume(store, 'drive');
  const isDone = manifest.snapshots.some(({ name }) => name === 'before');
  const third = await host.open('drive');
  expect(await firstBytes(readAll(third))).toEqual([isDone ? 1 : 2, 0]);
  await third.close();
});
