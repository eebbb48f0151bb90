import { expect, test } from 'vitest';
import { StorageError } from '../../src/base/errors.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import type { Manifest } from '../../src/format/manifest.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { deleteVolume } from '../../src/volume/deletion.ts';
import { changeManifest } from '../../src/volume/manifest-change.ts';
import type { LeaseWatch } from '../../src/volume/take-over.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { VolumeHost } from '../support/volume-host.ts';

const leaseMs = 60_000;
const block = new Uint8Array(4096).fill(7);

/** Two hosts, each with a clock of its own, of which the first has the volume. */
async function heldVolume() {
  const store = createMemoryStore();
  const [clock, otherClock] = [new VirtualClock(), new VirtualClock()];
  const settings = { leaseMs, uploadIntervalMs: 1000 };
  const host = new VolumeHost(store, settings, 1, clock);
  const other = new VolumeHost(store, settings, 2, otherClock);
  await host.create({ name: 'drive', sizeBytes: 2 ** 20, durability: 'store' });
  const volume = await host.open('drive');
  return { host, other, volume, clock, otherClock };
}

test('a volume whose writer is dead is taken after its lease, not before', async () => {
  const { other, volume, clock, otherClock } = await heldVolume();
  const written = volume.write(0, block, { fua: false });
  await clock.advance(10);
  await written;
  const flushed = volume.flush();
  await clock.advance(10);
  await flushed;
  await volume.abandon();
  const watched: LeaseWatch[] = [];
  let open = false;
  const opening = other.open('drive', {
    takeOver: 'when-dead',
    onWatch: (watch) => watched.push(watch),
  });
  void opening.then(() => {
    open = true;
  });
  await otherClock.advance(leaseMs - 1);
  expect(open).toBe(false);
  expect(watched[0]).toMatchObject({ volume: 'drive', remainingMs: leaseMs, leaseMs });
  expect(watched.at(-1)?.remainingMs).toBeLessThan(leaseMs / 20);
  await otherClock.advance(2);
  const taken = await opening;
  const found = new Uint8Array(4096);
  await taken.read(0, found);
  expect(found).toEqual(block);
  await taken.abandon();
});

test('what others change in the manifest of a dead writer is no sign of life', async () => {
  const { host, other, volume, otherClock } = await heldVolume();
  await volume.abandon();
  const { store, random } = host;
  const { id } = await findVolume(store, 'drive');
  const opening = other.open('drive', { takeOver: 'when-dead' });
  await otherClock.advance(leaseMs / 2);
  await changeManifest({ store, random }, id, (manifest) => ({ ...manifest, sizeBytes: 2 ** 21 }));
  await otherClock.advance(leaseMs / 2 + 1);
  const taken = await opening;
  expect(taken.sizeBytes).toBe(2 ** 21);
  await taken.abandon();
});

test('a writer that lives keeps its volume, and whoever waited for its lease is told', async () => {
  const { host, other, volume, clock, otherClock } = await heldVolume();
  const opening = other.open('drive', { takeOver: 'when-dead' });
  const refusal = opening.then(
    () => undefined,
    (error: unknown) => error,
  );
  await otherClock.advance(leaseMs / 2);
  await clock.advance(leaseMs / 2);
  await otherClock.advance(leaseMs / 2);
  expect(await refusal).toMatchObject({
    code: 'held',
    message: expect.stringMatching(`attached on ${host.name} .*alive.*--force`) as string,
  });
  expect(volume.ended).toBe(false);
  await volume.abandon();
});

test('a volume that is given up while its lease is watched is taken at once', async () => {
  const { other, volume, otherClock } = await heldVolume();
  const opening = other.open('drive', { takeOver: 'when-dead' });
  await otherClock.advance(leaseMs / 10);
  await volume.close();
  await otherClock.advance(leaseMs / 10);
  const taken = await opening;
  expect(taken.statistics().epoch).toBe(2);
  await taken.abandon();
});

test('waiting for a lease ends when it is told to', async () => {
  const { other, volume } = await heldVolume();
  const controller = new AbortController();
  const opening = other.open('drive', { takeOver: 'when-dead', signal: controller.signal });
  await Promise.resolve();
  controller.abort();
  await expect(opening).rejects.toMatchObject({ code: 'shutting-down' });
  await volume.abandon();
});

test('force takes the volume from a writer that lives, which then stops and says who has it', async () => {
  const { other, volume, clock } = await heldVolume();
  const taken = await other.open('drive', { takeOver: 'now' });
  await clock.advance(leaseMs);
  expect(volume.statistics().failure).toContain(`taken by ${other.name} (epoch 2`);
  expect(() => volume.read(0, new Uint8Array(4096))).toThrow(
    expect.objectContaining({ code: 'lost-ownership' }),
  );
  await volume.abandon();
  await taken.abandon();
});

