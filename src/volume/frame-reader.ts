import type { Clock } from '../base/clock.ts';
import { breathe } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { checksum } from '../format/binary.ts';
import { blockBytes, frameBlocks, frameBytes } from '../format/geometry.ts';
import { journalBlockPosition } from '../format/journal-file.ts';
import { type LogPosition, segmentKey } from '../format/names.ts';
import {
  decodeFrame,
  decodeFrameTable,
  decodeSegmentHeader,
  type FrameTable,
  frameSeed,
  frameTableReachBytes,
  requireSegment,
} from '../format/segment-object.ts';
import type { DiskCache } from './disk-cache.ts';
import { type FrameCache, frameNumber } from './frame-cache.ts';
import type { SegmentBuffer } from './segment-buffer.ts';

/** Frame tables kept in RAM; 2 KiB each. */
const maximumTables = 4096;
/** Frames unpacked before others get their turn: about 1 ms. */
const unpackBatch = 16;

export interface FrameSources {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly volumeId: string;
  readonly cache: FrameCache;
  readonly diskCache: DiskCache | undefined;
  /** Segments that are still in the journal. */
  readonly journaled: ReadonlyMap<number, SegmentBuffer>;
  /** Under which epoch a segment was stored. */
  epochOf(segment: number): number;
}

/**
 * Brings frames into the cache: from the journal file while the segment is there, else from the
 * disk cache, else by a ranged read of the object. However many want a frame, it is fetched once.
 */
export class FrameReader {
  private readonly sources: FrameSources;
  private readonly tables = new Map<number, FrameTable>();
  private readonly tableLoads = new Map<number, Promise<FrameTable>>();
  /** Slots being filled, by frame number; pinned meanwhile. */
  private readonly loads = new Map<number, Promise<void>>();
  journalReads = 0;
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

  /** Calls `use` with a slot that holds the frame, which stays in place during the call. */
  async withFrame(segment: number, frame: number, use: (slot: number) => void): Promise<void> {
    const number = frameNumber(segment, frame);
    const { cache } = this.sources;
    for (;;) {
      const present = cache.find(number);
      const load = this.loads.get(number);
      if (present >= 0) {
        use(present);
        return;
      }
      await (load ?? this.loadFrames(segment, frame, frame));
    }
  }

  /** Whether a frame must be fetched: it is neither here nor on its way. */
  private isAbsent(segment: number, frame: number): boolean {
    const number = frameNumber(segment, frame);
    return !this.sources.cache.has(number) && !this.loads.has(number);
  }

  /** Loads those of the frames `first` to `last` of a segment that are absent. */
  async loadFrames(segment: number, first: number, last: number): Promise<void> {
    const waits: Promise<unknown>[] = [];
    for (let frame = first; frame <= last; frame += 1) {
      const load = this.loads.get(frameNumber(segment, frame));
      if (load !== undefined) {
        waits.push(load);
      } else if (this.isAbsent(segment, frame)) {
        let end = frame;
        while (end < last && this.isAbsent(segment, end + 1)) end += 1;
        waits.push(this.startLoads(segment, frame, end));
        frame = end;
      }
    }
    await Promise.all(waits);
  }

  /** Takes slots for a run of absent frames and fills them by as few reads as can be. */
  private async startLoads(segment: number, first: number, last: number): Promise<void> {
    const { cache } = this.sources;
    const slots: number[] = [];
    for (let frame = first; frame <= last; frame += 1) {
      const slot = cache.take();
      if (slot < 0) break;
      slots.push(slot);
    }
    if (slots.length === 0) {
      await cache.whenUnpinned();
      return;
    }
    const filling = this.fill(segment, first, slots);
    slots.forEach((slot, at) => {
      const number = frameNumber(segment, first + at);
      const load = filling.then(
        () => {
          this.loads.delete(number);
          cache.publish(slot, number);
          cache.unpin(slot);
        },
        (error: unknown) => {
          this.loads.delete(number);
          cache.unpin(slot);
          throw error;
        },
      );
      // Whoever waits gets the error; a prefetch that nobody waits for must not end the process.
      load.catch(() => undefined);
      this.loads.set(number, load);
    });
    await filling;
  }

  private async fill(segment: number, first: number, slots: readonly number[]): Promise<void> {
    const journaled = this.sources.journaled.get(segment);
    if (journaled !== undefined && (await this.fillFromJournal(journaled, first, slots))) return;
    const table = await this.tableOf(segment);
    const at = { segment, epoch: this.sources.epochOf(segment) };
    let from = 0;
    while (from < slots.length) {
      const missing = await this.fillFromDiskCache(at, table, first, slots, from);
      if (missing === slots.length) return;
      // One request for all that the disk cache does not have, up to the next that it has.
      let end = missing + 1;
      while (end < slots.length && !this.isInDiskCache(segment, first + end)) end += 1;
      await this.fillFromStore(at, table, first, slots, missing, end);
      from = end;
    }
  }

