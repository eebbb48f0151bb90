import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { toStorageError } from '../../src/base/errors.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { type FaultPlan, withFaults } from '../../src/store/with-faults.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { changeManifest } from '../../src/volume/manifest-change.ts';
import { removeSnapshot, snapshotLimits } from '../../src/volume/snapshot-changes.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { readSnapshot } from '../support/snapshot-reader.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { readAll, VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const plain = { fua: false };

function blocksOf(value: number, count = 1): Uint8Array {
  return new Uint8Array(count * 4096).fill(value);
}

interface Attached {
  readonly host: VolumeHost;
  readonly volume: Volume;
}

async function attached(settings = {}, sizeBytes = 16 * mebibyte): Promise<Attached> {
  const host = new VolumeHost(createMemoryStore(), settings);
  await host.create({ name: 'drive', sizeBytes });
  return { host, volume: await host.open('drive') };
}

/** The code of the error that it ends with. */
function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'no error',
    (error: unknown) => toStorageError(error).code,
  );
}

/** What a snapshot has in its first blocks, a number for each. */
async function firstBlocks(host: VolumeHost, name: string, count: number): Promise<number[]> {
  const content = await readSnapshot(host.store, 'drive', name);
  return Array.from({ length: count }, (_, block) => content[block * 4096] ?? -1);
}

async function namesIn(host: VolumeHost): Promise<string[]> {
  return (await findVolume(host.store, 'drive')).snapshots.map(({ name }) => name);
}

