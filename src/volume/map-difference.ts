import type { ChangeExtent, Changes } from '../base/block-device.ts';
import { breathe, type Clock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { blockBytes, pageBlocks } from '../format/geometry.ts';
import { isOneFamily, sharedSegments } from '../format/lineage.ts';
import { nowhere } from '../format/map-page.ts';
import { inOrder } from './concurrency.ts';
import type { MapPage, Run } from './map-page.ts';
import { isSamePage, type MapVersion } from './map-version.ts';

/** Pages of which nothing but where they are stored was looked at, in one answer. */
const pagesPerAnswer = 16_384;
/** Pages that are read at once. */
const pagesAhead = 8;

/** What a run of blocks is in a version: it was written, or reads as zeroes and is allocated or not. */
export type BlockState = 'data' | 'zero' | 'hole';

/** Bytes that are not in the same state in two versions, or not known to hold the same data. */
export interface ChangedRange {
  readonly offset: number;
  readonly lengthBytes: number;
  readonly was: BlockState;
  readonly is: BlockState;
}

/**
 * Runs of blocks for which two pages say different things. Above `sharedThrough` the same segment
 * number means another segment in each.
 */
export function* differences(
  a: MapPage,
  b: MapPage,
  sharedThrough = Infinity,
): Generator<{ start: number; count: number; a: Run; b: Run }> {
  const inA: Run = { segment: 0, index: 0, count: 0 };
  const inB: Run = { segment: 0, index: 0, count: 0 };
  for (let start = 0; start < pageBlocks; ) {
    a.find(start, pageBlocks - start, inA);
    b.find(start, pageBlocks - start, inB);
    const count = Math.min(inA.count, inB.count);
    if (isDifferent(inA, inB, sharedThrough)) yield { start, count, a: { ...inA }, b: { ...inB } };
    start += count;
  }
}

function isDifferent(a: Run, b: Run, sharedThrough: number): boolean {
  return a.segment !== b.segment || a.index !== b.index || a.segment > sharedThrough;
}

function stateOf(run: Run): BlockState {
  if (run.segment !== nowhere.segment) return 'data';
  return run.index === nowhere.hole ? 'hole' : 'zero';
}

/** Refuses two versions whose numbers of segments do not mean the same. */
export function requireFamily(
  a: MapVersion,
  b: MapVersion,
  names: readonly [string, string],
): void {
  if (isOneFamily(a.lineage, b.lineage)) return;
  throw new StorageError(
    'usage',
    `${names[0]} and ${names[1]} have no history in common: compare versions of one volume, or of it and its clones`,
  );
}

/**
 * What was changed between two versions of one family, in order, adjacent ranges of one kind as one.
 * A page that both have at the same place is not read: it costs what was changed.
 */
export async function* changedRanges(
  before: MapVersion,
  after: MapVersion,
): AsyncGenerator<ChangedRange> {
  const sharedThrough = sharedSegments(before.lineage, after.lineage);
  const pages = [...new Set([...before.pageIndices(), ...after.pageIndices()])]
    .filter((pageIndex) => !isSamePage(before, after, pageIndex))
    .sort((a, b) => a - b);
  const end = after.sizeBytes;
  let last: ChangedRange | undefined;
  const compared = inOrder(pages, pagesAhead, async (pageIndex) => {
    const was = await before.load(pageIndex);
    // The later one may be written to: it is looked at as soon as it is there.
    const is = await after.load(pageIndex);
    return rangesOf(pageIndex, [...differences(was, is, sharedThrough)]);
  });
  for await (const ranges of compared) {
    for (const range of ranges) {
      if (range.offset >= end) break;
      if (last !== undefined && isContinued(last, range)) {
        last = { ...last, lengthBytes: last.lengthBytes + range.lengthBytes };
        continue;
      }
      if (last !== undefined) yield last;
      last = range;
    }
  }
  if (last === undefined) return;
  yield { ...last, lengthBytes: Math.min(last.lengthBytes, end - last.offset) };
}

function rangesOf(
  pageIndex: number,
  found: readonly { start: number; count: number; a: Run; b: Run }[],
): ChangedRange[] {
  return found.map(({ start, count, a, b }) => ({
    offset: (pageIndex * pageBlocks + start) * blockBytes,
    lengthBytes: count * blockBytes,
    was: stateOf(a),
    is: stateOf(b),
  }));
}

function isContinued(range: ChangedRange, next: ChangedRange): boolean {
  return (
    range.offset + range.lengthBytes === next.offset &&
    range.was === next.was &&
    range.is === next.is
  );
}

/** What was changed in `after`, which may go on changing, since `before`. */
export class VersionChanges implements Changes {
  private readonly clock: Clock;
  private readonly before: MapVersion;
  private readonly after: MapVersion;
  private readonly sharedThrough: number;

  constructor(clock: Clock, before: MapVersion, after: MapVersion) {
    this.clock = clock;
    this.before = before;
    this.after = after;
    this.sharedThrough = sharedSegments(before.lineage, after.lineage);
  }

  async status(offset: number, lengthBytes: number, maxExtents: number): Promise<ChangeExtent[]> {
    const extents = new ExtentList(offset, offset + lengthBytes, maxExtents);
    const lastBlock = Math.ceil((offset + lengthBytes) / blockBytes) - 1;
    const firstPage = Math.floor(offset / blockBytes / pageBlocks);
    const lastPage = Math.min(Math.floor(lastBlock / pageBlocks), firstPage + pagesPerAnswer - 1);
    for (let pageIndex = firstPage; pageIndex <= lastPage && !extents.isFull; pageIndex += 1) {
      const pageEnd = (pageIndex + 1) * pageBlocks * blockBytes;
      if (isSamePage(this.before, this.after, pageIndex)) extents.add(pageEnd, false);
      else {
        await this.compare(pageIndex, extents);
        // Many pages of scattered blocks take long, and others want to be answered.
        await breathe(this.clock);
      }
    }
    return extents.extents;
  }

  private async compare(pageIndex: number, extents: ExtentList): Promise<void> {
    const was = await this.before.load(pageIndex);
    const is = await this.after.load(pageIndex);
    const pageStart = pageIndex * pageBlocks;
    const inWas: Run = { segment: 0, index: 0, count: 0 };
    const inIs: Run = { segment: 0, index: 0, count: 0 };
    let block = Math.max(0, Math.floor(extents.at / blockBytes) - pageStart);
    while (block < pageBlocks && !extents.isFull) {
      was.find(block, pageBlocks - block, inWas);
      is.find(block, pageBlocks - block, inIs);
      block += Math.min(inWas.count, inIs.count);
      const changed = isDifferent(inWas, inIs, this.sharedThrough);
      extents.add((pageStart + block) * blockBytes, changed);
    }
  }
}

/** Extents from a position on, up to an end. */
class ExtentList {
  readonly extents: ChangeExtent[] = [];
  at: number;
  isFull = false;
  private readonly end: number;
  private readonly maximum: number;

  constructor(start: number, end: number, maximum: number) {
    this.at = start;
    this.end = end;
    this.maximum = maximum;
  }

  /** Says what all is up to `to`. */
  add(to: number, changed: boolean): void {
    const lengthBytes = Math.min(to, this.end) - this.at;
    const last = this.extents.at(-1);
    if (last?.changed === changed) {
      this.extents[this.extents.length - 1] = {
        lengthBytes: last.lengthBytes + lengthBytes,
        changed,
      };
    } else if (this.extents.length === this.maximum) {
      this.isFull = true;
      return;
    } else {
      this.extents.push({ lengthBytes, changed });
    }
    this.at += lengthBytes;
    this.isFull = this.at === this.end;
  }
}
