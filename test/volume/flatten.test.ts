/** Clones that are made independent of their ancestors, which are deleted then. */
import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { StorageError } from '../../src/base/errors.ts';
import { listAll, type ObjectStore } from '../../src/base/object-store.ts';
import { seededRandom } from '../../src/base/random.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { wrapCalls } from '../../src/store/wrap-calls.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { checkVolume } from '../../src/volume/check.ts';
import { deleteVolume } from '../../src/volume/deletion.ts';
import { familyOf } from '../../src/volume/family.ts';
import { changeManifest } from '../../src/volume/manifest-change.ts';
import { findStoredMoment } from '../../src/volume/moment-reader.ts';
import { accountForSpace } from '../../src/volume/space-accounting.ts';
import { defaultSpaceSettings } from '../../src/volume/space-settings.ts';
import type { VolumeSettings } from '../../src/volume/settings.ts';
import { SnapshotReader, VersionMemory } from '../../src/volume/snapshot-reader.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { cloneOf } from '../support/clones.ts';
import { readAll, VolumeHost } from '../support/volume-host.ts';

const blockBytes = 4096;
const sizeBytes = 16 * 2 ** 20;
const random = seededRandom(21);
const keepAll = { mayForget: false };

/** What is dead is deleted when it is looked for; next to nothing is cached. */
const settings: Partial<VolumeSettings> = {
  space: { ...defaultSpaceSettings, bytesPerSecond: 2 ** 30, graceMs: 0, lookMs: 2 ** 30 },
  cacheBytes: 64 * 1024,
  diskCacheBytes: 0,
};

async function overwrite(volume: Volume, times: number): Promise<void> {
  for (let at = 0; at < times; at += 1) {
    const block = Math.floor(random.fraction() * (sizeBytes / blockBytes));
    await volume.write(block * blockBytes, random.bytes(blockBytes), { fua: false });
  }
}

async function snapshot(volume: Volume, name: string): Promise<void> {
  await volume.whenSnapshotCompleted((await volume.createSnapshot({ name })).id);
}

function isSame(found: Uint8Array, expected: Uint8Array): boolean {
  return Buffer.compare(found, expected) === 0;
}

function remove(store: ObjectStore, name: string): Promise<void> {
  return deleteVolume(store, name, { clock: systemClock, random });
}

/** `base`, of which half of what is written was compacted, and `base@cut`. */
async function withBase(store = createMemoryStore()) {
  const host = new VolumeHost(store, settings);
  await host.create({ name: 'base', sizeBytes });
  const base = await host.open('base');
  await base.write(0, random.bytes(sizeBytes / 2), { fua: false });
  await overwrite(base, 2000);
  await base.compact();
  await overwrite(base, 1000);
  await snapshot(base, 'cut');
  return { store, base, content: await readAll(base) };
}

/** Whether nothing is wrong with the volume, and all that lies there is accounted for. */
async function requireSound(store: ObjectStore, name: string): Promise<void> {
  const options = { clock: systemClock, readData: { part: 1, parts: 1 } };
  const report = await checkVolume(store, name, options);
  expect(report.problems).toEqual([]);
  const manifest = await findVolume(store, name);
  const account = await accountForSpace(store, systemClock, manifest);
  expect(account.unknownBytes).toBe(0);
  let listedBytes = 0;
  for await (const { sizeBytes: bytes } of listAll(store, `volumes/${manifest.id}/`))
    listedBytes += bytes;
  expect(account.storedBytes).toBe(listedBytes);
}

