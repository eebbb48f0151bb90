import { assert } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import { StorageError, toStorageError } from '../base/errors.ts';
import { DurationHistogram } from '../base/histogram.ts';
import { journalBlockPosition, journalRecordsOffset, recordBytes } from '../format/journal-file.ts';
import type { SegmentBuffer } from './segment-buffer.ts';
import type { VolumeSettings } from './settings.ts';

interface FlushWaiter {
  readonly segment: SegmentBuffer;
  readonly entryCount: number;
  readonly resolve: () => void;
  readonly reject: (error: StorageError) => void;
}

/**
 * Writes segments to their journal files, in order, one batch at a time, and syncs when a flush
 * waits. However many flushes wait, they share one sync: that is the group commit.
 */
export class Journal {
  private readonly clock: Clock;
  private readonly settings: VolumeSettings;
  /** Segments that are not wholly in their files, or not wholly synced; oldest first. */
  private readonly pending: SegmentBuffer[] = [];
  private readonly waiters: FlushWaiter[] = [];
  private readonly onJournaled: (segment: SegmentBuffer) => void;
  private readonly onFailure: (error: StorageError) => void;
  private running = false;
  private cancelTimer: (() => void) | undefined;
  private unwrittenBytes = 0;
  private failure: StorageError | undefined;
  private readonly idleWaiters: (() => void)[] = [];
  private readonly journaledWaiters: (() => void)[] = [];
  /** How long the disk took for each sync, and for each batch that was written durably. */
  readonly syncTimes = new DurationHistogram();
  syncCount = 0;

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
    else this.cancelTimer ??= this.clock.after(this.settings.journalDelayMs, () => this.start());
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
        this.cancelTimer?.();
        this.cancelTimer = undefined;
        this.unwrittenBytes = 0;
        await this.writeBatches();
        await this.syncForWaiters();
      } while (this.isUrgent());
      this.running = false;
      if (this.unwrittenBytes > 0) this.appended(0);
      for (const resolve of this.idleWaiters.splice(0)) resolve();
    } catch (error) {
      this.fail(toStorageError(error));
    }
  }

  /** Whether more must be written without waiting for the timer. */
  private isUrgent(): boolean {
    return (
      this.waiters.length > 0 ||
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
    const write = (bytes: Uint8Array, position: number): Promise<void> =>
      durably ? file.writeDurably([bytes], position) : file.write([bytes], position);
    const recordsAt = journalRecordsOffset + batch.recordsPosition * recordBytes;
    const writes = [write(batch.records, recordsAt)];
    if (isFirst) writes.push(write(segment.encodedHeader(), 0));
    if (batch.data.byteLength > 0) {
      writes.push(write(batch.data, journalBlockPosition(batch.firstIndex)));
    }
    const startMs = durably ? this.clock.monotonicMs() : 0;
    await Promise.all(writes);
    segment.markJournaled(batch);
    if (durably) {
      this.syncTimes.add(this.clock.monotonicMs() - startMs);
      segment.syncedEntries = batch.entryCount;
      this.syncCount += 1;
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
      this.syncCount += 1;
    }
    unsynced.forEach((segment, at) => {
      segment.syncedEntries = Math.max(segment.syncedEntries, reached[at] ?? 0);
    });
    this.forgetSynced();
    this.answerWaiters();
  }

  private forgetSynced(): void {
    for (;;) {
      const first = this.pending[0];
      if (first === undefined || !first.sealed || first.syncedEntries < first.entryCount) return;
      this.pending.shift();
    }
  }

  private answerWaiters(): void {
    const oldest = this.pending[0];
    const stillWaiting: FlushWaiter[] = [];
    for (const waiter of this.waiters.splice(0)) {
      const beyond = oldest === undefined || waiter.segment.number < oldest.number;
      const within = waiter.segment === oldest && oldest.syncedEntries >= waiter.entryCount;
      if (beyond || within) waiter.resolve();
      else stillWaiting.push(waiter);
    }
    this.waiters.push(...stillWaiting);
  }

  /**
   * The segment is in the store: nothing has to be synced for it any more. Only ever called for a
   * segment all of whose elders are in the store too.
   */
  uploaded(segment: SegmentBuffer): void {
    const at = this.pending.indexOf(segment);
    if (at < 0) return;
    assert(at === 0, 'segments leave the journal in order');
    this.pending.shift();
    this.answerWaiters();
  }

  private fail(error: StorageError): void {
    this.running = false;
    this.failure = error;
    for (const waiter of this.waiters.splice(0)) waiter.reject(error);
    for (const resolve of this.idleWaiters.splice(0)) resolve();
    for (const wake of this.journaledWaiters.splice(0)) wake();
    this.onFailure(error);
  }

  /** Resolves when no write is under way and none is due; what follows must not append. */
  async stop(): Promise<void> {
    this.cancelTimer?.();
    this.cancelTimer = undefined;
    this.failure ??= new StorageError('shutting-down', 'The volume is being closed.');
    if (this.running) await new Promise<void>((resolve) => this.idleWaiters.push(resolve));
  }
}
