import fc from 'fast-check';
import { expect, test } from 'vitest';
import { blockBytes, maximumVolumeBytes, pageBlocks } from '../format/geometry.ts';
import { decodePage, encodePage, nowhere } from '../format/map-page.ts';
import { BlockMap, unknownIndex } from './block-map.ts';
import { MapPage } from './map-page.ts';

interface Assignment {
  start: number;
  count: number;
  segment: number;
  index: number;
}

const assignment = (blocks: number) =>
  fc
    .record({
      start: fc.nat(blocks - 1),
      count: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: blocks })),
      segment: fc.nat(3),
      index: fc.nat(1),
    })
    .map(
      ({ start, count, segment, index }): Assignment => ({
        start,
        count: Math.min(count, blocks - start),
        segment,
        // Few starting points, so that runs meet that go on from each other.
        index: segment === nowhere.segment ? index : start % 2048,
      }),
    );

function cells(blocks: number, assignments: readonly Assignment[]): string[] {
  const model = new Array<string>(blocks).fill('0:0');
  for (const { start, count, segment, index } of assignments) {
    for (let at = 0; at < count; at += 1) {
      model[start + at] = `${segment}:${segment === 0 ? index : (index + at) % 65_536}`;
    }
  }
  return model;
}

function cellsOf(page: MapPage): string[] {
  const found: string[] = [];
  page.forEachRun((start, count, segment, index) => {
    for (let at = 0; at < count; at += 1) {
      found[start + at] = `${segment}:${segment === 0 ? index : (index + at) % 65_536}`;
    }
  });
  return found;
}

test('a page says what a plain array says, as runs, dense, stored and read back', () => {
  fc.assert(
    fc.property(fc.array(assignment(pageBlocks), { maxLength: 60 }), (assignments) => {
      const page = new MapPage(nowhere.hole);
      for (const a of assignments) page.assign(a.start, a.count, a.segment, a.index);
      const model = cells(pageBlocks, assignments);
      expect(cellsOf(page)).toEqual(model);
      expect(cellsOf(MapPage.fromRuns(decodePage(encodePage(page.toRuns()))))).toEqual(model);
    }),
    { numRuns: 60 },
  );
});

test('a page of scattered blocks becomes dense and stays right', () => {
  const page = new MapPage(nowhere.hole);
  const assignments: Assignment[] = [];
  for (let at = 0; at < pageBlocks; at += 2) {
    assignments.push({ start: (at * 7) % pageBlocks, count: 1, segment: 5, index: at % 2048 });
  }
  for (const a of assignments) page.assign(a.start, a.count, a.segment, a.index);
  expect(cellsOf(page)).toEqual(cells(pageBlocks, assignments));
  expect(page.memoryBytes).toBeLessThanOrEqual(10 * pageBlocks);
  page.assign(0, pageBlocks, 0, nowhere.hole);
  expect(page.memoryBytes).toBeLessThan(100);
});

test('trims beside each other become one run', () => {
  const page = new MapPage(nowhere.zeroed);
  for (let start = 4000; start > 0; start -= 10) page.assign(start, 10, 0, nowhere.hole);
  expect(page.toRuns().count).toBe(3);
});

test('a volume written in sequence costs under 64 KiB of map for each GiB', () => {
  const map = new BlockMap(() => false);
  const gibibyteBlocks = 2 ** 18;
  for (let block = 0; block < gibibyteBlocks; block += 32) {
    map.assign(block, 32, 1 + Math.floor(block / 2048), block % 2048);
  }
  expect(map.memoryBytes).toBeLessThan(64 * 1024);
});

test('what a stored page holds is unknown until it is filled in, and later writes stay', () => {
  const map = new BlockMap((pageIndex) => pageIndex === 0);
  const run = { segment: 0, index: 0, count: 0 };
  map.assign(10, 5, 7, 100);
  map.find(9, 100, run);
  expect(run).toEqual({ segment: 0, index: unknownIndex, count: 1 });
  const stored = new MapPage(nowhere.hole);
  stored.assign(0, 20, 3, 0);
  map.fillUnknown(0, stored);
  map.find(9, 100, run);
  expect(run).toEqual({ segment: 3, index: 9, count: 1 });
  map.find(10, 100, run);
  expect(run).toEqual({ segment: 7, index: 100, count: 5 });
  map.find(15, 100, run);
  expect(run).toEqual({ segment: 3, index: 15, count: 5 });
  map.find(pageBlocks, 10, run);
  expect(run).toEqual({ segment: 0, index: nowhere.hole, count: 10 });
});

test('a trim of 64 TiB touches only the pages that hold something', () => {
  const map = new BlockMap((pageIndex) => pageIndex === 3);
  map.assign(0, 2 ** 34, nowhere.segment, nowhere.hole);
  expect(map.memoryBytes).toBeLessThan(100);
  const run = { segment: 1, index: 1, count: 0 };
  map.find(3 * pageBlocks + 1, 4, run);
  expect(run).toEqual({ segment: 0, index: nowhere.hole, count: 4 });
});

test('a map of the largest volume, used at both ends, takes the memory of what is used', () => {
  const map = new BlockMap(() => false);
  const lastBlock = maximumVolumeBytes / blockBytes - 1;
  map.assign(0, 1, 7, 0);
  map.assign(lastBlock, 1, 7, 1);
  const run = { segment: 0, index: 0, count: 0 };
  map.find(lastBlock, 1, run);
  expect(run).toEqual({ segment: 7, index: 1, count: 1 });
  map.find((lastBlock + 1) / 2, 5, run);
  expect(run).toEqual({ segment: nowhere.segment, index: nowhere.hole, count: 5 });
  expect(map.memoryBytes).toBeGreaterThan(0);
  expect(map.memoryBytes).toBeLessThan(64 * 1024);
  map.assign(0, lastBlock + 1, nowhere.segment, nowhere.hole);
  map.find(lastBlock, 1, run);
  expect(run.segment).toBe(nowhere.segment);
});