test('force is not put off by a writer that changes its manifest meanwhile', async () => {
  const { host, other, volume, clock } = await heldVolume();
  let swaps = 0;
  const { store } = other;
  const busy = new VolumeHost(
    {
      ...store,
      swap: async (...args) => {
        swaps += 1;
        // The writer is faster, three times.
        if (swaps <= 3) await clock.advance(leaseMs / 3);
        return store.swap(...args);
      },
    },
    host.settings,
    3,
    new VirtualClock(),
  );
  const taken = await busy.open('drive', { takeOver: 'now' });
  expect(taken.statistics().epoch).toBe(2);
  await volume.abandon();
  await taken.abandon();
});

test('of two that attach a free volume at once, the second is told who was first', async () => {
  const { host, other, volume } = await heldVolume();
  await volume.close();
  const opened = await Promise.allSettled([host.open('drive'), other.open('drive')]);
  const [winner] = opened.filter((each) => each.status === 'fulfilled');
  const [loser] = opened.filter((each) => each.status === 'rejected');
  expect(loser?.reason).toMatchObject({ code: 'held' });
  await winner?.value.abandon();
});

test('a volume that a dead writer has is deleted after its lease, one that lives by force alone', async () => {
  const { other, volume, clock, otherClock } = await heldVolume();
  const { store, random } = other;
  const remove = (takeOver: 'when-dead' | 'now'): Promise<void> =>
    deleteVolume(store, 'drive', { clock: otherClock, random, takeOver });
  const refused = remove('when-dead').catch((error: unknown) => error);
  await clock.advance(leaseMs / 2);
  await otherClock.advance(leaseMs);
  expect(await refused).toMatchObject({ code: 'held' });
  const put = volume.write(0, block, { fua: true });
  await clock.advance(10);
  await put;
  await remove('now');
  await clock.advance(leaseMs);
  expect(volume.statistics().failure).toContain('was deleted: its manifest is gone');
  await expect(other.open('drive')).rejects.toMatchObject({ code: 'not-found' });
  await volume.abandon();
});

test('a deletion that was interrupted is taken up again', async () => {
  const { other, volume, otherClock: clock } = await heldVolume();
  await volume.close();
  const { store, random } = other;
  const failing = { ...store, remove: () => Promise.reject(new Error('gone')) };
  await expect(deleteVolume(failing, 'drive', { clock, random })).rejects.toThrow('gone');
  await expect(other.open('drive')).rejects.toThrow('a host that deletes it');
  await deleteVolume(store, 'drive', { clock, random });
  expect((await store.list('')).keys).toEqual([]);
});

/** A store that loses the first answer to a change for which `isIt` holds, after another made `change` over it. */
function changedUnseen(
  store: ObjectStore,
  isIt: (manifest: string) => boolean,
  change: (manifest: Manifest) => Manifest,
): { readonly losing: ObjectStore; readonly wasLost: () => boolean } {
  const { random } = new VolumeHost(store);
  let isLost = false;
  const losing: ObjectStore = {
    ...store,
    swap: async (key, expected, value, options) => {
      const version = await store.swap(key, expected, value, options);
      const isManifest = expected !== undefined && key.endsWith('.json');
      if (isLost || !isManifest || !isIt(new TextDecoder().decode(value))) return version;
      isLost = true;
      const { id } = await findVolume(store, 'drive');
      await changeManifest({ store, random }, id, change);
      throw new StorageError('store-unavailable', 'the answer is lost');
    },
  };
  return { losing, wasLost: () => isLost };
}

test('a volume is given up although the answer was lost and it was cloned at once', async () => {
  const store = createMemoryStore();
  const { losing, wasLost } = changedUnseen(
    store,
    (manifest) => manifest.includes('"writer": null'),
    (manifest) => ({ ...manifest }),
  );
  const host = new VolumeHost(losing);
  await host.create({ name: 'drive', sizeBytes: 2 ** 20 });
  const volume = await host.open('drive');
  await volume.write(0, block, { fua: false });
  await volume.close();
  expect(wasLost()).toBe(true);
  expect(await findVolume(store, 'drive')).toMatchObject({ epoch: 1, writer: undefined });
});

test('a snapshot that was deleted before its answer came, which was lost, is not made again', async () => {
  const store = createMemoryStore();
  const { losing, wasLost } = changedUnseen(
    store,
    (manifest) => manifest.includes('"name": "early"'),
    (manifest) => ({ ...manifest, snapshots: [] }),
  );
  const host = new VolumeHost(losing);
  await host.create({ name: 'drive', sizeBytes: 2 ** 20 });
  const volume = await host.open('drive');
  await volume.write(0, block, { fua: false });
  const making = volume.createSnapshot({ name: 'early' });
  await expect(making).rejects.toThrow('was deleted before it was completed');
  expect(wasLost()).toBe(true);
  expect((await findVolume(store, 'drive')).snapshots).toEqual([]);
  await volume.close();
});
