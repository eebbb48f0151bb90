import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { listAll, type ObjectStore } from '../../src/base/object-store.ts';
import { seededRandom } from '../../src/base/random.ts';
import { checksum } from '../../src/format/binary.ts';
import { encodeCheckpoint } from '../../src/format/checkpoint-object.ts';
import { decodePage, encodePage } from '../../src/format/map-page.ts';
import { checkpointKey, pagesKey, segmentKey } from '../../src/format/names.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { type CheckOptions, checkVolume } from '../../src/volume/check.ts';
import type { CheckReport } from '../../src/volume/check-report.ts';
import { PageTable } from '../../src/volume/page-table.ts';
import type { VolumeSettings } from '../../src/volume/settings.ts';
import { allData, forgetStore } from '../support/sound-stores.ts';
import { VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const plain = { fua: false };
const random = seededRandom(11);
const content = random.bytes(10 * mebibyte);

function check(store: ObjectStore, options: Partial<CheckOptions> = {}): Promise<CheckReport> {
  return checkVolume(store, 'drive', { clock: systemClock, ...options });
}

/** No checkpoint but the one that is made when the volume is given up. */
const oneCheckpoint = { checkpointSegments: 1000, checkpointIdleMs: 600_000 };

/** A volume of 192 MiB, three pages of map, with 20 MiB of noise in two places; given up. */
async function writtenStore(settings: Partial<VolumeSettings> = oneCheckpoint) {
  const store = createMemoryStore();
  const host = new VolumeHost(store, settings);
  await host.create({ name: 'drive', sizeBytes: 192 * mebibyte });
  const volume = await host.open('drive');
  await volume.write(0, content, plain);
  await volume.write(100 * mebibyte, content, plain);
  await volume.zero(mebibyte, mebibyte, { mayPunchHole: true, fua: false });
  await volume.close();
  forgetStore(store);
  return { store, host };
}

async function keysOf(store: ObjectStore, part: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of listAll(store, 'volumes/')) if (key.includes(part)) keys.push(key);
  return keys;
}

async function change(
  store: ObjectStore,
  key: string,
  how: (bytes: Uint8Array) => Uint8Array,
): Promise<void> {
  const bytes = await store.get(key);
  await store.delete(key);
  await store.put(key, [how(bytes)]);
}

function flipped(at: number): (bytes: Uint8Array) => Uint8Array {
  return (bytes) => {
    const index = at < 0 ? bytes.length + at : at;
    bytes[index] = (bytes[index] ?? 0) ^ 1;
    return bytes;
  };
}

/** Puts another page in the place of a stored one, with a page table that agrees with it. */
async function forgePage(store: ObjectStore, pageIndex: number, segment: number): Promise<void> {
  const manifest = await findVolume(store, 'drive');
  const { id, head } = manifest;
  if (head === undefined) throw new Error('the volume has no checkpoint');
  const table = await PageTable.load(store, manifest, head);
  const runs = decodePage((await table.readStored(pageIndex)) ?? new Uint8Array());
  runs.segments[0] = segment;
  const page = encodePage(runs);
  const part = 99;
  await store.put(pagesKey(id, head, part), [page]);
  const rows = table
    .references()
    .map((row) =>
      row.pageIndex === pageIndex
        ? { ...row, part, offset: 0, storedBytes: page.length, checksum: checksum(page) }
        : row,
    );
  await store.delete(checkpointKey(id, head));
  await store.put(checkpointKey(id, head), [encodeCheckpoint(id, head, rows)]);
}

