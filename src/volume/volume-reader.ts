import type { Extent } from '../base/block-device.ts';
import { isStorageError } from '../base/errors.ts';
import { blockBytes, frameBlocks, frameBytes, pageBlocks } from '../format/geometry.ts';
import { nowhere } from '../format/map-page.ts';
import { type BlockMap, unknownIndex } from './block-map.ts';
import { type FrameCache, frameNumber } from './frame-cache.ts';
import type { FrameReader } from './frame-reader.ts';
import { MapPage, type Run } from './map-page.ts';
import { Readahead } from './readahead.ts';

/** A read that must wait fetches this much of what it still wants at once. */
const demandWindowBytes = 8 * 2 ** 20;

export interface VolumeReaderContext {
  readonly sizeBytes: () => number;
  readonly map: BlockMap;
  readonly cache: FrameCache;
  readonly frames: FrameReader;
  readonly readaheadBytes: number;
  /** The stored page; `undefined` when it is one hole. */
  readPage(pageIndex: number): Promise<MapPage | undefined>;
}

/** Finds the bytes of the volume: what RAM holds at once, the rest by waiting for it. */
export class VolumeReader {
  private readonly context: VolumeReaderContext;
  private readonly readahead: Readahead;
  private readonly run: Run = { segment: 0, index: 0, count: 0 };
  private readonly pageLoads = new Map<number, Promise<void>>();

  constructor(context: VolumeReaderContext) {
    this.context = context;
    this.readahead = new Readahead(context.readaheadBytes, (offset, lengthBytes) => {
      // A hint: a reader that wants these bytes meets the error itself.
      this.fetch(offset, lengthBytes).catch(() => undefined);
    });
  }

  read(offset: number, into: Uint8Array): Promise<void> | undefined {
    this.readahead.observe(offset, into.byteLength);
    const done = this.readResident(offset, into, 0);
    if (done === into.byteLength) {
      this.context.cache.hits += 1;
      return undefined;
    }
    this.context.cache.misses += 1;
    return this.readAbsent(offset, into, done);
  }

  /** Fills `into` from byte `from` on as far as RAM can; returns how far that is. */
  private readResident(offset: number, into: Uint8Array, from: number): number {
    const { map, cache } = this.context;
    const { run } = this;
    const end = into.byteLength;
    let done = from;
    while (done < end) {
      const position = offset + done;
      const block = Math.floor(position / blockBytes);
      const within = position - block * blockBytes;
      map.find(block, Math.ceil((within + end - done) / blockBytes), run);
      const runEnd = Math.min(end, done + run.count * blockBytes - within);
      if (run.segment === nowhere.segment) {
        if (run.index === unknownIndex) return done;
        into.fill(0, done, runEnd);
        done = runEnd;
        continue;
      }
      let at = run.index * blockBytes + within;
      while (done < runEnd) {
        const inFrame = at % frameBytes;
        const part = Math.min(runEnd - done, frameBytes - inFrame);
        const slot = cache.find(frameNumber(run.segment, (at - inFrame) / frameBytes));
        if (slot < 0) return done;
        into.set(cache.view(slot, inFrame, part), done);
        done += part;
        at += part;
      }
    }
    return done;
  }

  private async readAbsent(offset: number, into: Uint8Array, from: number): Promise<void> {
    let done = from;
    let fetchedTo = from;
    for (;;) {
      done = this.readResident(offset, into, done);
      if (done === into.byteLength) return;
      const position = offset + done;
      if (done >= fetchedTo) {
        const lengthBytes = Math.min(into.byteLength - done, demandWindowBytes);
        fetchedTo = done + lengthBytes;
        // Together and in few requests; what goes wrong with one frame is told by the next step.
        await this.fetch(position, lengthBytes).catch((error: unknown) => {
          if (!isStorageError(error)) throw error;
        });
        continue;
      }
      done += await this.readOne(position, into, done);
    }
  }

  /** Waits for the one frame, or map page, that holds the byte at `position`; returns bytes copied. */
  private async readOne(position: number, into: Uint8Array, done: number): Promise<number> {
    const { map, cache, frames } = this.context;
    const block = Math.floor(position / blockBytes);
    const within = position - block * blockBytes;
    const run = { segment: 0, index: 0, count: 0 };
    map.find(block, 1, run);
    if (run.segment === nowhere.segment) {
      if (run.index === unknownIndex) await this.loadPage(Math.floor(block / pageBlocks));
      return 0;
    }
    const at = run.index * blockBytes + within;
    const inFrame = at % frameBytes;
    const part = Math.min(into.byteLength - done, blockBytes - within);
    await frames.withFrame(run.segment, (at - inFrame) / frameBytes, (slot) => {
      into.set(cache.view(slot, inFrame, part), done);
    });
    return part;
  }

  /** Brings a range into the cache, in as few requests as can be. */
  async fetch(offset: number, lengthBytes: number): Promise<void> {
    const loads: Promise<void>[] = [];
    try {
      await this.startLoads(offset, lengthBytes, loads);
    } finally {
      await Promise.allSettled(loads);
    }
    await Promise.all(loads);
  }

  private async startLoads(
    offset: number,
    lengthBytes: number,
    loads: Promise<void>[],
  ): Promise<void> {
    const { map, frames, sizeBytes } = this.context;
    const run = { segment: 0, index: 0, count: 0 };
    let block = Math.floor(offset / blockBytes);
    const end = Math.ceil(Math.min(offset + lengthBytes, sizeBytes()) / blockBytes);
    while (block < end) {
      map.find(block, end - block, run);
      if (run.segment !== nowhere.segment) {
        const first = Math.floor(run.index / frameBlocks);
        const last = Math.floor((run.index + run.count - 1) / frameBlocks);
        loads.push(frames.loadFrames(run.segment, first, last));
      } else if (run.index === unknownIndex) {
        await this.loadPage(Math.floor(block / pageBlocks));
        continue;
      }
      block += run.count;
    }
  }

  private loadPage(pageIndex: number): Promise<void> {
    const loading = this.pageLoads.get(pageIndex);
    if (loading !== undefined) return loading;
    const load = this.context
      .readPage(pageIndex)
      .then((page) => {
        this.context.map.fillUnknown(pageIndex, page ?? new MapPage(nowhere.hole));
      })
      .finally(() => this.pageLoads.delete(pageIndex));
    this.pageLoads.set(pageIndex, load);
    return load;
  }

  /** As `BlockDevice.status`. */
  async status(offset: number, lengthBytes: number, maxExtents: number): Promise<Extent[]> {
    const run = { segment: 0, index: 0, count: 0 };
    const extents: Extent[] = [];
    const end = offset + lengthBytes;
    let at = offset;
    while (at < end) {
      const block = Math.floor(at / blockBytes);
      this.context.map.find(block, Math.ceil((end - block * blockBytes) / blockBytes), run);
      const zero = run.segment === nowhere.segment;
      if (zero && run.index === unknownIndex) {
        await this.loadPage(Math.floor(block / pageBlocks));
        continue;
      }
      const hole = zero && run.index === nowhere.hole;
      const stop = Math.min(end, (block + run.count) * blockBytes);
      const last = extents.at(-1);
      if (last !== undefined && last.hole === hole && last.zero === zero) {
        extents[extents.length - 1] = { ...last, lengthBytes: last.lengthBytes + stop - at };
      } else {
        if (extents.length === maxExtents) break;
        extents.push({ lengthBytes: stop - at, hole, zero });
      }
      at = stop;
    }
    return extents;
  }
}
