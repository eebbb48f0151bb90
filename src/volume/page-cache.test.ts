import { expect, test } from 'vitest';
import { checksum } from '../format/binary.ts';
import { encodePage, nowhere } from '../format/map-page.ts';
import { pagesKey } from '../format/names.ts';
import { createMemoryStore } from '../store/memory-store.ts';
import { PageCache } from './page-cache.ts';
import { PageTable } from './page-table.ts';
import { SharedBlocks } from './shared-blocks.ts';
import { StoredMap } from './stored-map.ts';

const id = '00'.repeat(16);
const runs = 2000;
/** Of one page in memory: three columns. */
const pageBytes = runs * 8;

/** A table of pages that are all the same one, but for their place. */
async function setUp(count: number) {
  const store = createMemoryStore();
  const page = encodePage({
    count: runs,
    starts: Uint16Array.from({ length: runs }, (_, at) => at * 8),
    indices: Uint16Array.from({ length: runs }, (_, at) => (at * 7) % 2048),
    segments: new Uint32Array(runs).fill(3),
  });
  await store.put(pagesKey(id, { segment: 1, epoch: 1 }, 0), [page]);
  const rows = Array.from({ length: count }, (_, pageIndex) => ({
    ...{ pageIndex, segment: 1, epoch: 1, part: 0, offset: 0 },
    ...{ storedBytes: page.byteLength, checksum: checksum(page), liveBlocks: runs },
  }));
  const counted = { reads: 0 };
  const counting: typeof store = {
    ...store,
    get: (...request) => {
      counted.reads += 1;
      return store.get(...request);
    },
  };
  return { table: new PageTable(counting, { id, ancestors: [] }, 1, rows), counted };
}

test('pages are read once, however many want one at a time', async () => {
  const { table, counted } = await setUp(3);
  const cache = new PageCache(2 ** 20);
  const [first, second] = await Promise.all([cache.load(table, 1), cache.load(table, 1)]);
  expect(first).toBe(second);
  expect(await cache.load(table, 1)).toBe(first);
  expect(counted.reads).toBe(1);
  // One that is not in the table is one hole, and asks nobody.
  const run = { segment: 9, index: 9, count: 0 };
  (await cache.load(table, 7)).find(0, 5, run);
  expect(run).toEqual({ segment: nowhere.segment, index: nowhere.hole, count: 5 });
  expect(counted.reads).toBe(1);
});

test('pages stay within the bound, and those that are used stay longer', async () => {
  const { table, counted } = await setUp(400);
  const cache = new PageCache(40 * pageBytes);
  for (let pageIndex = 0; pageIndex < 400; pageIndex += 1) {
    await cache.load(table, pageIndex);
    await cache.load(table, 0);
    expect(cache.memoryBytes).toBeLessThanOrEqual(40 * pageBytes);
  }
  expect(counted.reads).toBe(400);
  await cache.load(table, 1);
  expect(counted.reads).toBe(401);
});

test('a map of stored pages says what it does not have', async () => {
  const { table } = await setUp(2);
  const cache = new PageCache(2 ** 20);
  const map = new StoredMap(table, cache);
  const run = { segment: 0, index: 0, count: 0 };
  const find = (block: number): [number, number] => {
    map.find(block, 1, run);
    return [run.segment, run.index];
  };
  expect([find(0), find(16_384 * 2)]).toEqual([
    [0, 2],
    [nowhere.segment, nowhere.hole],
  ]);
  await cache.load(table, 0);
  expect([find(0), find(9), find(16_384)]).toEqual([
    [3, 0],
    [3, 8],
    [0, 2],
  ]);
});

test('volumes share blocks in one memory, and none sees another’s', () => {
  const shared = new SharedBlocks(64 * 4096);
  const [one, again, other] = ['a', 'a', 'b'].map((volume) => shared.open(volume));
  const into = new Uint8Array(4096);
  one?.insert(0, 7, 5, new Uint8Array(4096).fill(1), 0);
  other?.insert(0, 7, 5, new Uint8Array(4096).fill(2), 0);
  expect(again?.copy(7, 5, 0, 4096, into, 0)).toBe(true);
  expect(into[0]).toBe(1);
  expect(other?.copy(7, 5, 0, 4096, into, 0)).toBe(true);
  expect(into[0]).toBe(2);
  expect(other?.has(7, 6)).toBe(false);
  // What nobody reads any more goes first, even before what was not used for longer.
  one?.close();
  again?.close();
  again?.close();
  for (let index = 100; index < 162; index += 1) other?.insert(0, 7, index, into, 0);
  other?.insert(0, 7, 200, into, 0);
  expect([one?.has(7, 5), other?.has(7, 5)]).toEqual([false, true]);
});

test('memory is given back when nobody reads any more', () => {
  const shared = new SharedBlocks(2 ** 24);
  const parts = ['a', 'b'].map((volume) => shared.open(volume));
  for (const part of parts) part.insert(0, 1, 1, new Uint8Array(4096), 0);
  expect(shared.memoryBytes).toBeGreaterThan(0);
  parts[0]?.close();
  expect(shared.memoryBytes).toBeGreaterThan(0);
  parts[1]?.close();
  expect(shared.memoryBytes).toBe(0);
  expect(shared.open('a').has(1, 1)).toBe(false);
});

test('after very many volumes another memory begins, and no block is taken for another', () => {
  const shared = new SharedBlocks(64 * 4096);
  const into = new Uint8Array(4096);
  // It stays open: else all would begin anew with each.
  const first = shared.open('volume 0');
  first.insert(0, 1, 1, new Uint8Array(4096).fill(1), 0);
  for (let at = 1; at < 3000; at += 1) {
    const part = shared.open(`volume ${at}`);
    expect(part.has(1, 1)).toBe(false);
    part.insert(0, 1, 1, new Uint8Array(4096).fill(at % 251), 0);
    expect(part.copy(1, 1, 0, 4096, into, 0) && into[0]).toBe(at % 251);
    part.close();
  }
});
