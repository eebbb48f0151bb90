import { assert } from '../base/assert.ts';
import { breathe, type Clock } from '../base/clock.ts';
import { StorageError, toStorageError } from '../base/errors.ts';
import { DurationHistogram } from '../base/histogram.ts';
import { journalBlockPosition, journalRecordsOffset, recordBytes } from '../format/journal-file.ts';
import type { JournalBatch, SegmentBuffer } from './segment-buffer.ts';
import type { VolumeSettings } from './settings.ts';
import { SyncMarks } from './sync-marks.ts';

interface Waiter {
  readonly segment: SegmentBuffer;
  readonly entryCount: number;
  readonly resolve: () => void;
  readonly reject: (error: StorageError) => void;
}

/** Above this, a thread of the pool writes what writers wait for; below, handing over costs more. */
const writeHereBytes = 64 * 1024;
/** Turns of the event loop for which a sync waits until as many flushes share it as the last one. */
const gatherTurns = 8;

/**
 * Writes segments to their journal files, in order, one batch at a time, and syncs when a flush
 * waits. However many flushes wait, they share one sync: that is the group commit. Writes that wait
 * until the file has them are grouped too: those of one received chunk share one.
 */
export class Journal {
  private readonly clock: Clock;
  private readonly settings: VolumeSettings;
  /** Segments that are not wholly in their files, or not wholly synced; oldest first. */
  private readonly pending: SegmentBuffer[] = [];
  private readonly waiters: Waiter[] = [];
  private readonly onJournaled: (segment: SegmentBuffer) => void;
  private readonly onFailure: (error: StorageError) => void;
  /** Those that wait for the file, not for the disk below it. */
  private readonly landers: Waiter[] = [];
  private landing: Promise<void> | undefined;
  private readonly marks: SyncMarks;
  private running = false;
  /** How many flushes the last sync answered. */
  private groupCount = 0;
  /** A batch is on its way to the file; `running` says it of a sync too. */
  private writing = false;
  private cancelTimer: (() => void) | undefined;
  private unwrittenBytes = 0;
  private failure: StorageError | undefined;
  /** Writing has failed, and nothing more is written. */
  private broken = false;
  private readonly idleWaiters: (() => void)[] = [];
  private readonly journaledWaiters: (() => void)[] = [];
  /** How long the disk took for each sync, and for each batch that was written durably. */
  readonly syncTimes = new DurationHistogram();

  constructor(
    clock: Clock,
    settings: VolumeSettings,
    onJournaled: (segment: SegmentBuffer) => void,
    onFailure: (error: StorageError) => void,
  ) {
    this.clock = clock;
    this.settings = settings;
    this.onJournaled = onJournaled;
    this.onFailure = onFailure;
    this.marks = new SyncMarks(clock, (error) => this.fail(error));
  }

  /** A segment that has just been opened. */
  begin(segment: SegmentBuffer): void {
    this.pending.push(segment);
  }

  /** Data was appended to the open segment; it goes to the file soon. */
  appended(lengthBytes: number): void {
    this.unwrittenBytes += lengthBytes;
    if (this.running) return;
    if (this.unwrittenBytes >= this.settings.journalBatchBytes) this.start();
    else if (this.settings.writesAnswered === 'memory')
      this.cancelTimer ??= this.clock.after(this.settings.journalDelayMs, () => this.start());
  }

  /** A segment was sealed: what it still has goes to its file now. */
  sealed(segment: SegmentBuffer): void {
    if (segment.isJournaled) this.journaled(segment);
    else this.start();
  }

  /**
   * Done when everything up to `entryCount` of `segment`, and all before, is durable on the local
   * disk; `undefined` when it is already.
   */
  flush(segment: SegmentBuffer, entryCount: number): Promise<void> | undefined {
    if (this.failure !== undefined) throw this.failure;
    const first = this.pending[0];
    if (first === undefined || first.number > segment.number) return undefined;
    if (first === segment && segment.syncedEntries >= entryCount) return undefined;
    return new Promise((resolve, reject) => {
      this.waiters.push({ segment, entryCount, resolve, reject });
      this.start();
    });
  }

