import { breathe, type Clock } from '../base/clock.ts';
import { StorageError, toStorageError } from '../base/errors.ts';
import type { ObjectStart, ObjectStore } from '../base/object-store.ts';
import { checksum } from '../format/binary.ts';
import { blockBytes, frameBlocks, segmentFrames } from '../format/geometry.ts';
import { journalBlockPosition } from '../format/journal-file.ts';
import { type LogPosition, segmentKey } from '../format/names.ts';
import {
  decodeFrame,
  decodeFrameTable,
  decodeSegmentHeader,
  type FrameTable,
  frameSeed,
  frameTableReachBytes,
  maximumObjectBytes,
  plainFrameBytes,
  requireSegment,
} from '../format/segment-object.ts';
import type { DiskCache } from './disk-cache.ts';
import type { SegmentBuffer } from './segment-buffer.ts';

/** Frame tables kept in RAM; 2 KiB each. */
const maximumTables = 4096;
/** Frames unpacked before others get their turn: about 1 ms. */
const unpackBatch = 16;

export interface FrameSources {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly volumeId: string;
  readonly diskCache: DiskCache | undefined;
  /** Segments that are still in the journal. */
  readonly journaled: ReadonlyMap<number, SegmentBuffer>;
  /** Under which epoch a segment was stored. */
  epochOf(segment: number): number;
}

/** A run of frames of one segment, and what became of each. */
interface FrameRun {
  readonly segment: number;
  readonly first: number;
  readonly plain: (Uint8Array | StorageError | undefined)[];
}

/**
 * Fetches frames: from the journal file while the segment is there, else from the disk cache, else
 * by a ranged read of the object. However many want a frame at a time, it is fetched once.
 */
export class FrameReader {
  private readonly sources: FrameSources;
  private readonly tables = new Map<number, FrameTable>();
  private readonly tableLoads = new Map<number, Promise<FrameTable>>();
  private readonly loads = new Map<number, Promise<Uint8Array>>();
  storeReads = 0;

