import { breathe, type Clock } from '../base/clock.ts';
import { StorageError, toStorageError } from '../base/errors.ts';
import type { LentBytes } from '../base/lent-bytes.ts';
import type { ObjectStart, ObjectStore } from '../base/object-store.ts';
import { checksum } from '../format/binary.ts';
import { blockBytes, frameBlocks, segmentFrames } from '../format/geometry.ts';
import { journalBlockPosition } from '../format/journal-file.ts';
import { type LogPosition, segmentKey } from '../format/names.ts';
import {
  decodeFrame,
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
import type { SegmentBuffer } from './segment-buffer.ts';

/** Frame tables kept in RAM; 2 KiB each. */
const maximumTables = 4096;
/** Frames unpacked before others get their turn: about 1 ms. */
export const unpackBatch = 16;

export interface FrameSources {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly diskCache: DiskCache | undefined;
  /** Segments that are still in the journal. */
  readonly journaled: ReadonlyMap<number, SegmentBuffer>;
  /** Under which volume a segment was stored: of a clone, an ancestor wrote most of them. */
  volumeOf(segment: number): string;
  /** And under which epoch. */
  epochOf(segment: number): number;
}

/**
 * Fetches frames: from the journal file while the segment is there, else from the disk cache, else
 * by a ranged read of the object.
 */
export class FrameReader {
  private readonly sources: FrameSources;
  private readonly tables = new Map<number, FrameTable>();
  private readonly tableLoads = new Map<number, Promise<FrameTable>>();
  private readonly memory = new FetchMemory();
  private readonly loads = new FrameLoads((run) => {
    this.fetchRun(run).then(
      () => run.fail(new StorageError('internal', 'a frame was not read')),
      (error: unknown) => run.fail(toStorageError(error)),
    );
  });
  storeReads = 0;

  constructor(sources: FrameSources) {
    this.sources = sources;
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

  private keyOf(at: LogPosition): string {
    return segmentKey(this.sources.volumeOf(at.segment), at);
  }

  private async fetchRun(run: FrameRun): Promise<void> {
    const { segment, first, count } = run;
    const journaled = this.sources.journaled.get(segment);
    if (journaled !== undefined && (await this.readJournal(journaled, run))) return;
    const at = { segment, epoch: this.sources.epochOf(segment) };
    if (this.isWorthWhole(run) && (await this.readWhole(at, run))) return;
    const table = await this.tableOf(segment);
    for (let from = 0; from < count; ) {
      if (await this.readDiskCache(at, table, run, from)) {
        from += 1;
        continue;
      }
      // One request for all that the disk cache does not have, up to the next that it has.
      let end = from + 1;
      while (end < count && !this.isInDiskCache(segment, first + end)) end += 1;
      await this.readStore(at, table, run, from, end);
      from = end;
    }
  }

  /** Half of an object whose table is not known: one request for all of it instead of two. */
  private isWorthWhole({ segment, count }: FrameRun): boolean {
    return count >= segmentFrames / 2 && !this.tables.has(segment);
  }

  /** False when the object cannot be had or is not whole; then its frames are tried one by one. */
  private async readWhole(at: LogPosition, run: FrameRun): Promise<boolean> {
    const { allocate, lent } = this.memory.loan();
    try {
      const whole = await this.sources.store.getStart(this.keyOf(at), maximumObjectBytes, {
        allocate,
      });
      const table = this.readTable(at, whole);
      this.storeReads += 1;
      const object = lent(whole.bytes);
      await this.unpackRun(at, table, run, [0, run.count], { stored: object, offset: 0 });
      object.release();
      return true;
    } catch {
      return false;
    }
  }

  private isInDiskCache(segment: number, frame: number): boolean {
    return this.sources.diskCache?.has(segment * segmentFrames + frame) ?? false;
  }

  private async readDiskCache(
    at: LogPosition,
    table: FrameTable,
    run: FrameRun,
    index: number,
  ): Promise<boolean> {
    const { diskCache } = this.sources;
    const frame = run.first + index;
    const number = at.segment * segmentFrames + frame;
    const stored = await diskCache?.read(number, table.storedBytes[frame] ?? 0, this.memory);
    if (stored === undefined) return false;
    const plain = this.unpack(at, table, frame, stored.bytes);
    if (plain instanceof Uint8Array) run.deliver(index, plain);
    // What the local disk has changed is fetched again: the object is the truth.
    else diskCache?.forget(number);
    stored.release();
    return plain instanceof Uint8Array;
  }

  /** False when the segment has left the journal meanwhile: its file may be another's already. */
  private async readJournal(segment: SegmentBuffer, run: FrameRun): Promise<boolean> {
    const firstIndex = run.first * frameBlocks;
    const blocks = Math.min(run.count * frameBlocks, segment.blockCount - firstIndex);
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

  /** Frames `first + from` to `first + end - 1`, which lie one after the other in their object. */
  private async readStore(
    at: LogPosition,
    table: FrameTable,
    run: FrameRun,
    from: number,
    end: number,
  ): Promise<void> {
    const key = this.keyOf(at);
    const offset = table.offsets[run.first + from] as number;
    const lastFrame = run.first + end - 1;
    const stop = (table.offsets[lastFrame] as number) + (table.storedBytes[lastFrame] as number);
    const { allocate, lent } = this.memory.loan();
    this.storeReads += 1;
    try {
      const range = { offset, lengthBytes: stop - offset };
      const stored = lent(await this.sources.store.get(key, range, { allocate }));
      await this.unpackRun(at, table, run, [from, end], { stored, offset, keep: true });
      stored.release();
    } catch (error) {
      const failure = aboutObject(error, key);
      for (let index = from; index < end; index += 1) run.deliver(index, failure);
    }
  }

  /**
   * Unpacks frames `first + from` to `first + end - 1` of what was read, from `offset` of the object
   * on. What is to be kept goes to the disk cache. Whole objects do not: who reads in order is served
   * ahead of time by the store, and would push out what is read here and there.
   */
  private async unpackRun(
    at: LogPosition,
    table: FrameTable,
    run: FrameRun,
    [from, end]: readonly [number, number],
    read: { readonly stored: LentBytes; readonly offset: number; readonly keep?: boolean },
  ): Promise<void> {
    const { clock, diskCache } = this.sources;
    for (let index = from; index < end; index += 1) {
      const frame = run.first + index;
      const start = (table.offsets[frame] as number) - read.offset;
      const stored = read.stored.bytes.subarray(
        start,
        start + (table.storedBytes[frame] as number),
      );
      const plain = this.unpack(at, table, frame, stored);
      if (read.keep === true && plain instanceof Uint8Array) {
        diskCache?.write(at.segment * segmentFrames + frame, stored, read.stored);
      }
      run.deliver(index, plain);
      if ((index - from) % unpackBatch === unpackBatch - 1) await breathe(clock);
    }
  }

  /** The plain bytes of a frame, or what is wrong with it. */
  private unpack(
    at: LogPosition,
    table: FrameTable,
    frame: number,
    stored: Uint8Array,
  ): Uint8Array | StorageError {
    try {
      const seed = frameSeed(this.sources.volumeOf(at.segment), at, frame);
      return decodeFrame(table, frame, stored, seed);
    } catch (error) {
      return aboutObject(error, this.keyOf(at));
    }
  }

  /** The frame table of a segment's object. */
  private tableOf(segment: number): Promise<FrameTable> {
    const known = this.tables.get(segment);
    if (known !== undefined) return Promise.resolve(known);
    const loading = this.tableLoads.get(segment);
    if (loading !== undefined) return loading;
    const load = this.loadTable(segment).finally(() => this.tableLoads.delete(segment));
    this.tableLoads.set(segment, load);
    return load;
  }

  private async loadTable(segment: number): Promise<FrameTable> {
    const at = { segment, epoch: this.sources.epochOf(segment) };
    const key = this.keyOf(at);
    try {
      return this.readTable(at, await this.sources.store.getStart(key, frameTableReachBytes));
    } catch (error) {
      throw aboutObject(error, key);
    }
  }

  /** The table from the start of an object, which it must be and be whole. */
  private readTable(at: LogPosition, start: ObjectStart): FrameTable {
    const header = headerOfSegment(start.bytes, this.sources.volumeOf(at.segment), at);
    if (header.objectBytes !== start.objectBytes) {
      const found = `${start.objectBytes} bytes of ${header.objectBytes}`;
      throw new StorageError('corrupt', `it has ${found}`);
    }
    const table = decodeFrameTable(header, start.bytes);
    this.learnTable(at.segment, table);
    return table;
  }
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

/** Names the object in what went wrong with it; an object that is missing is damage. */
export function aboutObject(error: unknown, key: string): StorageError {
  const known = toStorageError(error);
  if (known.code !== 'corrupt' && known.code !== 'not-found') return known;
  return new StorageError('corrupt', `Object ${key} is damaged: ${known.message}`, {
    cause: error,
  });
}
