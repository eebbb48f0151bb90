import type { ObjectStore } from '../base/object-store.ts';
import { corrupt } from '../format/binary.ts';
import {
  compactedFrameSeed,
  compactedTablesReachBytes,
  type Source,
  type SourceRun,
} from '../format/compacted-object.ts';
import { decodeEntries, entryKind } from '../format/entry.ts';
import { frameBlocks, segmentBlocks } from '../format/geometry.ts';
import {
  compactedKey,
  type LogPosition,
  segmentKey,
  type SerialPosition,
} from '../format/names.ts';
import {
  decodeFrameTable,
  type FrameTable,
  frameSeed,
  headerOfSegment,
  plainFrameBytes,
} from '../format/segment-object.ts';
import { decodeTables } from './compacted-object.ts';
import type { MovedFrame, MovedPart } from './compacted-builder.ts';
import { isMarked } from './marks.ts';
import { readEntryTable, tablesReachBytes } from './segment-tables.ts';
import { aboutObject } from './object-errors.ts';

/** What of one object is alive: what is to be read of it, and whose blocks that is. */
export interface Survivors {
  readonly key: string;
  /** Blocks alive, of the segments that they are of, in the order of the object. */
  readonly sources: readonly Source[];
  readonly blockCount: number;
  readonly frames: FrameTable;
  /** Bit i of each frame: its block i is alive. */
  readonly wanted: Uint32Array;
  readonly seedOf: (frame: number) => number;
}

/** Frames between two that are wanted are read for nothing up to so many bytes. */
const gapBytes = 128 * 1024;

export type BitmapOf = (segment: number) => Uint32Array;

/** What is alive of a segment in its own object, by what its entries say. */
export async function survivorsOfSegment(
  store: ObjectStore,
  volumeId: string,
  at: LogPosition,
  bitmapOf: BitmapOf,
): Promise<Survivors> {
  const key = segmentKey(volumeId, at);
  try {
    const start = await store.getStart(key, tablesReachBytes);
    const header = headerOfSegment(start.bytes, volumeId, at);
    if (header.objectBytes !== start.objectBytes) throw corrupt('it is not whole');
    const frames = decodeFrameTable(header, start.bytes);
    const entries = await readEntryTable(store, key, header, start);
    const blockOf = new Float64Array(segmentBlocks).fill(-1);
    for (const { kind, firstBlock, count, firstIndex } of decodeEntries(entries)) {
      if (kind !== entryKind.data) continue;
      for (let block = 0; block < count; block += 1)
        blockOf[firstIndex + block] = firstBlock + block;
    }
    const runs = aliveRuns(bitmapOf(at.segment), header.blockCount, (index) => {
      const block = blockOf[index] as number;
      return block < 0 ? undefined : block;
    });
    requireAll(at.segment, bitmapOf, runs);
    const wanted = new Uint32Array(header.frameCount);
    for (const { firstIndex, count } of runs) want(wanted, firstIndex, count);
    return {
      key,
      sources: runs.length === 0 ? [] : [{ ...at, runs }],
      blockCount: runs.reduce((sum, { count }) => sum + count, 0),
      frames,
      wanted,
      seedOf: (frame) => frameSeed(volumeId, at, frame),
    };
  } catch (error) {
    throw aboutObject(error, key);
  }
}

/** What is alive of the segments whose blocks were moved to one object. */
export async function survivorsOfCompacted(
  store: ObjectStore,
  volumeId: string,
  at: SerialPosition,
  /** Whether the placement says that the segment is there. */
  isHere: (segment: number) => boolean,
  bitmapOf: BitmapOf,
): Promise<Survivors> {
  const key = compactedKey(volumeId, at);
  try {
    const start = await store.getStart(key, compactedTablesReachBytes);
    const { frames, sources: all } = decodeTables(start.bytes, start.objectBytes, volumeId, at);
    const wanted = new Uint32Array(frames.offsets.length);
    const sources: Source[] = [];
    let place = 0;
    for (const { segment, epoch, runs } of all) {
      const first = place;
      place += runs.reduce((sum, { count }) => sum + count, 0);
      if (!isHere(segment)) continue;
      const alive = aliveOf(runs, bitmapOf(segment), first, wanted);
      requireAll(segment, bitmapOf, alive);
      if (alive.length > 0) sources.push({ segment, epoch, runs: alive });
    }
    const blockCount = sources
      .flatMap(({ runs }) => runs)
      .reduce((sum, { count }) => sum + count, 0);
    const seedOf = (frame: number): number => compactedFrameSeed(volumeId, at, frame);
    return { key, sources, blockCount, frames, wanted, seedOf };
  } catch (error) {
    throw aboutObject(error, key);
  }
}

