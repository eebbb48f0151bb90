import { assert } from '../base/assert.ts';
import { checksum, viewOf, writeUint64 } from '../format/binary.ts';
import { type EntryKind, encodeEntry, entryKind, entryOffset } from '../format/entry.ts';
import {
  blockBytes,
  frameBlocks,
  segmentBlocks,
  segmentEntries,
  segmentFrames,
} from '../format/geometry.ts';
import {
  encodeJournalHeader,
  type JournalHeader,
  recordBytes,
  recordSeed,
  sealRecord,
} from '../format/journal-file.ts';
import { type FrameCache, frameNumber } from './frame-cache.ts';
import type { JournalFile } from './journal-files.ts';
import type { ScannedSegment } from './journal-scan.ts';

/** A run of bytes that goes to the journal file next, and what it brings the segment to. */
export interface JournalBatch {
  readonly records: Uint8Array;
  readonly recordsPosition: number;
  readonly data: Uint8Array[];
  readonly firstIndex: number;
  readonly entryCount: number;
  readonly blockCount: number;
}

/**
 * A segment that is not in the store yet: its entries, and its data in pinned slots of the frame
 * cache until the journal file holds them. Blocks are only ever added.
 */
export class SegmentBuffer {
  readonly header: JournalHeader;
  readonly file: JournalFile;
  readonly openedMs: number;
  entryCount = 0;
  blockCount = 0;
  /** What the journal file holds, and how much of that a sync has made durable. */
  journaledEntries = 0;
  journaledBlocks = 0;
  syncedEntries = 0;
  sealed = false;
  /** Wall clock at sealing. */
  sealedMs = 0;
  private records: Uint8Array;
  private view: DataView;
  private readonly seed: number;
  private readonly blockChecksums = new Uint32Array(segmentBlocks);
  private readonly slots = new Int32Array(segmentFrames).fill(-1);
  private readonly cache: FrameCache;
  /** Entries before this one are being written and can no longer grow. */
  private frozenEntries = 0;
  private releasedFrames = 0;

  constructor(header: JournalHeader, file: JournalFile, cache: FrameCache, openedMs: number) {
    this.header = header;
    this.file = file;
    this.cache = cache;
    this.openedMs = openedMs;
    this.seed = recordSeed(header);
    this.records = new Uint8Array(64 * recordBytes);
    this.view = viewOf(this.records);
  }

  /** A segment found whole in its journal file after a crash: sealed, and nothing of it in RAM. */
  static recovered(
    scanned: ScannedSegment,
    file: JournalFile,
    cache: FrameCache,
    openedMs: number,
    sealedMs: number,
  ): SegmentBuffer {
    const segment = new SegmentBuffer(scanned.header, file, cache, openedMs);
    segment.records = scanned.records;
    segment.view = viewOf(scanned.records);
    segment.blockChecksums.set(scanned.blockChecksums);
    segment.entryCount = scanned.entryCount;
    segment.blockCount = scanned.blockCount;
    segment.journaledEntries = scanned.entryCount;
    segment.journaledBlocks = scanned.blockCount;
    segment.syncedEntries = scanned.entryCount;
    segment.sealed = true;
    segment.sealedMs = sealedMs;
    return segment;
  }

  get number(): number {
    return this.header.segment;
  }

  get isFull(): boolean {
    return this.blockCount === segmentBlocks || this.entryCount === segmentEntries;
  }

  get isJournaled(): boolean {
    return this.journaledEntries === this.entryCount;
  }

  /** The records of all entries; each begins with its entry. */
  get recordTable(): Uint8Array {
    return this.records.subarray(0, this.entryCount * recordBytes);
  }

  blockChecksum(index: number): number {
    return this.blockChecksums[index] as number;
  }

  /**
   * Appends up to `count` blocks of `from` (from byte `at`) as blocks `firstBlock …`; returns how
   * many fitted: 0 when the segment is full or the cache has no slot to give.
   */
  appendData(firstBlock: number, count: number, from: Uint8Array, at: number): number {
    if (this.isFull) return 0;
    const firstIndex = this.blockCount;
    const fits = Math.min(count, segmentBlocks - firstIndex);
    let done = 0;
    while (done < fits) {
      const index = firstIndex + done;
      const inFrame = index % frameBlocks;
      const part = Math.min(fits - done, frameBlocks - inFrame);
      const slot = this.slotFor(Math.floor(index / frameBlocks));
      if (slot < 0) break;
      const start = at + done * blockBytes;
      const source =
        start === 0 && from.byteLength === part * blockBytes
          ? from
          : from.subarray(start, start + part * blockBytes);
      this.cache.memoryOf(slot).set(source, this.cache.offsetOf(slot) + inFrame * blockBytes);
      done += part;
    }
    if (done === 0) return 0;
    this.blockCount = firstIndex + done;
    if (!this.growLastEntry(firstBlock, done, firstIndex)) {
      this.addEntry(entryKind.data, firstBlock, done, firstIndex);
    }
    return done;
  }

