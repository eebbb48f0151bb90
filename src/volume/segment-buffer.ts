import { assert } from '../base/assert.ts';
import { checksum, viewOf, writeUint64 } from '../format/binary.ts';
import {
  type EntryKind,
  encodeEntry,
  entryKind,
  entryOffset,
  entryTimeMs,
  maximumEntryTimeMs,
  stampEntry,
} from '../format/entry.ts';
import { blockBytes, segmentBlocks, segmentEntries } from '../format/geometry.ts';
import {
  encodeJournalHeader,
  encodeJournalMark,
  type JournalHeader,
  recordBytes,
  recordSeed,
  sealRecord,
} from '../format/journal-file.ts';
import { groupBlocksMaximum, type JournalSeal } from '../format/sealed-journal.ts';
import type { JournalFile } from './journal-files.ts';
import type { ScannedSegment } from './journal-scan.ts';
import { SealedGroups } from './sealed-groups.ts';

/** Where the times of entries come from. */
export interface EntryTimes {
  /** Milliseconds since 1970; never goes back. */
  nowMs(): number;
  /**
   * Whether a write may be answered before its batch is made. Else all entries of a batch have the
   * time at which it was made, which is before every answer and costs one look at the clock.
   */
  readonly answersEarly: boolean;
}

/** A run of bytes that goes to the journal file next, and what it brings the segment to. */
export interface JournalBatch {
  readonly records: Uint8Array;
  readonly recordsPosition: number;
  /** Empty when only zeroes were written. */
  readonly data: Uint8Array;
  readonly firstIndex: number;
  readonly entryCount: number;
  readonly blockCount: number;
  /** Of an encrypted volume, all that goes to the file, instead of records and data. */
  readonly sealed?: { readonly bytes: Uint8Array; readonly position: number };
}