/** The parts of a segment's runs that are alive; they lie from `place` on, and are wanted there. */
function aliveOf(
  runs: readonly SourceRun[],
  bitmap: Uint32Array,
  place: number,
  wanted: Uint32Array,
): SourceRun[] {
  const alive: SourceRun[] = [];
  let at = place;
  for (const { firstBlock, firstIndex, count } of runs) {
    for (let block = 0; block < count; block += 1) {
      if (!isMarked(bitmap, firstIndex + block)) continue;
      want(wanted, at + block, 1);
      addBlock(alive, firstIndex + block, firstBlock + block);
    }
    at += count;
  }
  return alive;
}

/** Runs of the blocks that are alive of one segment. */
function aliveRuns(
  bitmap: Uint32Array,
  blockCount: number,
  blockOf: (index: number) => number | undefined,
): SourceRun[] {
  const runs: SourceRun[] = [];
  for (let index = 0; index < blockCount; index += 1) {
    const block = isMarked(bitmap, index) ? blockOf(index) : undefined;
    if (block !== undefined) addBlock(runs, index, block);
  }
  return runs;
}

/** Adds a block to the runs: to the last of them, where it goes on as that does. */
function addBlock(runs: SourceRun[], index: number, block: number): void {
  const last = runs.at(-1);
  if (
    last !== undefined &&
    last.firstIndex + last.count === index &&
    last.firstBlock + last.count === block
  ) {
    runs[runs.length - 1] = { ...last, count: last.count + 1 };
  } else runs.push({ firstBlock: block, firstIndex: index, count: 1 });
}

/** Refuses to go on when a map holds a block of the segment that is not here: nothing is moved then. */
function requireAll(segment: number, bitmapOf: BitmapOf, runs: readonly SourceRun[]): void {
  let marked = 0;
  for (const word of bitmapOf(segment)) marked += bitsIn(word);
  const found = runs.reduce((sum, { count }) => sum + count, 0);
  if (marked !== found)
    throw corrupt(`the map holds ${marked} blocks of segment ${segment}, ${found} are in it`);
}

function bitsIn(word: number): number {
  let bits = 0;
  for (let rest = word; rest !== 0; rest &= rest - 1) bits += 1;
  return bits;
}

function want(wanted: Uint32Array, first: number, count: number): void {
  for (let at = first; at < first + count; at += 1) {
    const frame = Math.floor(at / frameBlocks);
    wanted[frame] = (wanted[frame] as number) | (1 << (at - frame * frameBlocks));
  }
}

/** A part of an object that is read by one request, and what of it is moved. */
export interface SurvivingRange {
  readonly offset: number;
  readonly lengthBytes: number;
  part(stored: Uint8Array): MovedPart;
}

/** The requests by which what is alive of an object is read, in its order. */
export function rangesOf(survivors: Survivors): SurvivingRange[] {
  const { frames, wanted } = survivors;
  const ranges: { offset: number; end: number; frames: number[] }[] = [];
  wanted.forEach((bits, frame) => {
    if (bits === 0) return;
    const offset = frames.offsets[frame] as number;
    const end = offset + (frames.storedBytes[frame] as number);
    const last = ranges.at(-1);
    if (last !== undefined && offset - last.end <= gapBytes) {
      last.end = end;
      last.frames.push(frame);
    } else ranges.push({ offset, end, frames: [frame] });
  });
  return ranges.map(({ offset, end, frames: numbers }) => ({
    offset,
    lengthBytes: end - offset,
    part: (stored) => ({
      stored,
      frames: numbers.map((frame) => movedFrame(survivors, frame, offset)),
    }),
  }));
}

function movedFrame(
  { frames, wanted, seedOf }: Survivors,
  frame: number,
  from: number,
): MovedFrame {
  return {
    offset: (frames.offsets[frame] as number) - from,
    storedBytes: frames.storedBytes[frame] as number,
    checksum: frames.checksums[frame] as number,
    seed: seedOf(frame),
    codec: frames.codecs[frame] as number,
    plainBytes: plainFrameBytes(frames.blockCount, frame),
    wanted: wanted[frame] as number,
  };
}