describe('a snapshot', () => {
  test('has what was answered before it was asked for, and nothing later', async () => {
    const { host, volume } = await attached();
    await volume.write(0, blocksOf(1), plain);
    const made = await volume.createSnapshot({ name: 'first' });
    await volume.write(4096, blocksOf(2), plain);
    const completed = await volume.whenSnapshotCompleted(made.id);
    // A journal file is ready for what follows the cut, which is therefore made in this very step.
    const making = volume.createSnapshot({ name: 'second' });
    const writing = volume.write(0, blocksOf(3), plain);
    await making;
    await writing;
    expect(completed).toMatchObject({ ...made, isCompleted: true, checkpoint: { segment: 1 } });
    expect(await firstBlocks(host, 'first', 2)).toEqual([1, 0]);
    await volume.close();
    expect(await firstBlocks(host, 'first', 2)).toEqual([1, 0]);
    expect(await firstBlocks(host, 'second', 2)).toEqual([1, 2]);
  });

  test('is one instant, whatever many writers do at the time', async () => {
    const { host, volume } = await attached({ checkpointSegments: 1 });
    const load = { isOver: false };
    const placesOf = (lane: number): [number, number] => [lane * 8192, 8 * mebibyte + lane * 8192];
    const write = async (lane: number): Promise<void> => {
      const [first, second] = placesOf(lane);
      for (let round = 1; !load.isOver; round += 1) {
        // The second is asked for when the first is answered.
        await volume.write(first, blocksOf(round), plain);
        await volume.write(second, blocksOf(round), plain);
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    const lanes = [0, 1, 2];
    const writing = lanes.map(write);
    const names: string[] = [];
    for (let at = 0; at < 12; at += 1) {
      const { id, name } = await volume.createSnapshot({ name: `at-${at}` });
      names.push(name);
      if (at % 3 === 0) await volume.whenSnapshotCompleted(id);
    }
    load.isOver = true;
    await Promise.all(writing);
    await volume.close();
    const { snapshots } = await findVolume(host.store, 'drive');
    expect(snapshots.map(({ name }) => name)).toEqual(names);
    for (const { name, isCompleted } of snapshots) {
      expect(isCompleted).toBe(true);
      const content = await readSnapshot(host.store, 'drive', name);
      for (const lane of lanes) {
        const [first = 0, second = 0] = placesOf(lane).map((at) => content[at]);
        expect([0, 1]).toContain((first - second + 256) % 256);
      }
    }
  });

  test('of a volume that was never written is completed at once, and empty', async () => {
    const { host, volume } = await attached();
    const made = await volume.createSnapshot({});
    expect(made).toMatchObject({ segment: 0, checkpoint: undefined, isCompleted: true });
    await volume.write(0, blocksOf(1), plain);
    await volume.close();
    expect(await firstBlocks(host, made.id, 1)).toEqual([0]);
  });

  test('of what is in the checkpoint already is completed by the one change of the manifest', async () => {
    const { host, volume } = await attached();
    await volume.write(0, blocksOf(1), plain);
    await volume.close();
    const again = await host.open('drive');
    const made = await again.createSnapshot({ name: 'whole' });
    expect(made).toMatchObject({ isCompleted: true, checkpoint: { segment: 1, epoch: 1 } });
    expect(await again.createSnapshot({ name: 'same' })).toMatchObject({ segment: 1 });
    await again.close();
    expect(await firstBlocks(host, 'same', 1)).toEqual([1]);
  });

  test('says when it was made and how large the volume was, and keeps what people say of it', async () => {
    const clock = new VirtualClock();
    const host = new VolumeHost(createMemoryStore(), {}, 1, clock);
    await host.create({ name: 'drive', sizeBytes: mebibyte });
    const volume = await host.open('drive');
    const wish = { description: 'release 7', tags: { service: 'billing' } };
    const made = await volume.createSnapshot(wish);
    const second = await volume.createSnapshot({});
    const third = await volume.createSnapshot({});
    expect(made).toMatchObject({ ...wish, sizeBytes: mebibyte, clones: [] });
    expect(made.createdAt).toBe(new Date(clock.wallMs()).toISOString());
    const time = made.createdAt.slice(0, 19).replaceAll(':', '');
    expect([made, second, third].map(({ name }) => name)).toEqual([
      `${time}Z`,
      `${time}Z-2`,
      `${time}Z-3`,
    ]);
    expect(new Set([made.id, second.id, third.id]).size).toBe(3);
    expect(made.id).toMatch(/^[0-9a-f]{32}$/);
    await volume.abandon();
    const again = await findVolume(host.store, 'drive');
    expect(again.snapshots[0]).toEqual(made);
  });

  test('needs a name of its own, and one that can be one', async () => {
    const { volume } = await attached();
    await volume.createSnapshot({ name: 'daily' });
    await expect(volume.createSnapshot({ name: 'daily' })).rejects.toMatchObject({
      code: 'already-exists',
    });
    const both = await Promise.allSettled([1, 2].map(() => volume.createSnapshot({ name: 'one' })));
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const long = 'x'.repeat(snapshotLimits.descriptionCharacters + 1);
    for (const wish of [{ name: 'a:b' }, { name: '' }, { description: long }, { tags: { '': '' } }])
      await expect(volume.createSnapshot(wish)).rejects.toMatchObject({ code: 'usage' });
    await volume.close();
  });
});

describe('a pending snapshot', () => {
  async function cutOff(settings = {}): Promise<Attached & { readonly plan: FaultPlan }> {
    const plan: FaultPlan = { only: (operation) => operation === 'put' };
    const options = { clock: systemClock, random: new VolumeHost(createMemoryStore()).random };
    const store = withFaults(createMemoryStore(), { ...options, plan });
    const host = new VolumeHost(store, settings);
    await host.create({ name: 'drive', sizeBytes: 16 * mebibyte });
    return { plan, host, volume: await host.open('drive') };
  }

  test('says how far it is, is never gone past, and is completed when the store is back', async () => {
    const { plan, host, volume } = await cutOff();
    plan.errorBefore = 1;
    await volume.write(0, blocksOf(1), plain);
    const { id, isCompleted } = await volume.createSnapshot({ name: 'cut' });
    expect(isCompleted).toBe(false);
    await volume.write(0, blocksOf(2), plain);
    const later = await volume.createSnapshot({ name: 'later' });
    await volume.write(0, blocksOf(3), plain);
    const [first, second] = volume.snapshots;
    expect(first?.progress).toEqual({ segments: 1, storedSegments: 0 });
    expect(second?.progress).toEqual({ segments: 2, storedSegments: 0 });
    plan.errorBefore = 0;
    const done = await volume.whenSnapshotCompleted(later.id);
    expect(done.isCompleted).toBe(true);
    expect((await volume.whenSnapshotCompleted(id)).checkpoint?.segment).toBe(1);
    expect(volume.snapshots.map(({ progress }) => progress)).toEqual([undefined, undefined]);
    expect(await firstBlocks(host, 'cut', 1)).toEqual([1]);
    expect(await firstBlocks(host, 'later', 1)).toEqual([2]);
    await volume.close();
  });

  test('is completed by whoever attaches the volume next on the same disk', async () => {
    const { plan, host, volume } = await cutOff();
    await volume.write(0, blocksOf(1), plain);
    plan.errorBefore = 1;
    await volume.createSnapshot({ name: 'cut' });
    await volume.write(0, blocksOf(2), plain);
    await volume.abandon();
    plan.errorBefore = 0;
    const again = await host.open('drive');
    const [found] = again.snapshots;
    await again.write(4096, blocksOf(3), plain);
    await again.whenSnapshotCompleted(found?.id ?? '');
    expect(await firstBlocks(host, 'cut', 2)).toEqual([1, 0]);
    expect((await readAll(again))[0]).toBe(2);
    await again.close();
  });

  test('is lost with the disk that alone had some of it', async () => {
    const { plan, host, volume } = await cutOff();
    await volume.write(0, blocksOf(1), plain);
    await volume.whenSnapshotCompleted((await volume.createSnapshot({ name: 'whole' })).id);
    plan.errorBefore = 1;
    await volume.write(0, blocksOf(2), plain);
    await volume.createSnapshot({ name: 'lost' });
    await volume.abandon();
    plan.errorBefore = 0;
    const other = await new VolumeHost(host.store).open('drive', { takeOver: 'now' });
    expect(await namesIn(host)).toEqual(['whole']);
    await other.write(0, blocksOf(3), plain);
    await other.close();
    expect(await firstBlocks(host, 'whole', 1)).toEqual([1]);
  });

  test('is completed by a host that has all of it from the store', async () => {
    const { plan, host, volume } = await cutOff();
    plan.only = (operation, key) => operation === 'put' && !key.includes('/segments/');
    plan.errorBefore = 1;
    await volume.write(0, blocksOf(1), plain);
    await volume.createSnapshot({ name: 'cut' });
    await expect
      .poll(() => volume.snapshots[0]?.progress)
      .toEqual({ segments: 1, storedSegments: 1 });
    await volume.abandon();
    plan.errorBefore = 0;
    const other = await new VolumeHost(host.store).open('drive', { takeOver: 'now' });
    await other.write(0, blocksOf(2), plain);
    await other.close();
    expect(await firstBlocks(host, 'cut', 1)).toEqual([1]);
  });

  test('can be deleted, which whoever waits for it is told', async () => {
    const { plan, host, volume } = await cutOff();
    plan.errorBefore = 1;
    await volume.write(0, blocksOf(1), plain);
    const { id } = await volume.createSnapshot({ name: 'cut' });
    const waiting = codeOf(volume.whenSnapshotCompleted(id));
    await volume.deleteSnapshot(id);
    expect(await waiting).toBe('not-found');
    plan.errorBefore = 0;
    await volume.close();
    expect(await namesIn(host)).toEqual([]);
  });

  test('leaves room in the journal: there are only so many at a time', async () => {
    const { plan, volume } = await cutOff({ journalBytes: 256 * mebibyte });
    plan.errorBefore = 1;
    for (let at = 0; at < snapshotLimits.pending; at += 1) {
      await volume.write(0, blocksOf(at), plain);
      await volume.createSnapshot({ name: `cut-${at}` });
    }
    await expect(volume.createSnapshot({})).rejects.toMatchObject({ code: 'store-unavailable' });
    plan.errorBefore = 0;
    await volume.whenSnapshotCompleted(volume.snapshots.at(-1)?.id ?? '');
    await volume.createSnapshot({});
    await volume.close();
  });

  test('ends with its volume for who waits for it', async () => {
    const { plan, volume } = await cutOff();
    plan.errorBefore = 1;
    await volume.write(0, blocksOf(1), plain);
    const { id } = await volume.createSnapshot({});
    plan.only = () => true;
    const ends = Promise.all([
      codeOf(volume.whenSnapshotCompleted(id)),
      codeOf(volume.createSnapshot({})),
    ]);
    await new Promise((resolve) => setTimeout(resolve, 20));
    await volume.abandon();
    expect(await ends).toEqual(['shutting-down', 'shutting-down']);
    plan.errorBefore = 0;
  });
});

describe('deleting', () => {
  test('leaves the others as they are, and gives the name free', async () => {
    const { host, volume } = await attached();
    for (const value of [1, 2, 3]) {
      await volume.write(0, blocksOf(value), plain);
      await volume.whenSnapshotCompleted((await volume.createSnapshot({ name: `s${value}` })).id);
    }
    await volume.deleteSnapshot(volume.snapshots[1]?.id ?? '');
    expect(await namesIn(host)).toEqual(['s1', 's3']);
    expect(await firstBlocks(host, 's1', 1)).toEqual([1]);
    expect(await firstBlocks(host, 's3', 1)).toEqual([3]);
    await volume.createSnapshot({ name: 's2' });
    await volume.close();
  });

  test('is refused while clones read what it holds, with their ids', async () => {
    const { host, volume } = await attached();
    const { id } = await volume.createSnapshot({ name: 'parent' });
    const clones = [{ volumeId: 'c'.repeat(32), since: '2026-01-01T00:00:00.000Z' }];
    const { id: volumeId } = await findVolume(host.store, 'drive');
    await changeManifest(host, volumeId, (manifest) => ({
      ...manifest,
      snapshots: manifest.snapshots.map((snapshot) => ({ ...snapshot, clones })),
    }));
    await expect(volume.deleteSnapshot(id)).rejects.toMatchObject({
      code: 'in-use',
      message: expect.stringContaining('c'.repeat(32)) as string,
    });
    await volume.close();
  });

  test('by another host is tolerated by the writer, whose own next change keeps it', async () => {
    const { host, volume } = await attached();
    await volume.write(0, blocksOf(1), plain);
    const { id } = await volume.createSnapshot({ name: 'first' });
    await volume.whenSnapshotCompleted(id);
    const { id: volumeId } = await findVolume(host.store, 'drive');
    await changeManifest(host, volumeId, (manifest) => removeSnapshot(manifest, id));
    await volume.write(0, blocksOf(2), plain);
    await volume.createSnapshot({ name: 'second' });
    expect(volume.snapshots.map(({ name }) => name)).toEqual(['second']);
    await volume.close();
    expect(await namesIn(host)).toEqual(['second']);
  });
});
