import type { Clock } from '../base/clock.ts';
import { isStorageError, StorageError, toStorageError } from '../base/errors.ts';
import type { ObjectStart, ObjectStore } from '../base/object-store.ts';
import { checksum } from '../format/binary.ts';
import { blockBytes, frameBlocks, segmentFrames } from '../format/geometry.ts';
import { journalBlockPosition } from '../format/journal-file.ts';
import {
  decodeFrameTable,
  type FrameTable,
  frameSeed,
  frameTableReachBytes,
  headerOfSegment,
  maximumObjectBytes,
  plainFrameBytes,
} from '../format/segment-object.ts';
import type { DiskCache } from './disk-cache.ts';
import { FetchMemory } from './fetch-memory.ts';
import { FrameLoads, type FrameRun, type FrameTaker } from './frame-loads.ts';
import { MovedFrames } from './moved-frames.ts';
import { aboutObject, isMissingObject } from './object-errors.ts';
import { type FramedObject, ObjectFrames } from './object-frames.ts';
import type { SealedGroups } from './sealed-groups.ts';
import type { SegmentBuffer } from './segment-buffer.ts';
import type { SegmentPlace, SegmentPlaces } from './segment-places.ts';

/** Frame tables kept in RAM; 2 KiB each. */
const maximumTables = 4096;

export interface FrameSources {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly diskCache: DiskCache | undefined;
  /** Segments that are still in the journal. */
  readonly journaled: ReadonlyMap<number, SegmentBuffer>;
  /** Where the others are. */
  readonly places: SegmentPlaces;
}

/**
 * Fetches frames: from the journal file while the segment is there, else from the disk cache, else
 * by ranged reads of the object that has the segment now.
 */
export class FrameReader {
  private readonly sources: FrameSources;
  private readonly tables = new Map<number, FrameTable>();
  private readonly tableLoads = new Map<number, Promise<FrameTable>>();
  private readonly memory = new FetchMemory();
  private readonly frames: ObjectFrames;
  private readonly moved: MovedFrames;
  private readonly loads = new FrameLoads((run) => {
    this.fetchRun(run).then(
      () => run.fail(new StorageError('internal', 'a frame was not read')),
      (error: unknown) => run.fail(toStorageError(error)),
    );
  });

  constructor(sources: FrameSources) {
    this.sources = sources;
    const { store } = sources;
    this.frames = new ObjectFrames({ ...sources, memory: this.memory });
    this.moved = new MovedFrames({ store, memory: this.memory, frames: this.frames });
  }

  get storeReads(): number {
    return this.frames.storeReads;
  }

  /** As `FrameLoads.load`. */
  load(segment: number, first: number, last: number, take: FrameTaker): Promise<void>[] {
    return this.loads.load(segment, first, last, take);
  }

  /** The table of an object that this writer made itself. */
  learnTable(segment: number, table: FrameTable): void {
    this.tables.delete(segment);
    this.tables.set(segment, table);
    if (this.tables.size <= maximumTables) return;
    for (const oldest of this.tables.keys()) {
      this.tables.delete(oldest);
      return;
    }
  }

  private async fetchRun(run: FrameRun): Promise<void> {
    const { places } = this.sources;
    const journaled = this.sources.journaled.get(run.segment);
    if (journaled !== undefined && (await this.readJournal(journaled, run))) return;
    let place = await places.find(run.segment);
    for (;;) {
      try {
        return await this.fetchFrom(place, run);
      } catch (error) {
        if (!isMissingObject(error)) throw error;
        // It was moved since, by us or by another: then its old object is deleted some day.
        const elsewhere = await places.findAgain(run.segment, place);
        if (elsewhere === undefined) throw aboutObject(error, place.key);
        place = elsewhere;
      }
    }
  }

  private async fetchFrom(place: SegmentPlace, run: FrameRun): Promise<void> {
    if (place.moved !== undefined) return this.moved.fetch(place, place.moved, run);
    if (this.isWorthWhole(run) && (await this.readWhole(place, run))) return;
    const table = await this.tableOf(place);
    await this.frames.fetch(segmentObject(place, table), run);
  }

  /** Half of an object whose table is not known: one request for all of it instead of two. */
  private isWorthWhole({ segment, count }: FrameRun): boolean {
    return count >= segmentFrames / 2 && !this.tables.has(segment);
  }

  /** False when the object cannot be had or is not whole; then its frames are tried one by one. */
  private async readWhole(place: SegmentPlace, run: FrameRun): Promise<boolean> {
    const { store } = this.sources;
    const { allocate, lent } = this.memory.loan();
    try {
      const whole = await store.getStart(place.key, maximumObjectBytes, { allocate });
      const object = segmentObject(place, this.readTable(place, whole));
      this.frames.storeReads += 1;
      const stored = lent(whole.bytes);
      await this.frames.unpackRun(object, run, [0, run.count], { stored, offset: 0 });
      stored.release();
      return true;
    } catch {
      return false;
    }
  }

