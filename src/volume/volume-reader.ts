import type { Extent } from '../base/block-device.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import { blockBytes, frameBlocks, pageBlocks, segmentBlocks } from '../format/geometry.ts';
import { nowhere } from '../format/map-page.ts';
import type { BlockCache } from './block-cache.ts';
import { type BlockMap, unknownIndex } from './block-map.ts';
import type { FrameReader } from './frame-reader.ts';
import { MapPage, type Run } from './map-page.ts';
import { Readahead } from './readahead.ts';
import type { SegmentMemory } from './segment-memory.ts';

/** A read that must wait fetches this much of what it still wants at once. */
const demandWindowBytes = 8 * 2 ** 20;

export interface VolumeReaderContext {
  /** Its name, for what is said of blocks that cannot be read. */
  readonly volume: string;
  readonly sizeBytes: () => number;
  readonly map: Pick<BlockMap, 'find' | 'fillUnknown'>;
  readonly memory: Pick<SegmentMemory, 'find'>;
  readonly cache: Pick<BlockCache, 'has' | 'copy' | 'insert' | 'hits' | 'misses'>;
  readonly frames: FrameReader;
  readonly readaheadBytes: number;
  /** The stored page; `undefined` when it is one hole. */
  readPage(pageIndex: number): Promise<MapPage | undefined>;
}