  /**
   * Done when the files have all that was appended: the end of this process does not lose it. All
   * who ask before the caller lets go of the processor share one write.
   */
  land(): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    this.landing ??= this.landSoon();
    return this.landing;
  }

  private async landSoon(): Promise<void> {
    // With a flush waiting there are other clients: those heard in one turn share a write.
    await (this.waiters.length > 0 ? breathe(this.clock) : undefined);
    this.landing = undefined;
    await new Promise<void>((resolve, reject) => this.landNow(resolve, reject));
  }

  private landNow(resolve: () => void, reject: (error: StorageError) => void): void {
    if (this.failure !== undefined) {
      reject(this.failure);
      return;
    }
    const segment = this.pending.at(-1);
    if (segment === undefined || this.pending.every((each) => each.isJournaled)) {
      resolve();
    } else if (this.writing || this.unwrittenBytes > writeHereBytes) {
      this.landers.push({ segment, entryCount: segment.entryCount, resolve, reject });
      this.start();
    } else {
      try {
        this.writeHere();
        resolve();
      } catch (error) {
        const failure = toStorageError(error);
        this.fail(failure);
        reject(failure);
      }
    }
  }

  /** Writes what is new without a turn of the event loop. A sync that is under way is not for it. */
  private writeHere(): void {
    this.cancelTimer?.();
    this.cancelTimer = undefined;
    this.unwrittenBytes = 0;
    for (const segment of [...this.pending]) {
      const isFirst = segment.journaledEntries === 0;
      const batch = segment.nextBatch();
      if (batch === undefined) continue;
      for (const { bytes, position } of partsOf(segment, batch, isFirst)) {
        segment.file.file.writeHere(bytes, position);
      }
      segment.markJournaled(batch);
      if (segment.sealed) this.journaled(segment);
    }
  }

  /** Resolves when a sealed segment has come to be wholly in its file, or writing has failed. */
  whenJournaled(): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    this.start();
    return new Promise((resolve) => this.journaledWaiters.push(resolve));
  }

  private start(): void {
    if (this.running || this.failure !== undefined) return;
    this.running = true;
    void this.run();
  }

  private async run(): Promise<void> {
    try {
      do {
        await this.gatherFlushes();
        if (this.broken) return;
        this.cancelTimer?.();
        this.cancelTimer = undefined;
        this.unwrittenBytes = 0;
        this.writing = true;
        await this.writeBatches();
        this.writing = false;
        this.answerLanded();
        if (this.broken) return;
        this.landBeforeSync();
        await this.syncForWaiters();
        if (this.broken) return;
      } while (this.isUrgent());
      this.running = false;
      if (this.unwrittenBytes > 0) this.appended(0);
      for (const resolve of this.idleWaiters.splice(0)) resolve();
    } catch (error) {
      this.fail(toStorageError(error));
    }
  }

  /**
   * Several clients that flush come one after the other: the first would have a sync to itself, which
   * takes more of the processor than all else that they ask. One alone is never kept waiting.
   */
  private async gatherFlushes(): Promise<void> {
    const isShort = (): boolean =>
      this.landers.length === 0 && this.waiters.length > 0 && this.waiters.length < this.groupCount;
    for (let turn = 0; turn < gatherTurns && isShort(); turn += 1) await breathe(this.clock);
  }

  /**
   * Who asked while a batch was being written must not wait for the sync that follows it, too. Where
   * the batch itself was made durable there is none, and more would only make one necessary.
   */
  private landBeforeSync(): void {
    const isSyncNext =
      this.waiters.length > 0 &&
      this.pending.some((segment) => segment.syncedEntries < segment.journaledEntries);
    if (!isSyncNext || this.landers.length === 0 || this.unwrittenBytes > writeHereBytes) return;
    this.writeHere();
    this.answerLanded();
  }

  /** Whether more must be written without waiting for the timer. */
  private isUrgent(): boolean {
    return (
      this.waiters.length > 0 ||
      this.landers.length > 0 ||
      this.unwrittenBytes >= this.settings.journalBatchBytes ||
      this.pending.some((segment) => segment.sealed && !segment.isJournaled)
    );
  }

  /** Writes one batch of each pending segment, oldest first. */
  private async writeBatches(): Promise<void> {
    for (const segment of [...this.pending]) {
      await this.writeBatch(segment);
      // A younger segment must not get ahead of one that has more to write.
      if (!segment.isJournaled) return;
    }
  }

  private async writeBatch(segment: SegmentBuffer): Promise<void> {
    const isFirst = segment.journaledEntries === 0;
    const batch = segment.nextBatch();
    if (batch === undefined) return;
    const { file } = segment.file;
    const durably = this.isWorthWritingDurably();
    const writes = partsOf(segment, batch, isFirst).map(({ bytes, position }) =>
      durably ? file.writeDurably([bytes], position) : file.write([bytes], position),
    );
    const startMs = durably ? this.clock.monotonicMs() : 0;
    await Promise.all(writes);
    segment.markJournaled(batch);
    if (durably) {
      this.syncTimes.add(this.clock.monotonicMs() - startMs);
      segment.syncedEntries = batch.entryCount;
      this.marks.synced(segment);
    }
    if (segment.sealed && segment.isJournaled) this.journaled(segment);
  }

  /**
   * With a flush waiting and all that was written before durable already, the batch itself is made
   * durable: one trip to the disk instead of a write and a sync. The record's checksum covers its
   * data, so the parts may reach the disk in any order.
   */
  private isWorthWritingDurably(): boolean {
    return (
      this.waiters.length > 0 &&
      this.pending.every((segment) => segment.syncedEntries === segment.journaledEntries)
    );
  }

  private journaled(segment: SegmentBuffer): void {
    for (const wake of this.journaledWaiters.splice(0)) wake();
    this.onJournaled(segment);
  }

  /** Syncs the files that waiting flushes need, and answers those that are then satisfied. */
  private async syncForWaiters(): Promise<void> {
    if (this.waiters.length === 0) return;
    const unsynced = this.pending.filter(
      (segment) => segment.syncedEntries < segment.journaledEntries,
    );
    const reached = unsynced.map((segment) => segment.journaledEntries);
    const startMs = this.clock.monotonicMs();
    await Promise.all(unsynced.map((segment) => segment.file.file.sync()));
    if (unsynced.length > 0) {
      this.syncTimes.add(this.clock.monotonicMs() - startMs);
    }
    unsynced.forEach((segment, at) => {
      segment.syncedEntries = Math.max(segment.syncedEntries, reached[at] ?? 0);
      this.marks.synced(segment);
    });
    this.forgetSynced();
    const waitingCount = this.waiters.length;
    this.answerWaiters();
    this.groupCount = waitingCount - this.waiters.length;
  }

  private forgetSynced(): void {
    for (;;) {
      const first = this.pending[0];
      if (first === undefined || !first.sealed || first.syncedEntries < first.entryCount) return;
      this.pending.shift();
    }
  }

  private answerWaiters(): void {
    answer(this.waiters, this.pending[0], (segment) => segment.syncedEntries);
  }

  private answerLanded(): void {
    const oldest = this.pending.find((segment) => !segment.isJournaled);
    answer(this.landers, oldest, (segment) => segment.journaledEntries);
  }

  /**
   * The segment is in the store: nothing has to be synced for it any more. Only ever called for a
   * segment all of whose elders are in the store too.
   */
  uploaded(segment: SegmentBuffer): void {
    this.marks.forget(segment);
    const at = this.pending.indexOf(segment);
    if (at < 0) return;
    assert(at === 0, 'segments leave the journal in order');
    this.pending.shift();
    this.answerWaiters();
  }

  private fail(error: StorageError): void {
    if (this.broken) return;
    this.broken = true;
    this.running = false;
    this.writing = false;
    this.failure ??= error;
    this.marks.stop();
    for (const waiter of this.waiters.splice(0)) waiter.reject(error);
    for (const waiter of this.landers.splice(0)) waiter.reject(error);
    for (const resolve of this.idleWaiters.splice(0)) resolve();
    for (const wake of this.journaledWaiters.splice(0)) wake();
    this.onFailure(error);
  }

  /** Resolves when no write is under way and none is due; what follows must not append. */
  async stop(): Promise<void> {
    this.cancelTimer?.();
    this.cancelTimer = undefined;
    this.marks.stop();
    this.failure ??= new StorageError('shutting-down', 'The volume is being closed.');
    if (this.running) await new Promise<void>((resolve) => this.idleWaiters.push(resolve));
  }
}

interface Part {
  readonly bytes: Uint8Array;
  readonly position: number;
}

/** Where the parts of a batch go in the segment's file; with the first one goes the header. */
function partsOf(segment: SegmentBuffer, batch: JournalBatch, isFirst: boolean): Part[] {
  const parts = [
    batch.sealed ?? {
      bytes: batch.records,
      position: journalRecordsOffset + batch.recordsPosition * recordBytes,
    },
  ];
  if (isFirst) parts.push({ bytes: segment.encodedHeader(), position: 0 });
  if (batch.data.byteLength > 0) {
    parts.push({ bytes: batch.data, position: journalBlockPosition(batch.firstIndex) });
  }
  return parts;
}

/** Answers those who need nothing of `oldest`, the first that is not done, or no more than it has. */
function answer(
  waiters: Waiter[],
  oldest: SegmentBuffer | undefined,
  doneEntries: (segment: SegmentBuffer) => number,
): void {
  for (const waiter of waiters.splice(0)) {
    const beyond = oldest === undefined || waiter.segment.number < oldest.number;
    const within = waiter.segment === oldest && doneEntries(oldest) >= waiter.entryCount;
    if (beyond || within) waiter.resolve();
    else waiters.push(waiter);
  }
}