  private isInDiskCache(segment: number, frame: number): boolean {
    return this.sources.diskCache?.has(frameNumber(segment, frame)) ?? false;
  }

  /** Fills slots from `from` on while the disk cache has them; returns the first that it has not. */
  private async fillFromDiskCache(
    at: LogPosition,
    table: FrameTable,
    first: number,
    slots: readonly number[],
    from: number,
  ): Promise<number> {
    const { diskCache } = this.sources;
    if (diskCache === undefined) return from;
    for (let index = from; index < slots.length; index += 1) {
      const frame = first + index;
      const number = frameNumber(at.segment, frame);
      const stored = await diskCache.read(number, table.storedBytes[frame] ?? 0);
      if (stored === undefined) return index;
      try {
        this.unpack(at, table, frame, stored, slots[index] as number);
      } catch {
        // What the local disk has changed is fetched again: the object is the truth.
        diskCache.forget(number);
        return index;
      }
    }
    return slots.length;
  }

  /** False when the segment has left the journal meanwhile: its file may be another's already. */
  private async fillFromJournal(
    segment: SegmentBuffer,
    first: number,
    slots: readonly number[],
  ): Promise<boolean> {
    const { cache, journaled } = this.sources;
    const firstIndex = first * frameBlocks;
    const blocks = Math.min(slots.length * frameBlocks, segment.blockCount - firstIndex);
    const bytes = new Uint8Array(blocks * blockBytes);
    this.journalReads += 1;
    await segment.file.file.read(bytes, journalBlockPosition(firstIndex));
    if (journaled.get(segment.number) !== segment) return false;
    for (let at = 0; at < blocks; at += 1) {
      const block = bytes.subarray(at * blockBytes, (at + 1) * blockBytes);
      if (checksum(block) === segment.blockChecksum(firstIndex + at)) continue;
      throw new StorageError(
        'corrupt',
        `Block ${firstIndex + at} of segment ${segment.number} in ${segment.file.path} fails its checksum: the local disk has changed it.`,
      );
    }
    slots.forEach((slot, at) => {
      const part = bytes.subarray(at * frameBytes, (at + 1) * frameBytes);
      cache.memoryOf(slot).set(part, cache.offsetOf(slot));
    });
    return true;
  }

  /** Frames `first + from` to `first + end - 1`, which lie one after the other in their object. */
  private async fillFromStore(
    at: LogPosition,
    table: FrameTable,
    first: number,
    slots: readonly number[],
    from: number,
    end: number,
  ): Promise<void> {
    const key = segmentKey(this.sources.volumeId, at);
    try {
      await this.fetchFrames(key, at, table, first, slots, from, end);
    } catch (error) {
      throw aboutObject(error, key);
    }
  }

  private async fetchFrames(
    key: string,
    at: LogPosition,
    table: FrameTable,
    first: number,
    slots: readonly number[],
    from: number,
    end: number,
  ): Promise<void> {
    const { store, clock, diskCache } = this.sources;
    const offset = table.offsets[first + from] as number;
    const lastFrame = first + end - 1;
    const stop = (table.offsets[lastFrame] as number) + (table.storedBytes[lastFrame] as number);
    this.storeReads += 1;
    const bytes = await store.get(key, { offset, lengthBytes: stop - offset });
    for (let index = from; index < end; index += 1) {
      const frame = first + index;
      const start = (table.offsets[frame] as number) - offset;
      const stored = bytes.subarray(start, start + (table.storedBytes[frame] as number));
      this.unpack(at, table, frame, stored, slots[index] as number);
      diskCache?.write(frameNumber(at.segment, frame), stored);
      if ((index - from) % unpackBatch === unpackBatch - 1) await breathe(clock);
    }
  }

  private unpack(
    at: LogPosition,
    table: FrameTable,
    frame: number,
    stored: Uint8Array,
    slot: number,
  ): void {
    const { cache, volumeId } = this.sources;
    const plain = decodeFrame(table, frame, stored, frameSeed(volumeId, at, frame));
    cache.memoryOf(slot).set(plain, cache.offsetOf(slot));
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
      const start = await store.getStart(key, frameTableReachBytes);
      const header = decodeSegmentHeader(start.bytes);
      requireSegment(header, volumeId, at);
      if (header.objectBytes !== start.objectBytes) {
        throw new StorageError(
          'corrupt',
          `it has ${start.objectBytes} bytes of ${header.objectBytes}`,
        );
      }
      const table = decodeFrameTable(header, start.bytes);
      this.learnTable(segment, table);
      return table;
    } catch (error) {
      throw aboutObject(error, key);
    }
  }
}

/** Names the object in what went wrong with it; an object that is missing is damage. */
export function aboutObject(error: unknown, key: string): unknown {
  if (!(error instanceof StorageError)) return error;
  if (error.code !== 'corrupt' && error.code !== 'not-found') return error;
  return new StorageError('corrupt', `Object ${key} is damaged: ${error.message}`, {
    cause: error,
  });
}
