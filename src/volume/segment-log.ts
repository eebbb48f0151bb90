import { assert } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import type { StorageError } from '../base/errors.ts';
import type { EntryKind } from '../format/entry.ts';
import { blockBytes } from '../format/geometry.ts';
import type { JournalHeader } from '../format/journal-file.ts';
import { JournalSeal } from '../format/sealed-journal.ts';
import { Journal } from './journal.ts';
import type { JournalFiles } from './journal-files.ts';
import type { LogClock } from './log-clock.ts';
import { SegmentBuffer } from './segment-buffer.ts';
import type { SegmentMemory } from './segment-memory.ts';
import type { VolumeSettings } from './settings.ts';
import type { VolumeSealing } from './volume-sealing.ts';

export interface SegmentLogContext {
  readonly clock: Clock;
  readonly settings: VolumeSettings;
  readonly volumeId: string;
  readonly epoch: number;
  readonly memory: SegmentMemory;
  readonly files: JournalFiles;
  readonly times: LogClock;
  /** Of an encrypted volume. */
  readonly sealing: VolumeSealing | undefined;
  /** Whether the log says when flushes were answered. */
  keepsFlushTimes(): boolean;
}

/** Where a write's blocks went: `count` of them at `firstIndex` of `segment`; 0 when none fitted. */
export interface Appended {
  count: number;
  segment: number;
  firstIndex: number;
}

/**
 * The log's growing end: the open segment, and the sealed ones that are not yet in the store.
 * Appending never waits; what cannot be taken now is said, and `room` tells when to try again.
 */
export class SegmentLog {
  readonly journal: Journal;
  /** Every segment that is not yet committed, by number. */
  readonly segments = new Map<number, SegmentBuffer>();
  /** Ever appended by this attachment. */
  writtenBytes = 0;
  private readonly context: SegmentLogContext;
  private open: SegmentBuffer | undefined;
  private nextNumber: number;
  private lastEntryCount: number;
  private cancelSealTimer: (() => void) | undefined;
  private isSealDue = false;
  /** Whether anything was appended since the last flush that was answered and told. */
  private isUnflushed = false;
  /** When a flush was answered; said in the log with what is appended next. */
  private flushAnsweredMs: number | undefined;
  private readonly endWaiters: (() => void)[] = [];
  private readonly result: Appended = { count: 0, segment: 0, firstIndex: 0 };

  /** `lastNumber` and its entry count: of the newest segment there is, recovered or stored. */
  constructor(
    context: SegmentLogContext,
    recovered: readonly SegmentBuffer[],
    lastNumber: number,
    onSealed: (segment: SegmentBuffer) => void,
    onFailure: (error: StorageError) => void,
  ) {
    this.context = context;
    this.nextNumber = lastNumber + 1;
    this.lastEntryCount = recovered.at(-1)?.entryCount ?? 0;
    for (const segment of recovered) this.segments.set(segment.number, segment);
    this.journal = new Journal(context.clock, context.settings, onSealed, onFailure);
    context.files.prepare();
  }

  /** Appends as many of `count` blocks as one segment takes; the result is valid until the next call. */
  append(firstBlock: number, count: number, from: Uint8Array, at: number): Appended {
    const { result } = this;
    result.count = 0;
    const segment = this.segmentToGrow();
    if (segment === undefined) return result;
    result.segment = segment.number;
    result.firstIndex = segment.blockCount;
    result.count = segment.appendData(firstBlock, count, from, at);
    this.writtenBytes += result.count * blockBytes;
    if (result.count > 0) this.journal.appended(result.count * blockBytes);
    if (segment.isFull) this.seal();
    return result;
  }

  /** Appends an entry of zeroes; false when that cannot be done now. */
  appendZero(kind: EntryKind, firstBlock: number, count: number): boolean {
    const segment = this.segmentToGrow();
    if (segment === undefined) return false;
    const done = segment.appendZero(kind, firstBlock, count);
    assert(done, 'an open segment is never full');
    this.journal.appended(blockBytes);
    if (segment.isFull) this.seal();
    return true;
  }

  /** The open segment, about to be appended to: what is to be said of before is in it. */
  private segmentToGrow(): SegmentBuffer | undefined {
    const segment = this.openSegment();
    if (segment === undefined || this.flushAnsweredMs === undefined) return this.grown(segment);
    this.tellFlush(segment);
    if (!segment.isFull) return this.grown(segment);
    this.seal();
    return this.grown(this.openSegment());
  }

  private grown(segment: SegmentBuffer | undefined): SegmentBuffer | undefined {
    if (segment !== undefined) this.isUnflushed = true;
    return segment;
  }

  /**
   * A flush was answered. The log says so with what follows, or when the open segment is ended: it
   * never costs a write of its own that anybody waits for.
   */
  flushAnswered(): void {
    if (!this.isUnflushed || !this.context.keepsFlushTimes()) return;
    this.isUnflushed = false;
    this.flushAnsweredMs ??= this.context.times.nowMs();
  }

  private tellFlush(segment: SegmentBuffer): void {
    if (this.flushAnsweredMs === undefined) return;
    if (segment.appendFlushed(this.flushAnsweredMs)) this.flushAnsweredMs = undefined;
  }

