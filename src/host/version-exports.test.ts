import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../test/support/virtual-clock.ts';
import { StorageError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import { MemorySource } from './testing/memory-source.ts';
import { VolumeCatalog } from './volume-catalog.ts';

function setUp(names: string[] = ['v']) {
  const source = new MemorySource('s3://a', names);
  const clock = new VirtualClock();
  const catalog = new VolumeCatalog({
    sources: [source],
    defaultVolume: undefined,
    takeOver: () => 'never',
    disconnect: () => Promise.resolve(),
    clock,
    log: silentLog,
  });
  return { source, clock, catalog };
}

const snapshot = (name: string, isCompleted = true, description = '') => ({
  ...{ name, isCompleted, description },
  sizeBytes: 2 ** 19,
  createdAt: '2026-11-20T10:15:00.000Z',
});

describe('versions of volumes', () => {
  it('are listed after their volume, in the order in which they were made', async () => {
    const { source, catalog } = setUp(['w', 'v', 'v-']);
    source.snapshots.set('v', [snapshot('z', true, 'first'), snapshot('a', false)]);
    expect(await catalog.list()).toEqual([
      { name: 'v', description: '1MiB in s3://a' },
      {
        name: 'v@z',
        description: '512KiB, snapshot of 2026-11-20T10:15:00.000Z (first) in s3://a',
      },
      {
        name: 'v@a',
        description: '512KiB, snapshot of 2026-11-20T10:15:00.000Z, not completed yet in s3://a',
      },
      { name: 'v-', description: '1MiB in s3://a' },
      { name: 'w', description: '1MiB in s3://a' },
    ]);
    expect((await catalog.volumes()).map(({ name }) => name)).toEqual(['v', 'v-', 'w']);
  });

  it('are listed up to a number, and the volume says so', async () => {
    const { source, catalog } = setUp();
    const all = Array.from({ length: 1000 }, (_, at) => snapshot(`s${at}`));
    source.snapshots.set('v', all);
    const [volume, ...listed] = await catalog.list();
    expect(volume?.description).toBe('1MiB in s3://a, the newest 64 of 1000 snapshots listed');
    expect(listed.map(({ name }) => name)).toEqual(all.slice(-64).map(({ name }) => `v@${name}`));
    // What is not listed can be asked for all the same.
    expect(await catalog.open('v@s0')).toMatchObject({ name: 'v@s0' });
  });

  it('as of a time are asked of a volume that is being attached when it is', async () => {
    const { source, catalog } = setUp();
    const time = '2026-11-20T10:15:00Z';
    source.snapshots.set('v', [snapshot(time)]);
    const attaching = catalog.open('v');
    await catalog.open(`v@${time}`);
    expect(source.attachments[0]?.storedThroughMs).toEqual([Date.parse(time)]);
    await attaching;
  });

  it('are opened once, without their volume, and closed a while after the last has left', async () => {
    const { source, catalog, clock } = setUp();
    source.snapshots.set('v', [snapshot('one')]);
    const [first, second] = await Promise.all([catalog.open('v@one'), catalog.open('v@one')]);
    expect(first.device).toBe(second.device);
    expect(first.device.sizeBytes).toBe(2 ** 19);
    expect(source.attachments).toEqual([]);
    expect(catalog.attached()).toEqual([]);
    expect(catalog.versions()).toMatchObject([{ name: 'v@one', store: 's3://a', clients: 2 }]);
    await first.close();
    await first.close();
    await clock.advance(120_000);
    expect(catalog.versions()).toMatchObject([{ name: 'v@one', clients: 1 }]);
    await second.close();
    await clock.advance(59_000);
    const third = await catalog.open('v@one');
    expect(third.device).toBe(first.device);
    await clock.advance(120_000);
    await third.close();
    await clock.advance(60_000);
    expect(catalog.versions()).toEqual([]);
    expect(source.versions.map(({ end }) => end)).toEqual(['closed']);
  });

  it('are not all kept open for whoever asks for each of them', async () => {
    const { source, catalog } = setUp();
    const names = Array.from({ length: 30 }, (_, at) => `s${at}`);
    source.snapshots.set(
      'v',
      names.map((name) => snapshot(name)),
    );
    const held = await catalog.open('v@s0');
    for (const name of names) await (await catalog.open(`v@${name}`)).close();
    const open = catalog.versions().map(({ name }) => name);
    expect(open).toHaveLength(9);
    expect(open).toEqual(expect.arrayContaining(['v@s0', 'v@s29', 'v@s22']));
    await held.close();
    expect(catalog.versions()).toHaveLength(8);
  });

  it('that are not completed are waited for, and refused when that takes long', async () => {
    const { source, catalog, clock } = setUp();
    source.snapshots.set('v', [snapshot('one', false)]);
    const opening = catalog.open('v@one');
    await clock.advance(5_000);
    source.snapshots.set('v', [snapshot('one')]);
    await clock.advance(500);
    expect((await opening).name).toBe('v@one');
    source.snapshots.set('v', [snapshot('two', false)]);
    const late = catalog.open('v@two').catch((error: unknown) => error);
    await clock.advance(21_000);
    expect(await late).toMatchObject({
      code: 'conflict',
      message: 'v@two is not completed yet: not all of it is in the store; ask again later',
    });
  });

  it('that are not there, or whose volume is not, are not found', async () => {
    const { source, catalog } = setUp();
    source.snapshots.set('v', [snapshot('one')]);
    for (const name of ['v@two', 'w@one', 'v@', '@one', 'v@one@two']) {
      await expect(catalog.open(name)).rejects.toMatchObject({ code: 'not-found' });
    }
  });

  it('that cannot be opened now can be later', async () => {
    const { source, catalog } = setUp();
    source.snapshots.set('v', [snapshot('one')]);
    const findVersion = source.findVersion.bind(source);
    const down = new StorageError('store-unavailable', 'no');
    source.findVersion = async (...wanted) => ({
      ...(await findVersion(...wanted)),
      open: () => Promise.reject(down),
    });
    await expect(catalog.open('v@one')).rejects.toBe(down);
    source.findVersion = findVersion;
    expect((await catalog.open('v@one')).name).toBe('v@one');
  });

  it('are another when the name is given to another', async () => {
    const { source, catalog } = setUp();
    source.snapshots.set('v', [snapshot('one')]);
    const before = await catalog.open('v@one');
    const findVersion = source.findVersion.bind(source);
    source.findVersion = async (...wanted) => ({
      ...(await findVersion(...wanted)),
      id: 'made later',
    });
    const after = await catalog.open('v@one');
    expect(after.device).not.toBe(before.device);
  });

  it('are closed with the daemon, which opens none any more', async () => {
    const { source, catalog } = setUp();
    source.snapshots.set('v', [snapshot('one'), snapshot('two', false)]);
    await (await catalog.open('v@one')).close();
    const waiting = catalog.open('v@two').catch((error: unknown) => error);
    await new Promise((resolve) => setImmediate(resolve));
    await catalog.close();
    expect(await waiting).toMatchObject({ code: 'shutting-down' });
    expect(source.versions.map(({ end }) => end)).toEqual(['closed']);
    await expect(catalog.open('v@one')).rejects.toMatchObject({ code: 'shutting-down' });
  });
});
