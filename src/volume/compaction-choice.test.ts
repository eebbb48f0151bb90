import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { seededRandom } from '../base/random.ts';
import { blockBytes, segmentBlocks } from '../format/geometry.ts';
import { type Candidate, chooseObjects, isPassDue, liveBytes } from './compaction-choice.ts';
import { defaultSpaceSettings } from './space-settings.ts';

const { limits, pass } = defaultSpaceSettings;

/** A log of blocks in a store, of which only counts are kept: what compaction makes of a trace. */
class Trace {
  readonly objects: { blockCount: number; liveBlocks: number; storedBytes: number }[] = [];
  /** Which object each block of the volume is in. */
  private readonly home: Int32Array;
  private readonly isOpen = new Set<number>();
  writtenBlocks = 0;
  copiedBlocks = 0;

  constructor(blocks: number) {
    this.home = new Int32Array(blocks).fill(-1);
  }

  /** One segment with these blocks of the volume. */
  segment(blocks: readonly number[]): void {
    this.writtenBlocks += blocks.length;
    this.add(blocks);
  }

  private add(blocks: readonly number[]): void {
    const object = this.objects.length;
    const storedBytes = blocks.length * blockBytes;
    this.objects.push({ blockCount: blocks.length, liveBlocks: 0, storedBytes });
    this.isOpen.add(object);
    for (const block of blocks) {
      const before = this.home[block] as number;
      const held = this.objects[before];
      if (held !== undefined) held.liveBlocks -= 1;
      this.home[block] = object;
      (this.objects[object] as { liveBlocks: number }).liveBlocks += 1;
    }
  }

  get live(): { number: number; candidate: Candidate }[] {
    return [...this.isOpen].map((number) => ({
      number,
      candidate: this.objects[number] as Candidate,
    }));
  }

  get storedBytes(): number {
    return this.live.reduce((sum, { candidate }) => sum + candidate.storedBytes, 0);
  }

  /** One pass: what is dead goes, and what was chosen is packed anew, in order. */
  compact(): void {
    const wanted = this.live
      .filter(({ candidate }) => candidate.liveBlocks > 0)
      .map(({ number, candidate }) => ({ ...candidate, number }));
    const chosen = new Set(chooseObjects(wanted, limits).map(({ number }) => number));
    const blocks: number[] = [];
    this.home.forEach((object, block) => {
      if (chosen.has(object)) blocks.push(block);
    });
    this.copiedBlocks += blocks.length;
    for (let from = 0; from < blocks.length; from += segmentBlocks)
      this.add(blocks.slice(from, from + segmentBlocks));
    for (const { number, candidate } of this.live)
      if (candidate.liveBlocks === 0) this.isOpen.delete(number);
  }
}

const candidates = fc.array(
  fc
    .record({
      blockCount: fc.integer({ min: 1, max: segmentBlocks }),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
      blockBytes: fc.integer({ min: 100, max: 4096 }),
    })
    .map(({ blockCount, share, blockBytes: bytes }) => ({
      blockCount,
      liveBlocks: Math.max(1, Math.round(share * blockCount)),
      storedBytes: blockCount * bytes,
    })),
  { maxLength: 60 },
);