/**
 * A segment that is not in the store yet: its entries, and its data, in memory at least until the
 * journal file holds it. Blocks are only ever added.
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
  private memory: Uint8Array | undefined;
  /** Entries before this one are being written and can no longer grow. */
  private frozenEntries = 0;
  /** Entries before this one have their time. */
  private stampedEntries = 0;
  private readonly times: EntryTimes | undefined;
  /** How the journal file has it, of an encrypted volume. */
  readonly groups: SealedGroups | undefined;

  /**
   * `memory` for the data, 8 MiB, and `times`; none when it all is in the journal file already. `seal`
   * where the header says that the file is sealed.
   */
  constructor(
    header: JournalHeader,
    file: JournalFile,
    memory: Uint8Array | undefined,
    openedMs: number,
    times?: EntryTimes,
    seal?: JournalSeal,
  ) {
    assert((header.sealing === undefined) === (seal === undefined), 'what is sealed has its key');
    this.times = times;
    this.groups = seal === undefined ? undefined : new SealedGroups(seal);
    this.header = header;
    this.file = file;
    this.memory = memory;
    this.openedMs = openedMs;
    this.seed = recordSeed(header);
    this.records = new Uint8Array(64 * recordBytes);
    this.view = viewOf(this.records);
  }

  /** A segment found whole in its journal file after a crash: sealed, and nothing of it in RAM. */
  static recovered(
    scanned: ScannedSegment,
    file: JournalFile,
    openedMs: number,
    sealedMs: number,
  ): SegmentBuffer {
    const { header, sealed } = scanned;
    const segment = new SegmentBuffer(header, file, undefined, openedMs, undefined, sealed?.seal);
    segment.groups?.found(sealed?.groups ?? []);
    segment.records = scanned.records;
    segment.view = viewOf(scanned.records);
    segment.blockChecksums.set(scanned.blockChecksums);
    segment.entryCount = scanned.entryCount;
    segment.blockCount = scanned.blockCount;
    segment.journaledEntries = scanned.entryCount;
    segment.journaledBlocks = scanned.blockCount;
    segment.syncedEntries = scanned.entryCount;
    segment.stampedEntries = scanned.entryCount;
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
   * many fitted: 0 when the segment is full.
   */
  appendData(firstBlock: number, count: number, from: Uint8Array, at: number): number {
    if (this.isFull) return 0;
    const { memory } = this;
    assert(memory !== undefined && !this.sealed, 'only the open segment is written');
    const firstIndex = this.blockCount;
    const fits = Math.min(count, segmentBlocks - firstIndex, this.entryBlocksMaximum);
    const lengthBytes = fits * blockBytes;
    const source = from.byteLength === lengthBytes ? from : from.subarray(at, at + lengthBytes);
    memory.set(source, firstIndex * blockBytes);
    this.blockCount = firstIndex + fits;
    if (!this.growLastEntry(firstBlock, fits, firstIndex)) {
      this.addEntry(entryKind.data, firstBlock, fits, firstIndex);
    }
    return fits;
  }

  /** What is read again from a sealed file is opened by whole entries: there they are short. */
  private get entryBlocksMaximum(): number {
    return this.groups === undefined ? segmentBlocks : groupBlocksMaximum;
  }

  /** Appends an entry without data; false when the segment is full. */
  appendZero(kind: EntryKind, firstBlock: number, count: number): boolean {
    if (this.isFull) return false;
    this.addEntry(kind, firstBlock, count, 0);
    return true;
  }

  /**
   * Says that a flush of all before was answered at `answeredMs`; false when the segment is full.
   * What has no time yet is not newer than that: it was appended before, and waits for its answer.
   */
  appendFlushed(answeredMs: number): boolean {
    if (this.entryCount === segmentEntries) return false;
    this.addEntry(entryKind.flushed, 0, 0, 0);
    this.stamp(this.sinceOpened(answeredMs));
    return true;
  }

  private addEntry(kind: EntryKind, firstBlock: number, count: number, firstIndex: number): void {
    const at = this.entryCount * recordBytes;
    if (at === this.records.byteLength) this.growRecords();
    encodeEntry(this.view, at, { kind, firstBlock, count, firstIndex });
    this.entryCount += 1;
    if (this.times?.answersEarly === true) this.stamp(this.nowTimeMs());
  }

  /** Gives all entries that have no time yet this one. */
  private stamp(timeMs: number): void {
    for (let ordinal = this.stampedEntries; ordinal < this.entryCount; ordinal += 1) {
      stampEntry(this.view, ordinal * recordBytes, timeMs);
    }
    this.stampedEntries = this.entryCount;
  }

  private nowTimeMs(): number {
    assert(this.times !== undefined, 'only what is written here gets a time here');
    return this.sinceOpened(this.times.nowMs());
  }

  private sinceOpened(timeMs: number): number {
    return Math.min(maximumEntryTimeMs, Math.max(0, timeMs - this.header.openedMs));
  }

  /** When the last entry was written, since 1970; all entries must have their times. */
  get lastTimeMs(): number {
    assert(this.stampedEntries === this.entryCount, 'what is journaled has its time');
    return this.header.openedMs + entryTimeMs(this.view, (this.entryCount - 1) * recordBytes);
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
    if (lastBlock !== firstBlock || before + count > this.entryBlocksMaximum) return false;
    // Two writes with an answer between them must be told apart by their times.
    const isTold = this.times?.answersEarly === true;
    if (isTold && entryTimeMs(this.view, at) !== this.nowTimeMs()) return false;
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
    if (this.stampedEntries < to) this.stamp(this.nowTimeMs());
    if (this.groups !== undefined) return this.nextSealedBatch(this.groups, from, to);
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
      data: this.dataBetween(this.journaledBlocks, this.blockCount),
      firstIndex: this.journaledBlocks,
      entryCount: to,
      blockCount: this.blockCount,
    };
  }

  private nextSealedBatch(groups: SealedGroups, from: number, to: number): JournalBatch {
    const { journaledBlocks: firstIndex, blockCount } = this;
    const data = this.dataBetween(firstIndex, blockCount);
    const none = new Uint8Array(0);
    return {
      ...{
        records: none,
        recordsPosition: from,
        data: none,
        firstIndex,
        entryCount: to,
        blockCount,
      },
      sealed: groups.seal(this.records, from, to, firstIndex, data),
    };
  }

  private sumBlocks(from: number, to: number): void {
    const { memory } = this;
    assert(memory !== undefined, 'what is not journaled is in memory');
    for (let index = from; index < to; index += 1) {
      const start = index * blockBytes;
      this.blockChecksums[index] = checksum(memory.subarray(start, start + blockBytes));
    }
  }

  private dataBetween(from: number, to: number): Uint8Array {
    return this.memory?.subarray(from * blockBytes, to * blockBytes) ?? new Uint8Array(0);
  }

  encodedHeader(): Uint8Array {
    return encodeJournalHeader(this.header);
  }

  encodedMark(): Uint8Array {
    return encodeJournalMark(this.syncedEntries, this.seed);
  }

  /** The journal file holds what the batch brought. */
  markJournaled(batch: JournalBatch): void {
    this.journaledEntries = batch.entryCount;
    this.journaledBlocks = batch.blockCount;
  }

  seal(sealedMs: number): void {
    assert(!this.sealed, 'a segment is sealed once');
    this.sealed = true;
    this.sealedMs = sealedMs;
  }

  /** The segment's data, block by block, as long as it is in memory. */
  get data(): Uint8Array | undefined {
    return this.memory;
  }

  /** Gives the memory up; from now on the data is read from the journal file, then the store. */
  releaseData(): Uint8Array {
    const { memory } = this;
    assert(memory !== undefined && this.sealed && this.isJournaled, 'only what is journaled goes');
    this.memory = undefined;
    return memory;
  }
}