test('a clone of two generations is flattened while it is written, and needs nobody then', async () => {
  const { store, base } = await withBase();
  await cloneOf(store, 'base', 'cut', 'dev');
  const dev = await new VolumeHost(store, settings).open('dev');
  await overwrite(dev, 1500);
  await snapshot(dev, 'cut');
  const third = await cloneOf(store, 'dev', 'cut', 'test');
  const volume = await new VolumeHost(store, settings).open('test');
  await overwrite(volume, 500);
  await snapshot(volume, 'early');
  const early = await readAll(volume);
  await overwrite(volume, 500);
  await expect(dev.flatten(keepAll)).rejects.toMatchObject({
    code: 'in-use',
    message: 'Volume dev cannot be flattened: test is a clone of it. Flatten or delete that first.',
  });
  const flattening = volume.flatten(keepAll);
  await overwrite(volume, 1000);
  await overwrite(base, 2000);
  await base.compact();
  const flattened = await flattening;
  expect(flattened.wasClone).toBe(true);
  expect(flattened.storedBytes).toBeGreaterThan(blockBytes);
  const present = await readAll(volume);
  expect((await findVolume(store, 'test')).ancestors).toEqual([]);
  expect(
    (await findVolume(store, 'base')).snapshots.flatMap(({ clones }) => clones),
  ).not.toContainEqual(expect.objectContaining({ volumeId: third.id }));
  // Nothing that the volume has in RAM leads to where it was any more.
  await dev.close();
  await base.close();
  await remove(store, 'dev');
  await remove(store, 'base');
  expect(isSame(await readAll(volume), present)).toBe(true);
  await overwrite(volume, 1000);
  await volume.compact();
  const last = await readAll(volume);
  const changes = await volume.changesSince('early');
  expect(await changes?.status(0, sizeBytes, 10)).not.toEqual([]);
  await volume.close();
  await requireSound(store, 'test');
  const again = await new VolumeHost(store, settings).open('test');
  expect(isSame(await readAll(again), last)).toBe(true);
  await again.rollback('early');
  const back = await new VolumeHost(store, settings).open('test');
  expect(isSame(await readAll(back), early)).toBe(true);
  expect(await back.flatten(keepAll)).toMatchObject({ wasClone: false, storedBytes: 0 });
  await back.close();
  await requireSound(store, 'test');
  await cloneOf(store, 'test', 'early', 'fourth');
  const fourth = await new VolumeHost(store, settings).open('fourth');
  expect(isSame(await readAll(fourth), early)).toBe(true);
  await fourth.close();
});

test('what reads a snapshot of a clone goes on when the clone was flattened and its ancestor deleted', async () => {
  const { store, base, content } = await withBase();
  await base.close();
  await cloneOf(store, 'base', 'cut', 'dev');
  const volume = await new VolumeHost(store, settings).open('dev');
  await snapshot(volume, 'first');
  const manifest = await findVolume(store, 'dev');
  const memory = new VersionMemory(48 * blockBytes);
  const reader = new SnapshotReader({ store, clock: systemClock, memory });
  const first = manifest.snapshots.find(({ name }) => name === 'first');
  if (first === undefined) throw new Error('there is no snapshot');
  const open = await reader.open(manifest, first, { readaheadBytes: 0 });
  await open.read(0, new Uint8Array(blockBytes));
  await volume.flatten(keepAll);
  await remove(store, 'base');
  await overwrite(volume, 500);
  await volume.compact();
  const late = await reader.open(manifest, first, { readaheadBytes: 0 });
  for (const device of [open, late]) {
    const found = new Uint8Array(sizeBytes);
    await device.read(0, found);
    expect(isSame(found, content)).toBe(true);
    await device.close();
  }
  await volume.close();
});

test('a flattening that is interrupted at any request goes on where it was', async () => {
  const { store, base, content } = await withBase();
  await base.close();
  await cloneOf(store, 'base', 'cut', 'dev');
  let left = Number.POSITIVE_INFINITY;
  const failing = wrapCalls(store, (call) => {
    const isWrite = ['put', 'swap'].includes(call.operation);
    if (isWrite) left -= 1;
    if (left < 0) throw new StorageError('store-denied', 'the store is not to be written');
    return call.make();
  });
  let interruptions = 0;
  for (let writes = 1; ; writes += 1) {
    const volume = await new VolumeHost(failing, settings).open('dev');
    left = writes;
    const flattening = volume.flatten(keepAll);
    const isDone = await Promise.race([
      flattening.then(
        () => true,
        () => false,
      ),
      new Promise<boolean>((resolve) => {
        const look = (): void => {
          if (left < 0) resolve(false);
          else setTimeout(look, 1);
        };
        look();
      }),
    ]);
    left = Number.POSITIVE_INFINITY;
    flattening.catch(() => undefined);
    if (isDone) {
      await volume.close();
      break;
    }
    interruptions += 1;
    await volume.abandon();
    const host = new VolumeHost(store, settings);
    const found = await host.open('dev', { takeOver: 'now' });
    expect(isSame(await readAll(found), content)).toBe(true);
    await found.close();
    await requireSound(store, 'dev');
  }
  expect(interruptions).toBeGreaterThan(4);
  await remove(store, 'base');
  const volume = await new VolumeHost(store, settings).open('dev');
  expect(isSame(await readAll(volume), content)).toBe(true);
  await volume.close();
  await requireSound(store, 'dev');
});

