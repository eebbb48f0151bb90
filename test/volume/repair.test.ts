import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import { listAll, type ObjectStore } from '../../src/base/object-store.ts';
import { seededRandom } from '../../src/base/random.ts';
import { checkpointKey, segmentKey } from '../../src/format/names.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { type RepairOptions, type RepairReport, repairVolume } from '../../src/volume/repair.ts';
import { forgetStore } from '../support/sound-stores.ts';
import { smallSettings, VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const plain = { fua: false };
const random = seededRandom(19);
const content = random.bytes(10 * mebibyte);

function repair(store: ObjectStore, changes: Partial<RepairOptions> = {}): Promise<RepairReport> {
  const ambient = { store, clock: systemClock, random, log: silentLog, settings: smallSettings };
  const who = { writerId: 'repairer', host: 'repairer' };
  return repairVolume({ ...ambient, ...who, apply: true, ...changes }, 'drive');
}

/** A volume of 128 MiB, two pages of map, with a checkpoint at each of two closings. */
async function twoCheckpoints(): Promise<{ store: ObjectStore; host: VolumeHost }> {
  const store = createMemoryStore();
  forgetStore(store);
  const settings = { checkpointSegments: 1000, checkpointIdleMs: 600_000 };
  const host = new VolumeHost(store, settings);
  await host.create({ name: 'drive', sizeBytes: 128 * mebibyte });
  for (const offset of [0, 70 * mebibyte]) {
    const volume = await host.open('drive');
    await volume.write(offset, content, plain);
    await volume.zero(offset, 8192, { mayPunchHole: true, fua: false });
    await volume.close();
  }
  return { store, host };
}

async function keysOf(store: ObjectStore, part: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of listAll(store, 'volumes/')) if (key.includes(part)) keys.push(key);
  return keys;
}

async function flip(store: ObjectStore, key: string, at: number): Promise<void> {
  const bytes = await store.get(key);
  const index = at < 0 ? bytes.length + at : at;
  bytes[index] = (bytes[index] ?? 0) ^ 1;
  await store.delete(key);
  await store.put(key, [bytes]);
}

/** Where the entries of a whole segment begin. */
const entriesAt = 128 + 128 * 12;

async function requireContent(host: VolumeHost): Promise<void> {
  const volume = await host.open('drive');
  for (const offset of [0, 70 * mebibyte]) {
    const expected = content.slice();
    expected.fill(0, 0, 8192);
    const found = new Uint8Array(content.length);
    await volume.read(offset, found);
    expect(Buffer.compare(found, expected)).toBe(0);
  }
  await volume.close();
}

test.each(['/pages/', '/checkpoints/'])(
  'what is damaged of %s is folded again from the log',
  async (part) => {
    const { store, host } = await twoCheckpoints();
    const [, newest = ''] = await keysOf(store, part);
    await flip(store, newest, -3);
    const plan = await repair(store, { apply: false });
    expect(plan).toMatchObject({ applied: false, check: { verdict: 'damaged' }, unmended: [] });
    expect((await findVolume(store, 'drive')).epoch).toBe(2);
    const report = await repair(store);
    expect(report).toMatchObject({ applied: true, unmended: [], check: { verdict: 'ok' } });
    expect(report.mendedPages).toBe(plan.mendedPages);
    expect(report.mendedPages).toBeGreaterThan(0);
    expect(report.pageTable).toBe(part === '/pages/' ? 'readable' : 'mended');
    expect((await findVolume(store, 'drive')).writer).toBe(undefined);
    await requireContent(host);
  },
);

test('where the log is damaged too, a page comes from an older checkpoint', async () => {
  const { store, host } = await twoCheckpoints();
  const [, newest = ''] = await keysOf(store, '/pages/');
  const [first = ''] = await keysOf(store, '/segments/');
  await flip(store, newest, -3);
  await flip(store, first, entriesAt);
  const report = await repair(store);
  expect(report).toMatchObject({ mendedPages: 1, unmended: [] });
  // The entries stay as they are: the map does not need them any more.
  expect(report.check.problems).toMatchObject([{ what: 'damaged', object: first }]);
  expect(report.check.lostBlocks).toBe(0);
  await requireContent(host);
});

test('what nothing tells is listed and left alone', async () => {
  const { store } = await twoCheckpoints();
  for (const key of await keysOf(store, '/pages/')) await flip(store, key, -3);
  const segments = await keysOf(store, '/segments/');
  await flip(store, segments.at(-1) ?? '', 40);
  const before = await keysOf(store, '');
  const plan = await repair(store, { apply: false });
  expect(plan.mendedPages).toBe(0);
  expect(plan.unmended).toEqual([
    { firstBlock: 0, count: 16_384 },
    { firstBlock: 16_384, count: 16_384 },
  ]);
  const report = await repair(store);
  expect(report.unmended).toEqual(plan.unmended);
  expect(report.check.verdict).toBe('damaged');
  expect(await keysOf(store, '')).toEqual(before);
});

test('data that is lost stays lost, and no repair says otherwise', async () => {
  const { store } = await twoCheckpoints();
  const [first = ''] = await keysOf(store, '/segments/');
  await store.delete(first);
  const report = await repair(store);
  expect(report).toMatchObject({ mendedPages: 0, check: { verdict: 'damaged' } });
  expect(report.check.lostBlocks).toBe(2046);
});

test('orphaned objects are removed, others are not', async () => {
  const { store, host } = await twoCheckpoints();
  const { id } = await findVolume(store, 'drive');
  const [first = ''] = await keysOf(store, '/segments/');
  const orphans = [
    segmentKey(id, { segment: 900, epoch: 1 }),
    checkpointKey(id, { segment: 900, epoch: 2, variant: 0 }),
  ];
  const before = await keysOf(store, '');
  for (const key of orphans) await store.put(key, [await store.get(first)]);
  const unknown = `volumes/${id}/readme.txt`;
  await store.put(unknown, [new Uint8Array(3)]);
  expect(await repair(store, { apply: false })).toMatchObject({ orphans: { objects: 2 } });
  expect(await keysOf(store, '')).toHaveLength(before.length + 3);
  const report = await repair(store);
  expect(report).toMatchObject({ orphans: { objects: 2 }, check: { verdict: 'warnings' } });
  expect((await keysOf(store, '')).sort()).toEqual([...before, unknown].sort());
  await requireContent(host);
});

test('a volume that another has is left to it, and one that is sound is not touched', async () => {
  const { store, host } = await twoCheckpoints();
  const { epoch } = await findVolume(store, 'drive');
  expect(await repair(store)).toMatchObject({ applied: true, check: { verdict: 'ok' } });
  expect((await findVolume(store, 'drive')).epoch).toBe(epoch);
  const volume = await host.open('drive');
  const [, newest = ''] = await keysOf(store, '/pages/');
  await flip(store, newest, -3);
  await expect(repair(store)).rejects.toMatchObject({ code: 'held' });
  await volume.close();
});
