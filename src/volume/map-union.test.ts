import fc from 'fast-check';
import { expect, test } from 'vitest';
import { systemClock } from '../base/clock.ts';
import { nowhere } from '../format/map-page.ts';
import { MapPage } from './map-page.ts';
import { eachSharedRun } from './map-union.ts';

const assignment = fc.record({
  start: fc.integer({ min: 0, max: 60 }),
  count: fc.integer({ min: 1, max: 12 }),
  segment: fc.integer({ min: 0, max: 3 }),
});

/** A block of a segment is written for one block of the volume: its index follows from that. */
function pageOf(
  assignments: readonly { start: number; count: number; segment: number }[],
): MapPage {
  const page = new MapPage(nowhere.hole);
  for (const { start, count, segment } of assignments)
    page.assign(start, count, segment, segment === nowhere.segment ? nowhere.hole : start);
  return page;
}

test('what several versions of a page hold is told once, with all that hold it', async () => {
  const pages = fc.array(fc.array(assignment, { maxLength: 8 }), { minLength: 1, maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(pages, async (lists) => {
      const versions = lists.map(pageOf);
      const told = new Map<string, readonly number[]>();
      await eachSharedRun(versions, systemClock, (run) => {
        for (let at = 0; at < run.count; at += 1) {
          const key = `${run.start + at}: ${run.segment}/${run.index + at}`;
          expect(told.has(key)).toBe(false);
          told.set(key, run.versions);
        }
      });
      const expected = new Map<string, number[]>();
      const run = { segment: 0, index: 0, count: 0 };
      versions.forEach((page, version) => {
        for (let block = 0; block < 80; block += 1) {
          page.find(block, 1, run);
          if (run.segment === nowhere.segment) continue;
          const key = `${block}: ${run.segment}/${run.index}`;
          expected.set(key, [...(expected.get(key) ?? []), version]);
        }
      });
      expect(told).toEqual(expected);
    }),
  );
});