  private openSegment(): SegmentBuffer | undefined {
    if (this.open !== undefined) return this.open;
    const { context } = this;
    if (!context.files.isReady) {
      context.files.prepare();
      return undefined;
    }
    const memory = context.memory.take();
    if (memory === undefined) return undefined;
    const file = context.files.take();
    assert(this.nextNumber < 2 ** 32, 'segment numbers are 32 bits');
    const { sealing } = context;
    const header: JournalHeader = {
      volumeId: context.volumeId,
      epoch: context.epoch,
      segment: this.nextNumber,
      previousEntries: this.lastEntryCount,
      openedMs: context.times.nowMs(),
      ...(sealing === undefined ? {} : { sealing: sealing.newJournal() }),
    };
    this.nextNumber += 1;
    const times = {
      nowMs: () => context.times.nowMs(),
      answersEarly: context.settings.writesAnswered === 'memory',
    };
    const seal = journalSealOf(sealing, header);
    const openedMs = context.clock.monotonicMs();
    const segment = new SegmentBuffer(header, file, memory, openedMs, times, seal);
    this.open = segment;
    context.memory.hold(segment);
    this.segments.set(segment.number, segment);
    this.journal.begin(segment);
    this.cancelSealTimer = context.clock.after(context.settings.uploadIntervalMs, () => {
      this.isSealDue = true;
      this.sealWhenDue();
    });
    return segment;
  }

  /**
   * Ends the open segment when it has been open for long enough and would be uploaded at once. While
   * uploads are held up it goes on growing: else a store that is away would fill the journal with
   * segments that hold next to nothing, each in a file of its own.
   */
  private sealWhenDue(): void {
    const sealedCount = this.segments.size - 1;
    if (this.isSealDue && sealedCount < this.context.settings.putConcurrency) this.seal();
  }

  /** Ends the open segment, if there is one; it is uploaded as soon as its file has it all. */
  seal(): void {
    const segment = this.open;
    if (segment === undefined) return;
    assert(segment.entryCount > 0, 'a sealed segment says something');
    this.cancelSealTimer?.();
    this.isSealDue = false;
    this.tellFlush(segment);
    this.open = undefined;
    this.lastEntryCount = segment.entryCount;
    segment.seal(this.context.times.nowMs());
    this.journal.sealed(segment);
    for (const wake of this.endWaiters.splice(0)) wake();
  }

  /** How many entries the last segment that was ended has; 0 when it came from the store. */
  get lastEntries(): number {
    return this.lastEntryCount;
  }

  /** Whether `seal` keeps nothing that is written next waiting for a file. */
  get isEndable(): boolean {
    return this.open === undefined || this.context.files.isReady;
  }

  /** Resolves when `isEndable` may have come to be so. */
  whenEndable(): Promise<void> {
    const { files } = this.context;
    if (files.failure === undefined) files.prepare();
    return new Promise((resolve) => {
      this.endWaiters.push(resolve);
      void files.nextChange().then(resolve);
    });
  }

  /**
   * Resolves when it is worth trying to append again. `no-space` when no journal file can be made
   * and none is in use that would become free.
   */
  async room(): Promise<void> {
    const { files } = this.context;
    if (files.isReady) {
      await this.journal.whenJournaled();
      return;
    }
    await files.whenChanged();
    if (files.failure !== undefined && files.usedCount === 0) throw files.failure;
  }

  /** As `Journal.flush` for all that has been appended. */
  flushLocal(): Promise<void> | undefined {
    const newest = this.open ?? this.segments.get(this.nextNumber - 1);
    return newest === undefined ? undefined : this.journal.flush(newest, newest.entryCount);
  }

  /** Number of the newest segment with data in it, open or sealed; 0 when none was ever written. */
  get lastNumber(): number {
    return this.nextNumber - 1;
  }

  /** No timer of this log fires any more. */
  stop(): void {
    this.cancelSealTimer?.();
  }

  /** The segment is in the store, and so are all before it. */
  committed(segment: SegmentBuffer): void {
    this.journal.uploaded(segment);
    this.segments.delete(segment.number);
    this.context.files.release(segment.file);
    this.sealWhenDue();
  }

  get dirtyBytes(): number {
    let bytes = 0;
    for (const segment of this.segments.values()) bytes += segment.blockCount * blockBytes;
    return bytes;
  }

  /** All that was answered before this time of the log is in the store. */
  get storedThroughMs(): number {
    for (const { header } of this.segments.values()) return header.openedMs;
    return this.context.times.nowMs();
  }

  /** Monotonic time at which the oldest data that is not in the store was written. */
  get oldestDirtyMs(): number | undefined {
    for (const segment of this.segments.values()) return segment.openedMs;
    return undefined;
  }
}

function journalSealOf(
  sealing: VolumeSealing | undefined,
  header: JournalHeader,
): JournalSeal | undefined {
  if (sealing === undefined || header.sealing === undefined) return undefined;
  return new JournalSeal(header, sealing.journalKey(header.sealing));
}