describe('a volume that is whole', () => {
  test('passes, and the report says what was read', async () => {
    const { store } = await writtenStore();
    const report = await check(store, { readData: allData });
    expect(report).toMatchObject({
      volume: 'drive',
      verdict: 'ok',
      problems: [],
      lostBlocks: 0,
      attachedOn: undefined,
      pages: 2,
      dataRead: allData,
    });
    expect(report.segments).toBe((await keysOf(store, '/segments/')).length);
    const { referenced, ...others } = report.objects;
    expect(referenced.objects).toBe((await keysOf(store, '')).length);
    expect(Object.values(others).every(({ objects }) => objects === 0)).toBe(true);
    expect(report.readBytes).toBeGreaterThan(20 * mebibyte);
    expect((await check(store)).readBytes).toBeLessThan(mebibyte);
  });

  test('reads each part of the data once over all parts', async () => {
    const { store } = await writtenStore();
    const whole = await check(store, { readData: allData });
    const parts = await Promise.all(
      [1, 2, 3].map((part) => check(store, { readData: { part, parts: 3 } })),
    );
    const none = await check(store);
    const dataBytes = (report: CheckReport): number => report.readBytes - none.readBytes;
    const sum = parts.reduce((total, report) => total + dataBytes(report), 0);
    expect(sum).toBe(dataBytes(whole));
    expect(parts.every((report) => dataBytes(report) < dataBytes(whole))).toBe(true);
  });

  test('passes while it is attached, with what its writer adds meanwhile', async () => {
    const { store, host } = await writtenStore({ checkpointSegments: 2 });
    const volume = await host.open('drive');
    const bytes = random.bytes(8192);
    const stop = new AbortController();
    const writing = (async () => {
      for (let at = 0; !stop.signal.aborted; at = (at + mebibyte) % (192 * mebibyte)) {
        await volume.write(at, bytes, plain);
        await new Promise((resolve) => {
          setTimeout(resolve, 5);
        });
      }
    })();
    for (let round = 0; round < 10; round += 1) {
      const report = await check(store, { readData: allData });
      expect(report.problems).toEqual([]);
      expect(report.attachedOn).toBe(host.name);
    }
    stop.abort();
    await writing;
    await volume.close();
    const after = await check(store, { readData: allData });
    expect(after.verdict).toBe('ok');
    expect(after.objects.superseded.objects).toBeGreaterThan(0);
  });

  test('is checked in several passes where memory is short, with the same result', async () => {
    const { store } = await writtenStore();
    const pagesRead: string[] = [];
    const segmentsRead: string[] = [];
    const spied: ObjectStore = {
      ...store,
      get: (key, ...rest) => {
        if (key.includes('/pages/')) pagesRead.push(key);
        return store.get(key, ...rest);
      },
      getStart: (key, ...rest) => {
        segmentsRead.push(key);
        return store.getStart(key, ...rest);
      },
    };
    const host = new VolumeHost(store, oneCheckpoint);
    const volume = await host.open('drive');
    for (let at = 0; at < 40; at += 1) {
      for (const mebibytes of [0, 70, 130]) {
        await volume.write((mebibytes + at) * mebibyte, random.bytes(8192), plain);
      }
      await volume.flush();
      await expect.poll(() => volume.statistics().dirtyBytes, { interval: 2 }).toBe(0);
    }
    await volume.close();
    expect(await check(spied, { mapBytes: 1 })).toMatchObject({ verdict: 'ok', pages: 3 });
    // The map is read again for each few segments, the segments once.
    expect(pagesRead.length).toBeGreaterThan(10);
    expect(new Set(segmentsRead).size).toBe(segmentsRead.length);
  });
});

