/** Clones whose ancestors are compacted around them, and clones that are compacted themselves. */
import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { seededRandom } from '../../src/base/random.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { deleteVolume } from '../../src/volume/deletion.ts';
import { changeManifest } from '../../src/volume/manifest-change.ts';
import { removeSnapshot } from '../../src/volume/snapshot-changes.ts';
import { defaultSpaceSettings } from '../../src/volume/space-settings.ts';
import type { VolumeSettings } from '../../src/volume/settings.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { cloneOf } from '../support/clones.ts';
import { readAll, VolumeHost } from '../support/volume-host.ts';

const blockBytes = 4096;
const sizeBytes = 16 * 2 ** 20;
const random = seededRandom(12);

/** What is dead is deleted at once, when it is looked for; next to nothing is cached. */
const settings: Partial<VolumeSettings> = {
  space: { ...defaultSpaceSettings, bytesPerSecond: 2 ** 30, graceMs: 0, lookMs: 2 ** 30 },
  cacheBytes: 64 * 1024,
  diskCacheBytes: 0,
};

/** Overwrites blocks here and there, so that every segment keeps some of its blocks. */
async function overwrite(volume: Volume, times: number): Promise<void> {
  for (let at = 0; at < times; at += 1) {
    const block = Math.floor(random.fraction() * (sizeBytes / blockBytes));
    await volume.write(block * blockBytes, random.bytes(blockBytes), { fua: false });
  }
}

function isSame(found: Uint8Array, expected: Uint8Array): boolean {
  return Buffer.compare(found, expected) === 0;
}

test('clones of two generations read what their ancestors have moved and deleted meanwhile', async () => {
  const store = createMemoryStore();
  const host = new VolumeHost(store, settings);
  await host.create({ name: 'base', sizeBytes });
  const base = await host.open('base');
  await base.write(0, random.bytes(sizeBytes), { fua: false });
  await overwrite(base, 3000);
  await base.whenSnapshotCompleted((await base.createSnapshot({ name: 'cut' })).id);
  const ofBase = await readAll(base);
  await cloneOf(store, 'base', 'cut', 'dev');

  const dev = await new VolumeHost(store, settings).open('dev');
  await overwrite(dev, 2000);
  await dev.whenSnapshotCompleted((await dev.createSnapshot({ name: 'cut' })).id);
  const ofDev = await readAll(dev);
  await cloneOf(store, 'dev', 'cut', 'test');
  const third = await new VolumeHost(store, settings).open('test');
  // What is known of objects before they are moved is known from here on.
  expect(isSame(await readAll(third), ofDev)).toBe(true);

  for (let round = 0; round < 3; round += 1) {
    await overwrite(base, 3000);
    await overwrite(dev, 3000);
    const [baseNow, devNow] = [await readAll(base), await readAll(dev)];
    expect((await base.compact()).deletedBytes).toBeGreaterThan(0);
    await dev.compact();
    await third.compact();
    expect(isSame(await readAll(third), ofDev)).toBe(true);
    expect(isSame(await readAll(dev), devNow)).toBe(true);
    expect(isSame(await readAll(base), baseNow)).toBe(true);
  }
  const { placement } = await findVolume(store, 'base');
  expect(placement).toBeDefined();
  await third.close();
  await dev.close();

  // From the store alone, and again as of the snapshots.
  const again = await new VolumeHost(store, settings).open('test');
  expect(isSame(await readAll(again), ofDev)).toBe(true);
  await overwrite(again, 4000);
  const own = await readAll(again);
  await again.compact();
  expect(isSame(await readAll(again), own)).toBe(true);
  await again.close();
  await cloneOf(store, 'base', 'cut', 'late');
  const late = await new VolumeHost(store, settings).open('late');
  expect(isSame(await readAll(late), ofBase)).toBe(true);
  await late.close();
  await base.close();
});

test('what only a clone needed is given back when it is deleted', async () => {
  const store = createMemoryStore();
  const host = new VolumeHost(store, settings);
  await host.create({ name: 'base', sizeBytes });
  const base = await host.open('base');
  await base.write(0, random.bytes(sizeBytes), { fua: false });
  const { id } = await base.createSnapshot({ name: 'cut' });
  await base.whenSnapshotCompleted(id);
  await cloneOf(store, 'base', 'cut', 'dev');
  await base.trim(0, sizeBytes, { fua: true });
  await base.compact();
  await expect(base.deleteSnapshot(id)).rejects.toMatchObject({ code: 'in-use' });
  const dev = await new VolumeHost(store, settings).open('dev');
  expect((await readAll(dev)).every((byte) => byte === 0)).toBe(false);
  await dev.close();
  await deleteVolume(store, 'dev', { clock: systemClock, random });
  // As the command does, for the writer has not looked at its manifest since.
  const { id: baseId } = await findVolume(store, 'base');
  await changeManifest({ store, random }, baseId, (manifest) => removeSnapshot(manifest, id));
  await base.flush();
  expect((await base.compact()).deletedBytes).toBeGreaterThan(sizeBytes / 2);
  await base.close();
});