  constructor(sources: FrameSources) {
    this.sources = sources;
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

  /**
   * The plain bytes of frames `first` to `last` of a segment, each by a promise of its own: one that
   * is damaged takes no other with it. Those that nobody fetches yet are fetched together.
   */
  load(segment: number, first: number, last: number): Promise<Uint8Array>[] {
    const results: Promise<Uint8Array>[] = [];
    let frame = first;
    while (frame <= last) {
      const loading = this.loads.get(segment * segmentFrames + frame);
      if (loading !== undefined) {
        results.push(loading);
        frame += 1;
        continue;
      }
      let end = frame + 1;
      while (end <= last && !this.loads.has(segment * segmentFrames + end)) end += 1;
      results.push(...this.start(segment, frame, end - frame));
      frame = end;
    }
    return results;
  }

  private start(segment: number, first: number, count: number): Promise<Uint8Array>[] {
    const run: FrameRun = { segment, first, plain: Array.from<undefined>({ length: count }) };
    const filling = this.fetchRun(run);
    return Array.from({ length: count }, (_, at) => {
      const number = segment * segmentFrames + first + at;
      const load = filling.then(() => {
        const plain = run.plain[at];
        if (plain instanceof Uint8Array) return plain;
        throw plain ?? new StorageError('internal', 'a frame was not read');
      });
      const done = (): void => {
        this.loads.delete(number);
      };
      // Also keeps a failed prefetch, which nobody waits for, from ending the process.
      load.then(done, done);
      this.loads.set(number, load);
      return load;
    });
  }

  private async fetchRun(run: FrameRun): Promise<void> {
    const { segment, first, plain } = run;
    const journaled = this.sources.journaled.get(segment);
    if (journaled !== undefined && (await this.fillFromJournal(journaled, run))) return;
    const at = { segment, epoch: this.sources.epochOf(segment) };
    if (this.isWorthWhole(run) && (await this.fillFromWhole(at, run))) return;
    const table = await this.tableOf(segment);
    for (let from = 0; from < plain.length; ) {
      if (await this.fillFromDiskCache(at, table, run, from)) {
        from += 1;
        continue;
      }
      // One request for all that the disk cache does not have, up to the next that it has.
      let end = from + 1;
      while (end < plain.length && !this.isInDiskCache(segment, first + end)) end += 1;
      await this.fillFromStore(at, table, run, from, end);
      from = end;
    }
  }

  /** Half of an object whose table is not known: one request for all of it instead of two. */
  private isWorthWhole({ segment, plain }: FrameRun): boolean {
    return plain.length >= segmentFrames / 2 && !this.tables.has(segment);
  }

  /** False when the object cannot be had or is not whole; then its frames are tried one by one. */
  private async fillFromWhole(at: LogPosition, run: FrameRun): Promise<boolean> {
    const { store, volumeId } = this.sources;
    try {
      const whole = await store.getStart(segmentKey(volumeId, at), maximumObjectBytes);
      const table = this.readTable(at, whole);
      this.storeReads += 1;
      await this.unpackRun(at, table, run, 0, run.plain.length, whole.bytes, 0);
      return true;
    } catch {
      return false;
    }
  }

  private isInDiskCache(segment: number, frame: number): boolean {
    return this.sources.diskCache?.has(segment * segmentFrames + frame) ?? false;
  }

  private async fillFromDiskCache(
    at: LogPosition,
    table: FrameTable,
    run: FrameRun,
    index: number,
  ): Promise<boolean> {
    const { diskCache } = this.sources;
    const frame = run.first + index;
    const number = at.segment * segmentFrames + frame;
    const stored = await diskCache?.read(number, table.storedBytes[frame] ?? 0);
    if (stored === undefined) return false;
    const plain = this.unpack(at, table, frame, stored);
    if (plain instanceof Uint8Array) {
      run.plain[index] = plain;
      return true;
    }
    // What the local disk has changed is fetched again: the object is the truth.
    diskCache?.forget(number);
    return false;
  }

  /** False when the segment has left the journal meanwhile: its file may be another's already. */
  private async fillFromJournal(segment: SegmentBuffer, run: FrameRun): Promise<boolean> {
    const firstIndex = run.first * frameBlocks;
    const blocks = Math.min(run.plain.length * frameBlocks, segment.blockCount - firstIndex);
    const bytes = new Uint8Array(blocks * blockBytes);
    await segment.file.file.read(bytes, journalBlockPosition(firstIndex));
    if (this.sources.journaled.get(segment.number) !== segment) return false;
    for (let at = 0; at < run.plain.length; at += 1) {
      run.plain[at] = verifiedFrame(segment, run.first + at, bytes, at * frameBlocks * blockBytes);
    }
    return true;
  }

  /** Frames `first + from` to `first + end - 1`, which lie one after the other in their object. */
  private async fillFromStore(
    at: LogPosition,
    table: FrameTable,
    run: FrameRun,
    from: number,
    end: number,
  ): Promise<void> {
    const { store, volumeId } = this.sources;
    const key = segmentKey(volumeId, at);
    const offset = table.offsets[run.first + from] as number;
    const lastFrame = run.first + end - 1;
    const stop = (table.offsets[lastFrame] as number) + (table.storedBytes[lastFrame] as number);
    this.storeReads += 1;
    const bytes = await store
      .get(key, { offset, lengthBytes: stop - offset })
      .catch((error: unknown) => aboutObject(error, key));
    if (bytes instanceof Uint8Array) {
      await this.unpackRun(at, table, run, from, end, bytes, offset);
      this.keepOnDisk(table, run, from, end, bytes, offset);
    } else {
      run.plain.fill(bytes, from, end);
    }
  }

  /** Unpacks frames `first + from` to `first + end - 1` from `bytes`, which begin at `offset`. */
  private async unpackRun(
    at: LogPosition,
    table: FrameTable,
    run: FrameRun,
    from: number,
    end: number,
    bytes: Uint8Array,
    offset: number,
  ): Promise<void> {
    const { clock } = this.sources;
    for (let index = from; index < end; index += 1) {
      const frame = run.first + index;
      const start = (table.offsets[frame] as number) - offset;
      const stored = bytes.subarray(start, start + (table.storedBytes[frame] as number));
      run.plain[index] = this.unpack(at, table, frame, stored);
      if ((index - from) % unpackBatch === unpackBatch - 1) await breathe(clock);
    }
  }

  /**
   * Puts what was fetched into the disk cache. Whole objects are not: who reads in order is served
   * ahead of time by the store, and would push out what is read here and there.
   */
  private keepOnDisk(
    table: FrameTable,
    run: FrameRun,
    from: number,
    end: number,
    bytes: Uint8Array,
    offset: number,
  ): void {
    const { diskCache } = this.sources;
    if (diskCache === undefined) return;
    for (let index = from; index < end; index += 1) {
      if (!(run.plain[index] instanceof Uint8Array)) continue;
      const frame = run.first + index;
      const start = (table.offsets[frame] as number) - offset;
      const stored = bytes.subarray(start, start + (table.storedBytes[frame] as number));
      diskCache.write(run.segment * segmentFrames + frame, stored);
    }
  }

  /** The plain bytes of a frame, or what is wrong with it. */
  private unpack(
    at: LogPosition,
    table: FrameTable,
    frame: number,
    stored: Uint8Array,
  ): Uint8Array | StorageError {
    const { volumeId } = this.sources;
    try {
      return decodeFrame(table, frame, stored, frameSeed(volumeId, at, frame));
    } catch (error) {
      return aboutObject(error, segmentKey(volumeId, at));
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
    const { store, volumeId } = this.sources;
    const at = { segment, epoch: this.sources.epochOf(segment) };
    const key = segmentKey(volumeId, at);
    try {
      return this.readTable(at, await store.getStart(key, frameTableReachBytes));
    } catch (error) {
      throw aboutObject(error, key);
    }
  }

  /** The table from the start of an object, which it must be and be whole. */
  private readTable(at: LogPosition, start: ObjectStart): FrameTable {
    const header = decodeSegmentHeader(start.bytes);
    requireSegment(header, this.sources.volumeId, at);
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