describe('what is wrong is said, with the blocks that are lost', () => {
  test('a missing segment', async () => {
    const { store } = await writtenStore();
    const [first = ''] = await keysOf(store, '/segments/');
    await store.delete(first);
    const report = await check(store);
    expect(report).toMatchObject({ verdict: 'damaged', damageCount: 1 });
    expect(report.problems).toMatchObject([{ what: 'missing', object: first }]);
    // Blocks 256 to 511 of its 2048 were trimmed later, by another segment.
    expect(report.lost).toEqual([
      { firstBlock: 0, count: 256, object: first },
      { firstBlock: 512, count: 1536, object: first },
    ]);
    expect(report.lostBlocks).toBe(1792);
  });

  test('a flipped bit of the data, when the data is read', async () => {
    const { store } = await writtenStore();
    const [, second = ''] = await keysOf(store, '/segments/');
    await change(store, second, flipped(-1));
    expect((await check(store)).verdict).toBe('ok');
    const report = await check(store, { readData: allData });
    expect(report.problems).toMatchObject([
      { what: 'damaged', object: second, message: 'frame 127 fails its checksum' },
    ]);
    expect(report.lostBlocks).toBe(16);
  });

  test.each([
    ['the header', 20, 2048],
    ['the frame table', 130, 2048],
    ['the entries', 128 + 128 * 12, 0],
  ])('a flipped bit in %s', async (_, at, lostBlocks) => {
    const { store } = await writtenStore();
    const [, second = ''] = await keysOf(store, '/segments/');
    await change(store, second, flipped(at));
    const report = await check(store);
    expect(report.problems).toMatchObject([{ what: 'damaged', object: second }]);
    expect(report.lostBlocks).toBe(lostBlocks);
  });

  test('an object that is cut short', async () => {
    const { store } = await writtenStore();
    const [first = ''] = await keysOf(store, '/segments/');
    await change(store, first, (bytes) => bytes.slice(0, -1));
    const report = await check(store);
    expect(report.problems).toMatchObject([{ what: 'damaged', object: first }]);
    expect(report.lostBlocks).toBe(1792);
  });

  test('a segment in the place of another', async () => {
    const { store } = await writtenStore();
    const [first = '', second = ''] = await keysOf(store, '/segments/');
    const other = await store.get(second);
    await change(store, first, () => other);
    const report = await check(store);
    expect(report.problems[0]).toMatchObject({ what: 'damaged', object: first });
    expect(report.problems[0]?.message).toContain('holds segment 2');
  });

  test('a page table or page that is missing or damaged, though no data is lost', async () => {
    for (const part of ['/checkpoints/', '/pages/']) {
      for (const [what, harm] of [
        ['missing', (store: ObjectStore, key: string) => store.delete(key)],
        ['damaged', (store: ObjectStore, key: string) => change(store, key, flipped(-3))],
      ] as const) {
        const { store } = await writtenStore();
        const [key = ''] = await keysOf(store, part);
        await harm(store, key);
        const report = await check(store, { readData: allData });
        expect(report).toMatchObject({ verdict: 'damaged', lostBlocks: 0 });
        expect(report.problems[0]).toMatchObject({ what, object: key });
      }
    }
  });

  test('a page that is whole but not what the log says', async () => {
    const { store } = await writtenStore();
    await forgePage(store, 1, 1);
    const report = await check(store);
    expect(report.verdict).toBe('damaged');
    expect(report.problems.some(({ what }) => what === 'disagrees')).toBe(true);
  });

  test('a page that leads to a segment that never was', async () => {
    const { store } = await writtenStore();
    await forgePage(store, 1, 1000);
    const report = await check(store);
    expect(report.lostBlocks).toBeGreaterThan(0);
    expect(report.lost[0]?.object).toContain('/segments/000003e8-');
  });

  test('a manifest that is missing is an error of its own', async () => {
    const { store } = await writtenStore();
    const [key = ''] = await keysOf(store, 'manifest.json');
    await store.remove(key);
    await expect(check(store)).rejects.toMatchObject({ code: 'corrupt' });
  });
});

describe('objects that nobody needs', () => {
  test('of a closed epoch past its end are warned of; nothing that is read is wrong', async () => {
    const { store } = await writtenStore();
    const { id, epoch } = await findVolume(store, 'drive');
    const [first = ''] = await keysOf(store, '/segments/');
    const stray = segmentKey(id, { segment: 900, epoch });
    await store.put(stray, [await store.get(first)]);
    await store.put(checkpointKey(id, { segment: 900, epoch, variant: 0 }), [new Uint8Array(5)]);
    const report = await check(store, { readData: allData });
    expect(report).toMatchObject({ verdict: 'warnings', damageCount: 0, warningCount: 2 });
    expect(report.objects.orphaned.objects).toBe(2);
    expect(report.problems.map(({ what }) => what)).toEqual(['orphaned', 'orphaned']);
  });

  test('that no writer would have put there are unknown', async () => {
    const { store } = await writtenStore();
    const { id, epoch } = await findVolume(store, 'drive');
    const strange = [
      `volumes/${id}/segments/00000001-000000ff`,
      `volumes/${id}/segments/1-1`,
      `volumes/${id}/pages/00000001-0000000${epoch}`,
      `volumes/${id}/readme.txt`,
    ];
    for (const key of strange) await store.put(key, [new Uint8Array(7)]);
    const report = await check(store);
    expect(report).toMatchObject({ verdict: 'warnings', warningCount: strange.length });
    expect(new Set(report.problems.map(({ object }) => object))).toEqual(new Set(strange));
    expect(report.objects.unknown).toEqual({ objects: 4, bytes: 28 });
  });
});

test('a store that is away ends the check, and is no damage', async () => {
  const { store } = await writtenStore();
  const { withFaults } = await import('../../src/store/with-faults.ts');
  const plan = { errorBefore: 1, only: (_: string, key: string) => key.includes('/segments/') };
  const faulty = withFaults(store, { clock: systemClock, random, plan });
  await expect(check(faulty)).rejects.toMatchObject({ code: 'store-unavailable' });
});