  /** False when the segment has left the journal meanwhile: its file may be another's already. */
  private async readJournal(segment: SegmentBuffer, run: FrameRun): Promise<boolean> {
    const firstIndex = run.first * frameBlocks;
    const blocks = Math.min(run.count * frameBlocks, segment.blockCount - firstIndex);
    if (segment.groups !== undefined)
      return this.readGroups(segment, segment.groups, run, firstIndex, blocks);
    const memory = this.memory.take(blocks * blockBytes);
    await segment.file.file.read(memory.bytes, journalBlockPosition(firstIndex));
    if (this.sources.journaled.get(segment.number) !== segment) {
      memory.release();
      return false;
    }
    for (let at = 0; at < run.count; at += 1) {
      const from = at * frameBlocks * blockBytes;
      run.deliver(at, verifiedFrame(segment, run.first + at, memory.bytes, from));
    }
    memory.release();
    return true;
  }

  /** As `readJournal`, of an encrypted volume. */
  private async readGroups(
    segment: SegmentBuffer,
    groups: SealedGroups,
    run: FrameRun,
    firstIndex: number,
    blocks: number,
  ): Promise<boolean> {
    const range = groups.rangeOf(firstIndex, firstIndex + blocks);
    const memory = this.memory.take(range.lengthBytes);
    const { file, path } = segment.file;
    await file.read(memory.bytes, range.position);
    const isHere = this.sources.journaled.get(segment.number) === segment;
    try {
      if (!isHere) return false;
      const opened = groups.open(range, memory.bytes);
      for (let at = 0; at < run.count; at += 1) {
        const from = (firstIndex + at * frameBlocks - opened.firstIndex) * blockBytes;
        const plainBytes = plainFrameBytes(segment.blockCount, run.first + at);
        run.deliver(at, opened.data.subarray(from, from + plainBytes));
      }
    } catch (error) {
      if (!isStorageError(error, 'corrupt')) throw error;
      const message = `Segment ${segment.number} cannot be read from ${path}: ${error.message}.`;
      throw new StorageError('corrupt', message, { cause: error });
    } finally {
      memory.release();
    }
    return true;
  }

  /** The frame table of a segment's object. */
  private tableOf(place: SegmentPlace): Promise<FrameTable> {
    const { segment } = place.at;
    const known = this.tables.get(segment);
    if (known !== undefined) return Promise.resolve(known);
    const loading = this.tableLoads.get(segment);
    if (loading !== undefined) return loading;
    const load = this.loadTable(place).finally(() => this.tableLoads.delete(segment));
    this.tableLoads.set(segment, load);
    return load;
  }

  private async loadTable(place: SegmentPlace): Promise<FrameTable> {
    const { store } = this.sources;
    try {
      return this.readTable(place, await store.getStart(place.key, frameTableReachBytes));
    } catch (error) {
      throw aboutObject(error, place.key);
    }
  }

  /** The table from the start of an object, which it must be and be whole. */
  private readTable({ volumeId, at }: SegmentPlace, start: ObjectStart): FrameTable {
    const header = headerOfSegment(start.bytes, volumeId, at);
    if (header.objectBytes !== start.objectBytes) {
      const found = `${start.objectBytes} bytes of ${header.objectBytes}`;
      throw new StorageError('corrupt', `it has ${found}`);
    }
    const table = decodeFrameTable(header, start.bytes);
    this.learnTable(at.segment, table);
    return table;
  }
}

/** A segment in its own object. */
function segmentObject({ key, volumeId, at }: SegmentPlace, table: FrameTable): FramedObject {
  return {
    key,
    table,
    number: at.segment,
    seedOf: (frame) => frameSeed(volumeId, at, frame),
  };
}

/** A frame of what was read from a journal file, or what is wrong with it. */
function verifiedFrame(
  segment: SegmentBuffer,
  frame: number,
  bytes: Uint8Array,
  from: number,
): Uint8Array | StorageError {
  const plain = bytes.subarray(from, from + plainFrameBytes(segment.blockCount, frame));
  for (let at = 0; at * blockBytes < plain.byteLength; at += 1) {
    const index = frame * frameBlocks + at;
    const block = plain.subarray(at * blockBytes, (at + 1) * blockBytes);
    if (checksum(block) === segment.blockChecksum(index)) continue;
    return new StorageError(
      'corrupt',
      `Block ${index} of segment ${segment.number} in ${segment.file.path} fails its checksum: the local disk has changed it.`,
    );
  }
  return plain;
}