  /** Appends an entry without data; false when the segment is full. */
  appendZero(kind: EntryKind, firstBlock: number, count: number): boolean {
    if (this.isFull) return false;
    this.addEntry(kind, firstBlock, count, 0);
    return true;
  }

  private slotFor(frame: number): number {
    const known = this.slots[frame] as number;
    if (known >= 0) return known;
    const slot = this.cache.take();
    if (slot < 0) return -1;
    this.cache.publish(slot, frameNumber(this.number, frame));
    this.slots[frame] = slot;
    return slot;
  }

  private addEntry(kind: EntryKind, firstBlock: number, count: number, firstIndex: number): void {
    const at = this.entryCount * recordBytes;
    if (at === this.records.byteLength) this.growRecords();
    encodeEntry(this.view, at, { kind, firstBlock, count, firstIndex });
    this.entryCount += 1;
  }

  /** A write that goes on where the last one ended becomes part of its entry. */
  private growLastEntry(firstBlock: number, count: number, firstIndex: number): boolean {
    if (this.entryCount === this.frozenEntries) return false;
    const at = (this.entryCount - 1) * recordBytes;
    if (this.view.getUint8(at) !== entryKind.data) return false;
    const before = this.view.getUint32(at + entryOffset.count, true);
    const low = this.view.getUint32(at + entryOffset.firstBlock, true);
    const high = this.view.getUint32(at + entryOffset.firstBlock + 4, true);
    const lastBlock = high * 0x1_0000_0000 + low + before;
    if (lastBlock !== firstBlock) return false;
    const lastIndex = this.view.getUint16(at + entryOffset.firstIndex, true) + before;
    assert(lastIndex === firstIndex, 'blocks of a segment are used in order');
    writeUint64(this.view, at + entryOffset.count, before + count);
    return true;
  }

  private growRecords(): void {
    const larger = new Uint8Array(
      Math.min(segmentEntries * recordBytes, this.records.byteLength * 4),
    );
    larger.set(this.records);
    this.records = larger;
    this.view = viewOf(larger);
  }

  /** What the journal file does not hold yet, with its checksums; `undefined` when it holds all. */
  nextBatch(): JournalBatch | undefined {
    const from = this.journaledEntries;
    const to = this.entryCount;
    if (from === to) return undefined;
    this.frozenEntries = to;
    this.sumBlocks(this.journaledBlocks, this.blockCount);
    const sums = new Uint8Array(this.blockChecksums.buffer);
    for (let ordinal = from; ordinal < to; ordinal += 1) {
      const at = ordinal * recordBytes;
      const isData = this.view.getUint8(at) === entryKind.data;
      const index = this.view.getUint16(at + entryOffset.firstIndex, true);
      const count = isData ? this.view.getUint32(at + entryOffset.count, true) : 0;
      const own = sums.subarray(index * 4, (index + count) * 4);
      sealRecord(this.records, this.view, at, ordinal, this.seed, own);
    }
    return {
      records: this.records.slice(from * recordBytes, to * recordBytes),
      recordsPosition: from,
      data: this.dataViews(this.journaledBlocks, this.blockCount),
      firstIndex: this.journaledBlocks,
      entryCount: to,
      blockCount: this.blockCount,
    };
  }

  private sumBlocks(from: number, to: number): void {
    for (let index = from; index < to; index += 1) {
      const slot = this.slots[Math.floor(index / frameBlocks)] as number;
      const block = this.cache.view(slot, (index % frameBlocks) * blockBytes, blockBytes);
      this.blockChecksums[index] = checksum(block);
    }
  }

  private dataViews(from: number, to: number): Uint8Array[] {
    const views: Uint8Array[] = [];
    for (let index = from; index < to; ) {
      const inFrame = index % frameBlocks;
      const part = Math.min(to - index, frameBlocks - inFrame);
      const slot = this.slots[Math.floor(index / frameBlocks)] as number;
      views.push(this.cache.view(slot, inFrame * blockBytes, part * blockBytes));
      index += part;
    }
    return views;
  }

  encodedHeader(): Uint8Array {
    return encodeJournalHeader(this.header);
  }

  /** The journal file holds what the batch brought: frames that cannot grow may leave the cache. */
  markJournaled(batch: JournalBatch): void {
    this.journaledEntries = batch.entryCount;
    this.journaledBlocks = batch.blockCount;
    this.releaseFrames();
  }

  seal(sealedMs: number): void {
    assert(!this.sealed, 'a segment is sealed once');
    this.sealed = true;
    this.sealedMs = sealedMs;
    this.releaseFrames();
  }

  /** Unpins the frames that are whole in the journal file. */
  private releaseFrames(): void {
    const done = this.sealed && this.isJournaled;
    const whole = Math.floor(this.journaledBlocks / frameBlocks);
    const end = done ? segmentFrames : whole;
    for (let frame = this.releasedFrames; frame < end; frame += 1) {
      const slot = this.slots[frame] as number;
      if (slot < 0) break;
      this.slots[frame] = -1;
      this.cache.unpin(slot);
      this.releasedFrames = frame + 1;
    }
  }
}
