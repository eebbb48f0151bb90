import { describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../src/base/clock.ts';
import { StorageError } from '../../src/base/errors.ts';
import { listAll, type ObjectStore } from '../../src/base/object-store.ts';
import { seededRandom } from '../../src/base/random.ts';
import { manifestKey } from '../../src/format/names.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { wrapCalls } from '../../src/store/wrap-calls.ts';
import { findVolume, listVolumeNames } from '../../src/volume/catalog.ts';
import { snapshotForClone } from '../../src/volume/clone-pins.ts';
import { deleteVolume, requireUncloned } from '../../src/volume/deletion.ts';
import { changeManifest } from '../../src/volume/manifest-change.ts';
import { cloneOf, snapshotOf } from '../support/clones.ts';
import { readAll, VolumeHost } from '../support/volume-host.ts';

const random = seededRandom(6);
const hourMs = 3_600_000;

/** A host whose clock is so far ahead of others. */
function ahead(aheadMs: number): Clock {
  return { ...systemClock, wallMs: () => systemClock.wallMs() + aheadMs };
}

function remove(store: ObjectStore, name: string, clock = systemClock): Promise<void> {
  return deleteVolume(store, name, { clock, random });
}

/** `base`, with a snapshot `cut` and what was written before it. */
async function baseStore() {
  const store = createMemoryStore();
  const host = new VolumeHost(store);
  await host.create({ name: 'base', sizeBytes: 2 ** 20 });
  const volume = await host.open('base');
  await volume.write(0, random.bytes(40_960), { fua: false });
  const content = await readAll(volume);
  await volume.close();
  await snapshotOf(store, 'base', 'cut');
  return { store, host, content };
}

async function pinsOf(store: ObjectStore, name: string): Promise<string[]> {
  const { snapshots } = await findVolume(store, name);
  return snapshots.flatMap(({ clones }) => clones.map(({ volumeId }) => volumeId));
}

async function volumeIds(store: ObjectStore): Promise<Set<string>> {
  const ids = new Set<string>();
  for await (const { key } of listAll(store, 'volumes/')) ids.add(key.split('/')[1] ?? '');
  return ids;
}

async function contentOf(store: ObjectStore, name: string): Promise<Uint8Array> {
  const volume = await new VolumeHost(store).open(name);
  const content = await readAll(volume);
  await volume.close();
  return content;
}

describe('a volume that has clones', () => {
  test('is deleted only after them, and says which they are', async () => {
    const { store, content } = await baseStore();
    const second = await cloneOf(store, 'base', 'cut', 'dev');
    await snapshotOf(store, 'dev', 'cut');
    const third = await cloneOf(store, 'dev', 'cut', 'test');
    expect(await pinsOf(store, 'base')).toEqual([second.id, third.id]);
    await expect(remove(store, 'base')).rejects.toMatchObject({
      code: 'in-use',
      message:
        'Volume base cannot be deleted: dev, test are clones of it. Flatten or delete them first.',
    });
    await expect(remove(store, 'dev')).rejects.toThrow('test is a clone of it');
    expect(await contentOf(store, 'test')).toEqual(content);
    await remove(store, 'test');
    expect(await pinsOf(store, 'base')).toEqual([second.id]);
    expect(await pinsOf(store, 'dev')).toEqual([]);
    await remove(store, 'dev');
    await remove(store, 'base');
    expect(await volumeIds(store)).toEqual(new Set());
  });

  test('loses the snapshot that was made for a clone with the last that needs it', async () => {
    const { store } = await baseStore();
    const made = await snapshotOf(store, 'base', 'made');
    const { id } = await findVolume(store, 'base');
    const wanted = snapshotForClone('dev', random);
    await changeManifest({ store, random }, id, (manifest) => ({
      ...manifest,
      snapshots: manifest.snapshots.map((each) =>
        each.id === made.id ? { ...each, ...wanted } : each,
      ),
    }));
    await cloneOf(store, 'base', wanted.name, 'dev');
    await cloneOf(store, 'base', wanted.name, 'test');
    const names = async () => (await findVolume(store, 'base')).snapshots.map(({ name }) => name);
    await remove(store, 'dev');
    expect(await names()).toEqual(['cut', wanted.name]);
    await remove(store, 'test');
    expect(await names()).toEqual(['cut']);
  });

  test('is cloned while its writer has it, who goes on', async () => {
    const { store, host } = await baseStore();
    const volume = await host.open('base');
    await volume.write(8192, random.bytes(8192), { fua: true });
    await cloneOf(store, 'base', 'cut', 'dev');
    await volume.write(0, random.bytes(8192), { fua: true });
    const before = await readAll(volume);
    await volume.close();
    expect(await contentOf(store, 'base')).toEqual(before);
    expect(await pinsOf(store, 'base')).toHaveLength(1);
  });
});

test('a name that is taken, a snapshot that is gone', async () => {
  const { store } = await baseStore();
  await expect(cloneOf(store, 'base', 'cut', 'base')).rejects.toMatchObject({
    code: 'already-exists',
  });
  await expect(cloneOf(store, 'base', 'none', 'dev')).rejects.toMatchObject({ code: 'not-found' });
  expect(await pinsOf(store, 'base')).toEqual([]);
});

test('of two who want one name at once, one gets it and nothing is left of the other', async () => {
  const { store, content } = await baseStore();
  const results = await Promise.allSettled([
    cloneOf(store, 'base', 'cut', 'dev'),
    cloneOf(store, 'base', 'cut', 'dev'),
  ]);
  expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  expect((await volumeIds(store)).size).toBe(2);
  expect(await pinsOf(store, 'base')).toHaveLength(1);
  expect(await contentOf(store, 'dev')).toEqual(content);
});

/** A store of which call number `fatal` and all after it fail: the caller has crashed. */
function crashing(store: ObjectStore, fatal: number, isDone: boolean): ObjectStore {
  let calls = 0;
  return wrapCalls(store, async (call) => {
    calls += 1;
    const gone = new StorageError('store-unavailable', 'the caller is gone');
    if (calls > fatal || (calls === fatal && !isDone)) throw gone;
    const result = await call.make();
    if (calls === fatal) throw gone;
    return result;
  });
}

describe('a crash between any two steps', () => {
  test('of cloning a clone leaves nothing broken, and nothing for ever', async () => {
    let steps = 1;
    for (let isOver = false; !isOver; steps += 1) {
      for (const isDone of [false, true]) {
        const { store, content } = await baseStore();
        await cloneOf(store, 'base', 'cut', 'dev');
        await snapshotOf(store, 'dev', 'cut');
        const source = await findVolume(store, 'dev');
        const broken = crashing(store, steps, isDone);
        isOver = await cloneOf(broken, 'dev', 'cut', 'test').then(
          () => true,
          () => false,
        );
        const names = await listVolumeNames(store);
        if (names.includes('test')) expect(await contentOf(store, 'test')).toEqual(content);
        if (names.includes('test')) await remove(store, 'test');
        // What is half made is in the way for an hour, and is then swept.
        if ((await pinsOf(store, 'dev')).length > 0) {
          await expect(remove(store, 'dev')).rejects.toThrow('which is being made or deleted');
        }
        expect((await findVolume(store, 'dev')).head).toEqual(source.head);
        await remove(store, 'dev', ahead(2 * hourMs));
        await remove(store, 'base', ahead(2 * hourMs));
        expect(await volumeIds(store)).toEqual(new Set());
      }
    }
    expect(steps).toBeGreaterThan(10);
  });

  test('of deleting a clone leaves what the next who looks finishes', async () => {
    let steps = 1;
    for (let isOver = false; !isOver; steps += 1) {
      for (const isDone of [false, true]) {
        const { store, content } = await baseStore();
        await cloneOf(store, 'base', 'cut', 'dev');
        isOver = await remove(crashing(store, steps, isDone), 'dev').then(
          () => true,
          () => false,
        );
        if ((await listVolumeNames(store)).includes('dev')) await remove(store, 'dev');
        expect(await contentOf(store, 'base')).toEqual(content);
        await remove(store, 'base', ahead(2 * hourMs));
        expect(await volumeIds(store)).toEqual(new Set());
      }
    }
    expect(steps).toBeGreaterThan(5);
  });
});

/** Does `action` once, before the first call for which `isIt`. */
function interrupted(
  store: ObjectStore,
  isIt: (operation: string, key: string) => boolean,
  action: () => Promise<unknown>,
): ObjectStore {
  let isDone = false;
  return wrapCalls(store, async (call) => {
    if (!isDone && isIt(call.operation, call.key)) {
      isDone = true;
      await action();
    }
    return call.make();
  });
}

describe('who is so slow at cloning that others call it stale', () => {
  test('fails when its source was deleted meanwhile, and leaves nothing', async () => {
    const { store } = await baseStore();
    const { id } = await findVolume(store, 'base');
    const slow = interrupted(
      store,
      (operation, key) => operation === 'swap' && key.endsWith('json') && key !== manifestKey(id),
      () => remove(store, 'base', ahead(2 * hourMs)),
    );
    await expect(cloneOf(slow, 'base', 'cut', 'dev')).rejects.toMatchObject({ code: 'corrupt' });
    expect(await listVolumeNames(store)).toEqual([]);
  });

  test('has its pin again when that was dropped', async () => {
    const { store, content } = await baseStore();
    const { id } = await findVolume(store, 'base');
    const slow = interrupted(
      store,
      (operation, key) => operation === 'swap' && key.endsWith('json') && key !== manifestKey(id),
      async () => {
        const manifest = await findVolume(store, 'base');
        const [snapshot] = manifest.snapshots;
        if (snapshot === undefined) throw new Error('the snapshot is gone');
        await expect(
          requireUncloned({ store, clock: systemClock, random }, manifest, snapshot),
        ).rejects.toThrow('Snapshot base@cut cannot be deleted');
        await requireUncloned({ store, clock: ahead(2 * hourMs), random }, manifest, snapshot);
        expect(await pinsOf(store, 'base')).toEqual([]);
      },
    );
    const clone = await cloneOf(slow, 'base', 'cut', 'dev');
    expect(await pinsOf(store, 'base')).toEqual([clone.id]);
    expect(await contentOf(store, 'dev')).toEqual(content);
  });

  test('keeps its pin when that was in doubt and not yet dropped', async () => {
    const { store, content } = await baseStore();
    const manifest = await findVolume(store, 'base');
    const [snapshot] = manifest.snapshots;
    if (snapshot === undefined) throw new Error('the snapshot is gone');
    const goesOn = Promise.withResolvers<void>();
    const isOfBase = (operation: string, key: string): boolean =>
      operation === 'swap' && key === manifestKey(manifest.id);
    const slow = interrupted(
      store,
      (operation, key) => operation === 'swap' && key.endsWith('json') && !isOfBase(operation, key),
      () => {
        // Puts the pin in doubt, sees no clone, and is to drop it when the clone is made.
        let swaps = 0;
        const dropping = interrupted(
          store,
          (operation, key) => isOfBase(operation, key) && (swaps += 1) === 2,
          async () => {
            goesOn.resolve();
            await cloning;
          },
        );
        const context = { store: dropping, clock: ahead(2 * hourMs), random };
        dropped = findVolume(store, 'base').then((present) =>
          requireUncloned(context, present, present.snapshots[0] ?? snapshot),
        );
        return goesOn.promise;
      },
    );
    let dropped: Promise<void> | undefined;
    const cloning = cloneOf(slow, 'base', 'cut', 'dev');
    const clone = await cloning;
    await dropped;
    expect(await pinsOf(store, 'base')).toEqual([clone.id]);
    expect(await contentOf(store, 'dev')).toEqual(content);
  });

  test('is swept for good or not at all', async () => {
    for (const isNameLate of [true, false]) {
      const { store, content } = await baseStore();
      const slow = interrupted(
        store,
        // Before it asks for its name to be made, or when it has been and is not yet confirmed.
        (operation, key) =>
          isNameLate
            ? operation === 'swap' && key.startsWith('names/')
            : operation === 'load' && key.endsWith('json') && nameIsThere,
        () => remove(store, 'base', ahead(2 * hourMs)).catch(() => undefined),
      );
      let nameIsThere = false;
      const noting: ObjectStore = {
        ...slow,
        swap: async (key, ...rest) => {
          const version = await slow.swap(key, ...rest);
          nameIsThere ||= key.startsWith('names/');
          return version;
        },
      };
      const made = await cloneOf(noting, 'base', 'cut', 'dev').then(
        () => true,
        () => false,
      );
      expect(made).toBe(!isNameLate);
      expect(await listVolumeNames(store)).toEqual(isNameLate ? [] : ['base', 'dev']);
      if (made) expect(await contentOf(store, 'dev')).toEqual(content);
    }
  });
});

test('a name that came back after its volume was deleted can be deleted; a damaged volume cannot', async () => {
  const { store } = await baseStore();
  const record = (await store.load('names/base'))?.value ?? new Uint8Array();
  const { id } = await findVolume(store, 'base');
  const manifest = (await store.load(manifestKey(id)))?.value ?? new Uint8Array();
  await store.remove(manifestKey(id));
  await expect(remove(store, 'base')).rejects.toMatchObject({ code: 'corrupt' });
  await store.swap(manifestKey(id), undefined, manifest);
  await remove(store, 'base');
  await store.swap('names/base', undefined, record);
  await remove(store, 'base');
  expect(await listVolumeNames(store)).toEqual([]);
});