test('the past that a clone keeps is given up by nobody who was not asked', async () => {
  const { store, base } = await withBase();
  await base.close();
  await cloneOf(store, 'base', 'cut', 'dev');
  const host = new VolumeHost(store, settings);
  await host.setRetention('dev', 3_600_000);
  const volume = await host.open('dev');
  await overwrite(volume, 100);
  await snapshot(volume, 'first');
  await expect.poll(() => volume.window).toBeDefined();
  const before = volume.logTimeMs;
  await overwrite(volume, 100);
  await snapshot(volume, 'second');
  await expect(volume.flatten(keepAll)).rejects.toMatchObject({
    code: 'usage',
    message: expect.stringContaining('--confirm dev') as string,
  });
  await volume.flatten({ mayForget: true });
  await overwrite(volume, 100);
  const present = await readAll(volume);
  await volume.flush();
  await remove(store, 'base');
  await expect(volume.asOf({ timeMs: before, flushed: false })).rejects.toMatchObject({
    code: 'usage',
    message: expect.stringContaining('or later') as string,
  });
  await new Promise((resolve) => setTimeout(resolve, 5));
  const asOf = { timeMs: volume.logTimeMs, flushed: false };
  const made = await volume.createSnapshot({ name: 'present', asOf });
  await overwrite(volume, 100);
  await volume.close();
  const manifest = await findVolume(store, 'dev');
  const reader = new SnapshotReader({
    ...{ store, clock: systemClock },
    memory: new VersionMemory(2 ** 20),
  });
  const device = await reader.open(manifest, made, { readaheadBytes: 0 });
  const found = new Uint8Array(sizeBytes);
  await device.read(0, found);
  expect(isSame(found, present)).toBe(true);
  const options = { store, clock: systemClock, settings: host.settings };
  const moment = await findStoredMoment(options, manifest, asOf);
  expect(moment.segment).toBe(made.segment);
  await requireSound(store, 'dev');
});

test('a damaged object of an ancestor is named, and the clone stays as it is', async () => {
  const { store, base } = await withBase();
  await base.close();
  const ancestor = await findVolume(store, 'base');
  await cloneOf(store, 'base', 'cut', 'dev');
  const volume = await new VolumeHost(store, settings).open('dev');
  let damaged = '';
  for await (const { key } of listAll(store, `volumes/${ancestor.id}/compacted/`)) damaged = key;
  const whole = await store.get(damaged);
  await store.delete(damaged);
  await expect(volume.flatten(keepAll)).rejects.toMatchObject({
    code: 'corrupt',
    message: expect.stringContaining(damaged) as string,
  });
  expect((await findVolume(store, 'dev')).ancestors).toHaveLength(1);
  await store.put(damaged, [whole]);
  await volume.flatten(keepAll);
  await volume.close();
  await requireSound(store, 'dev');
});

test('a pin that nobody needs any more keeps no ancestor', async () => {
  const { store, base } = await withBase();
  await base.close();
  const { id } = await findVolume(store, 'base');
  const dev = await cloneOf(store, 'base', 'cut', 'dev');
  const volume = await new VolumeHost(store, settings).open('dev');
  await volume.flatten(keepAll);
  await volume.close();
  // As one that was dropped late, or made for a clone whose source was flattened meanwhile.
  const pinned = await changeManifest({ store, random }, id, (manifest) => ({
    ...manifest,
    snapshots: manifest.snapshots.map((each) => ({
      ...each,
      clones: [{ volumeId: dev.id, since: new Date().toISOString() }],
    })),
  }));
  const context = { store, clock: systemClock, random };
  expect((await familyOf(context, pinned)).clones).toEqual([]);
  await remove(store, 'base');
});