/** Blocks of one frame, one after the other in the volume as in the frame. */
interface Piece {
  readonly block: number;
  readonly count: number;
  readonly segment: number;
  readonly index: number;
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
    const { map, memory } = this.context;
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
      const data = memory.find(run.segment);
      if (data !== undefined) {
        const start = run.index * blockBytes + within;
        into.set(data.subarray(start, start + runEnd - done), done);
        done = runEnd;
        continue;
      }
      const reached = this.copyCached(run, within, into, done, runEnd);
      if (reached < runEnd) return reached;
      done = reached;
    }
    return done;
  }

  /** Copies a run's blocks from the cache, from `within` the first on; returns how far it came. */
  private copyCached(
    run: Run,
    within: number,
    into: Uint8Array,
    from: number,
    end: number,
  ): number {
    const { cache } = this.context;
    let done = from;
    let { index } = run;
    let skip = within;
    while (done < end) {
      const part = Math.min(end - done, blockBytes - skip);
      if (!cache.copy(run.segment, index, skip, part, into, done)) return done;
      done += part;
      index += 1;
      skip = 0;
    }
    return done;
  }

  private async readAbsent(offset: number, into: Uint8Array, from: number): Promise<void> {
    let done = from;
    while (done < into.byteLength) {
      const end = Math.min(into.byteLength, done + demandWindowBytes);
      const window = into.subarray(done, end);
      await this.gather(offset + done, window.byteLength, window);
      done = this.readResident(offset, into, end);
    }
  }

  /** Brings a range into the cache, in as few requests as can be. */
  fetch(offset: number, lengthBytes: number): Promise<void> {
    const room = Math.max(0, this.context.sizeBytes() - offset);
    return this.gather(offset, Math.min(lengthBytes, room), undefined);
  }

  /**
   * Reads a range from wherever it is, into `into` where that is given, and keeps what it had to
   * fetch. Fails with the first piece that cannot be read, after all others have been.
   */
  private async gather(
    offset: number,
    lengthBytes: number,
    into: Uint8Array | undefined,
  ): Promise<void> {
    const { frames } = this.context;
    const pieces = await this.absentPieces(offset, lengthBytes, into);
    const loads: Promise<void>[] = [];
    for (let at = 0; at < pieces.length; ) {
      // Pieces of frames that follow each other in one segment are fetched together.
      let next = at + 1;
      while (next < pieces.length && isNextFrame(pieces[next - 1], pieces[next])) next += 1;
      const [first, last] = [pieces[at], pieces[next - 1]] as [Piece, Piece];
      // One piece for each frame, in order.
      const group = pieces.slice(at, next);
      const start = frameOf(first);
      const absent = new Set<Piece>();
      const loading = frames.load(first.segment, start, frameOf(last), (frame, plain, present) => {
        const piece = group[frame - start] as Piece;
        if (isPresent(piece, present)) this.take(piece, plain, present, offset, into);
        else absent.add(piece);
      });
      group.forEach((piece, index) => {
        const load = (loading[index] as Promise<void>).then(() => {
          if (absent.has(piece)) throw notKept(piece);
        });
        loads.push(
          load.catch((error: unknown) => {
            throw this.unreadable(error, piece.block, piece.count);
          }),
        );
      });
      at = next;
    }
    await Promise.allSettled(loads);
    await Promise.all(loads);
  }

  /** The frame of a piece is there: its bytes go to the reader and, with its neighbours, are kept. */
  private take(
    piece: Piece,
    plain: Uint8Array,
    present: number,
    offset: number,
    into: Uint8Array | undefined,
  ): void {
    const first = frameOf(piece) * frameBlocks;
    if (into !== undefined) {
      const pieceAt = piece.block * blockBytes - offset;
      const from = Math.max(0, -pieceAt);
      const end = Math.min(piece.count * blockBytes, into.byteLength - pieceAt);
      const start = (piece.index - first) * blockBytes;
      into.set(plain.subarray(start + from, start + end), pieceAt + from);
    }
    this.keep(piece, plain, present, first);
  }

  /**
   * Keeps those blocks of a frame that are in it because of the piece or lie near it in the volume,
   * as far as the map says that they still count: what is read next is likely among them.
   */
  private keep(piece: Piece, plain: Uint8Array, present: number, firstIndex: number): void {
    const { map, cache } = this.context;
    const { run } = this;
    const end = Math.ceil((piece.block + piece.count) / frameBlocks) * frameBlocks;
    const frameEnd = firstIndex + plain.byteLength / blockBytes;
    let block = Math.floor(piece.block / frameBlocks) * frameBlocks;
    while (block < end) {
      map.find(block, end - block, run);
      if (run.segment === piece.segment) {
        const from = Math.max(run.index, firstIndex);
        const stop = Math.min(run.index + run.count, frameEnd);
        for (let index = from; index < stop; index += 1) {
          if ((present & (1 << (index - firstIndex))) === 0) continue;
          const start = (index - firstIndex) * blockBytes;
          cache.insert(block + index - run.index, run.segment, index, plain, start);
        }
      }
      block += run.count;
    }
  }

  /** What of a range must be fetched, a piece for each frame; the rest is copied to `into`. */
  private async absentPieces(
    offset: number,
    lengthBytes: number,
    into: Uint8Array | undefined,
  ): Promise<Piece[]> {
    const { map } = this.context;
    const run: Run = { segment: 0, index: 0, count: 0 };
    const pieces: Piece[] = [];
    const end = Math.ceil((offset + lengthBytes) / blockBytes);
    let block = Math.floor(offset / blockBytes);
    while (block < end) {
      // What is fetched ahead goes on to the end of its segment: one request for all of it.
      map.find(block, into === undefined ? segmentBlocks : end - block, run);
      if (run.segment === nowhere.segment && run.index === unknownIndex) {
        await this.loadPage(Math.floor(block / pageBlocks));
        continue;
      }
      this.addPieces(pieces, block, run, offset, into);
      block += run.count;
    }
    return pieces;
  }

  private addPieces(
    pieces: Piece[],
    firstBlock: number,
    { segment, index: firstIndex, count }: Run,
    offset: number,
    into: Uint8Array | undefined,
  ): void {
    for (let done = 0; done < count; ) {
      const block = firstBlock + done;
      const index = firstIndex + done;
      const inFrame = frameBlocks - (index % frameBlocks);
      const part = segment === nowhere.segment ? count : Math.min(count - done, inFrame);
      const resident =
        into === undefined
          ? this.isResident(segment, index, part)
          : this.copyResident(block, part, offset, into);
      if (!resident) pieces.push({ block, count: part, segment, index });
      done += part;
    }
  }

  private isResident(segment: number, index: number, count: number): boolean {
    const { memory, cache } = this.context;
    if (segment === nowhere.segment || memory.find(segment) !== undefined) return true;
    for (let at = 0; at < count; at += 1) if (!cache.has(segment, index + at)) return false;
    return true;
  }

  /** Copies whole or partial blocks to where they belong in `into`; false when some are absent. */
  private copyResident(block: number, count: number, offset: number, into: Uint8Array): boolean {
    const from = Math.max(0, block * blockBytes - offset);
    const end = Math.min(into.byteLength, (block + count) * blockBytes - offset);
    return this.readResident(offset + from, into.subarray(from, end), 0) === end - from;
  }

  /** Says of damage which blocks it takes, and what can be done. */
  private unreadable(error: unknown, firstBlock: number, count: number): unknown {
    if (!isStorageError(error, 'corrupt')) return error;
    const { volume } = this.context;
    const blocks =
      count === 1 ? `block ${firstBlock}` : `blocks ${firstBlock} to ${firstBlock + count - 1}`;
    return new StorageError(
      'corrupt',
      `Volume ${volume}: ${blocks} cannot be read. ${error.message} Bring it back from a replica or an earlier version; what is overwritten can be read again.`,
      { cause: error },
    );
  }

  /** Fills in what the map does not know of a page. */
  loadPage(pageIndex: number): Promise<void> {
    const loading = this.pageLoads.get(pageIndex);
    if (loading !== undefined) return loading;
    const load = this.context
      .readPage(pageIndex)
      .then(
        (page) => {
          this.context.map.fillUnknown(pageIndex, page ?? new MapPage(nowhere.hole));
        },
        (error: unknown) => {
          throw this.unreadable(error, pageIndex * pageBlocks, pageBlocks);
        },
      )
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

function frameOf(piece: Piece): number {
  return Math.floor(piece.index / frameBlocks);
}

/** Whether a frame has all blocks of a piece of it. */
function isPresent({ index, count }: Piece, present: number): boolean {
  const wanted = ((1 << count) - 1) << (index % frameBlocks);
  return (present & wanted) === wanted;
}

/**
 * The segment was moved without these blocks: nothing needed them, as of a manifest later than that
 * by which the map was read.
 */
function notKept({ segment }: Piece): StorageError {
  return new StorageError(
    'corrupt',
    `What is left of segment ${segment} is without it: the volume has been written since it was opened for reading.`,
  );
}

function isNextFrame(piece: Piece | undefined, next: Piece | undefined): boolean {
  if (piece === undefined || next === undefined || piece.segment !== next.segment) return false;
  return frameOf(next) === frameOf(piece) + 1;
}