describe('what is chosen', () => {
  test('leaves no more dead bytes than compaction is to start at', () => {
    fc.assert(
      fc.property(candidates, (objects) => {
        const chosen = new Set(chooseObjects(objects, limits));
        const live = objects.reduce((sum, object) => sum + liveBytes(object), 0);
        const left = objects
          .filter((object) => !chosen.has(object))
          .reduce((sum, object) => sum + object.storedBytes - liveBytes(object), 0);
        expect(left).toBeLessThanOrEqual(limits.startShare * live + 1);
      }),
    );
  });

  test('is nothing while little is dead and few are small', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 100 }), (count) => {
        const blockCount = segmentBlocks;
        const liveBlocks = Math.ceil(blockCount / (1 + limits.startShare)) + 1;
        const object = { blockCount, liveBlocks, storedBytes: blockCount * blockBytes };
        const objects = Array.from({ length: count }, () => ({ ...object }));
        expect(chooseObjects(objects, limits)).toEqual([]);
      }),
    );
  });

  test('frees at least as much for each byte copied as what is not chosen', () => {
    const noMerging = { ...limits, mergeCount: Number.POSITIVE_INFINITY };
    const shareOf = ({ liveBlocks, blockCount }: { liveBlocks: number; blockCount: number }) =>
      liveBlocks / blockCount;
    fc.assert(
      fc.property(candidates, (objects) => {
        const chosen = new Set(chooseObjects(objects, noMerging));
        const worst = Math.max(0, ...[...chosen].map(shareOf));
        const best = Math.min(1, ...objects.filter((object) => !chosen.has(object)).map(shareOf));
        expect(worst).toBeLessThanOrEqual(best + 1 / 1024);
      }),
    );
  });

  test('is nothing of an object of which nobody knows how much is dead', () => {
    const object = { blockCount: undefined, liveBlocks: 300, storedBytes: 8 * 2 ** 20 };
    expect(chooseObjects([object], { ...limits, startShare: 0, stopShare: 0 })).toEqual([]);
  });
});

describe('traces', () => {
  test('random overwrites of a full volume: at most 1.35 times is stored, and little copied', () => {
    const random = seededRandom(3);
    const blocks = 64 * segmentBlocks;
    const trace = new Trace(blocks);
    const inSegment = (from: number): number[] =>
      Array.from({ length: segmentBlocks }, (_, at) => from + at);
    for (let from = 0; from < blocks; from += segmentBlocks) trace.segment(inSegment(from));
    for (let round = 0; round < 400; round += 1) {
      const hit = new Set<number>();
      while (hit.size < segmentBlocks) hit.add(Math.floor(random.fraction() * blocks));
      trace.segment([...hit]);
      if (round % 8 !== 7) continue;
      trace.compact();
      expect(trace.storedBytes).toBeLessThanOrEqual(1.35 * blocks * blockBytes);
    }
    expect(trace.copiedBlocks / trace.writtenBlocks).toBeLessThan(4);
  });

  test('a day of 10 KB/s, uploaded every five seconds, ends as few objects, each block copied seldom', () => {
    const trace = new Trace(17_280 * 12);
    let largest = 0;
    for (let at = 0; at < 17_280; at += 1) {
      trace.segment(Array.from({ length: 12 }, (_, block) => at * 12 + block));
      if (at % pass.manySegments === pass.manySegments - 1) trace.compact();
      largest = Math.max(largest, trace.live.length);
    }
    expect(trace.live.length).toBeLessThan(500);
    expect(largest).toBeLessThan(600);
    expect(trace.copiedBlocks / trace.writtenBlocks).toBeLessThan(2);
  });
});

describe('a pass', () => {
  const since = {
    writtenBytes: 2 ** 30,
    segments: 200,
    mapBytes: 2 ** 20,
    storedBytes: 2 ** 33,
    elapsedMs: 0,
  };

  test('is due when enough was written for what reading the map costs', () => {
    expect(isPassDue(since, pass)).toBe(true);
    expect(isPassDue({ ...since, mapBytes: 2 ** 28 }, pass)).toBe(false);
    expect(isPassDue({ ...since, writtenBytes: 2 ** 28 }, pass)).toBe(false);
    expect(isPassDue({ ...since, writtenBytes: 2 ** 28, segments: 256 }, pass)).toBe(true);
  });

  test('is due once a day whatever was written', () => {
    const idle = { ...since, writtenBytes: 0, segments: 0 };
    expect(isPassDue({ ...idle, elapsedMs: 24 * 3_600_000 - 1 }, pass)).toBe(false);
    expect(isPassDue({ ...idle, elapsedMs: 24 * 3_600_000 }, pass)).toBe(true);
  });
});
