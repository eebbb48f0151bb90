import { breathe, type Clock } from '../base/clock.ts';
import type { StorageError } from '../base/errors.ts';
import type { LentBytes } from '../base/lent-bytes.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { segmentFrames } from '../format/geometry.ts';
import { decodeFrame, type FrameTable } from '../format/segment-object.ts';
import type { DiskCache } from './disk-cache.ts';
import type { FetchMemory } from './fetch-memory.ts';
import type { FrameRun } from './frame-loads.ts';
import { aboutObject, isMissingObject } from './object-errors.ts';

/** Frames unpacked before others get their turn: about 1 ms. */
export const unpackBatch = 16;

/** An object whose data lies in frames. */
export interface FramedObject {
  readonly key: string;
  readonly table: FrameTable;
  /** Names it to the disk cache; no other object ever has this number. */
  readonly number: number;
  /** What the checksum of a frame starts from. */
  seedOf(frame: number): number;
}

export interface ObjectFramesContext {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly diskCache: DiskCache | undefined;
  readonly memory: FetchMemory;
}

/** Fetches frames of objects: from the disk cache, else by ranged reads of the store. */
export class ObjectFrames {
  private readonly context: ObjectFramesContext;
  storeReads = 0;

  constructor(context: ObjectFramesContext) {
    this.context = context;
  }

  /** Delivers the frames of a run; rejects with what `isMissingObject` knows when it is not there. */
  async fetch(object: FramedObject, run: FrameRun): Promise<void> {
    const { first, count } = run;
    for (let from = 0; from < count; ) {
      if (await this.readDiskCache(object, run, from)) {
        from += 1;
        continue;
      }
      // One request for all that the disk cache does not have, up to the next that it has.
      let end = from + 1;
      while (end < count && !this.isInDiskCache(object, first + end)) end += 1;
      await this.readStore(object, run, from, end);
      from = end;
    }
  }

  private isInDiskCache({ number }: FramedObject, frame: number): boolean {
    return this.context.diskCache?.has(number * segmentFrames + frame) ?? false;
  }

  private async readDiskCache(
    object: FramedObject,
    run: FrameRun,
    index: number,
  ): Promise<boolean> {
    const { diskCache, memory } = this.context;
    const frame = run.first + index;
    const number = object.number * segmentFrames + frame;
    const stored = await diskCache?.read(number, object.table.storedBytes[frame] ?? 0, memory);
    if (stored === undefined) return false;
    const plain = unpack(object, frame, stored.bytes);
    if (plain instanceof Uint8Array) run.deliver(index, plain);
    // What the local disk has changed is fetched again: the object is the truth.
    else diskCache?.forget(number);
    stored.release();
    return plain instanceof Uint8Array;
  }

  /** Frames `first + from` to `first + end - 1`, which lie one after the other in their object. */
  private async readStore(
    object: FramedObject,
    run: FrameRun,
    from: number,
    end: number,
  ): Promise<void> {
    const { store, memory } = this.context;
    const { key, table } = object;
    const offset = table.offsets[run.first + from] as number;
    const lastFrame = run.first + end - 1;
    const stop = (table.offsets[lastFrame] as number) + (table.storedBytes[lastFrame] as number);
    const { allocate, lent } = memory.loan();
    this.storeReads += 1;
    try {
      const range = { offset, lengthBytes: stop - offset };
      const stored = lent(await store.get(key, range, { allocate }));
      await this.unpackRun(object, run, [from, end], { stored, offset, keep: true });
      stored.release();
    } catch (error) {
      if (isMissingObject(error)) throw error;
      const failure = aboutObject(error, key);
      for (let index = from; index < end; index += 1) run.deliver(index, failure);
    }
  }

  /**
   * Unpacks frames `first + from` to `first + end - 1` of what was read, from `offset` of the object
   * on. What is to be kept goes to the disk cache. Whole objects do not: who reads in order is served
   * ahead of time by the store, and would push out what is read here and there.
   */
  async unpackRun(
    object: FramedObject,
    run: FrameRun,
    [from, end]: readonly [number, number],
    read: { readonly stored: LentBytes; readonly offset: number; readonly keep?: boolean },
  ): Promise<void> {
    const { clock, diskCache } = this.context;
    const { table, number } = object;
    for (let index = from; index < end; index += 1) {
      const frame = run.first + index;
      const start = (table.offsets[frame] as number) - read.offset;
      const stored = read.stored.bytes.subarray(
        start,
        start + (table.storedBytes[frame] as number),
      );
      const plain = unpack(object, frame, stored);
      if (read.keep === true && plain instanceof Uint8Array) {
        diskCache?.write(number * segmentFrames + frame, stored, read.stored);
      }
      run.deliver(index, plain);
      if ((index - from) % unpackBatch === unpackBatch - 1) await breathe(clock);
    }
  }
}

/** The plain bytes of a frame, or what is wrong with it. */
function unpack(
  object: FramedObject,
  frame: number,
  stored: Uint8Array,
): Uint8Array | StorageError {
  try {
    return decodeFrame(object.table, frame, stored, object.seedOf(frame));
  } catch (error) {
    return aboutObject(error, object.key);
  }
}
