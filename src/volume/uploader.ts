import { type StorageError, toStorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Codec } from '../format/compression.ts';
import { segmentKey } from '../format/names.ts';
import { groupsOffset } from '../format/sealed-journal.ts';
import type { FrameTable } from '../format/segment-object.ts';
import type { EngineWorkers } from './engine-workers.ts';
import type { PackSealing } from './pack.ts';
import type { SegmentBuffer } from './segment-buffer.ts';
import { idleTickMs, isUploadDue } from './upload-pacing.ts';
import { type PatientContext, untilDone } from './until-done.ts';
import type { VolumeSealing } from './volume-sealing.ts';

export interface UploaderContext extends PatientContext {
  readonly store: ObjectStore;
  readonly workers: EngineWorkers;
  readonly volumeId: string;
  readonly epoch: number;
  readonly codec: Codec;
  /** Of an encrypted volume; `store` is then where what is sealed is put. */
  readonly sealing: VolumeSealing | undefined;
  /** Whether what a segment replaced itself is kept in it. */
  keepsReplaced(): boolean;
}

/** How full the journal is, and how much was ever written to the volume. */
export interface JournalLoad {
  share(): number;
  hasFreeFile(): boolean;
  writtenBytes(): number;
}

/**
 * Packs sealed segments and puts them into the store, several at once, each until it is there. They
 * become committed in order: `committed` is the highest below which none is missing.
 */
export class Uploader {
  private readonly context: UploaderContext;
  private readonly queue: SegmentBuffer[] = [];
  private readonly stored = new Map<number, SegmentBuffer>();
  private readonly onTable: (segment: number, table: FrameTable) => void;
  private readonly onCommitted: (segment: SegmentBuffer) => void;
  private readonly onFailure: (error: StorageError) => void;
  private readonly waiters: {
    number: number;
    resolve: () => void;
    reject: (e: StorageError) => void;
  }[] = [];
  private readonly journal: JournalLoad;
  private active = 0;
  private isIdle = false;
  private writtenBytesAtTick = 0;
  private cancelTick: (() => void) | undefined;
  private stopped: StorageError | undefined;
  /** Why none comes any more after those that were added. */
  private endOfLog: StorageError | undefined;
  private lastAdded: number;
  committed: number;
  /** Segments up to this one may lack what they replaced themselves: no going back into them. */
  lastIncomplete: number;
  uploadedBytes = 0;
  uploadedSegments = 0;

  constructor(
    context: UploaderContext,
    committed: number,
    journal: JournalLoad,
    events: {
      onTable: (segment: number, table: FrameTable) => void;
      onCommitted: (segment: SegmentBuffer) => void;
      onFailure: (error: StorageError) => void;
    },
  ) {
    this.context = context;
    this.committed = committed;
    this.lastAdded = committed;
    this.lastIncomplete = committed;
    this.journal = journal;
    this.onTable = events.onTable;
    this.onCommitted = events.onCommitted;
    this.onFailure = events.onFailure;
  }

  add(segment: SegmentBuffer): void {
    this.queue.push(segment);
    this.lastAdded = segment.number;
    this.next();
  }

  /** No segment comes any more after those that were added: who waits for one is told why. */
  endLog(reason: StorageError): void {
    this.endOfLog ??= reason;
    for (const waiter of this.waiters.splice(0)) {
      if (waiter.number <= this.lastAdded) this.waiters.push(waiter);
      else waiter.reject(this.endOfLog);
    }
  }

  /** Resolves when segment `number` and all before it are in the store. */
  whenCommitted(number: number): Promise<void> {
    if (this.stopped !== undefined) return Promise.reject(this.stopped);
    if (this.committed >= number) return Promise.resolve();
    if (this.endOfLog !== undefined && number > this.lastAdded) {
      return Promise.reject(this.endOfLog);
    }
    return new Promise((resolve, reject) => {
      this.waiters.push({ number, resolve, reject });
      this.next();
    });
  }

  /** Segments that wait for their upload, and those whose upload is under way. */
  get backlog(): { readonly waiting: number; readonly underWay: number } {
    return { waiting: this.queue.length, underWay: this.active };
  }

  private next(): void {
    while (this.active < this.context.settings.putConcurrency && this.stopped === undefined) {
      const segment = this.queue[0];
      if (segment === undefined) return;
      if (!this.isDue(segment)) {
        this.cancelTick ??= this.context.clock.after(idleTickMs, () => this.tick());
        return;
      }
      this.queue.shift();
      this.active += 1;
      this.upload(segment).then(
        () => {
          this.active -= 1;
          this.next();
        },
        (error: unknown) => {
          this.active -= 1;
          if (this.stopped !== undefined) return;
          this.stop(toStorageError(error));
          this.onFailure(toStorageError(error));
        },
      );
    }
  }

  private isDue(oldest: SegmentBuffer): boolean {
    const { clock, settings } = this.context;
    const situation = {
      ageMs: clock.monotonicMs() - oldest.openedMs,
      journalShare: this.journal.share(),
      isShortOfFiles: !this.journal.hasFreeFile(),
      isIdle: this.isIdle && this.journal.writtenBytes() === this.writtenBytesAtTick,
      isAwaited: this.waiters.length > 0,
    };
    return isUploadDue(situation, settings);
  }

  /** Looks whether anything was written since the last look, as long as segments wait. */
  private tick(): void {
    this.cancelTick = undefined;
    const writtenBytes = this.journal.writtenBytes();
    this.isIdle = writtenBytes === this.writtenBytesAtTick;
    this.writtenBytesAtTick = writtenBytes;
    this.next();
  }

  private async upload(segment: SegmentBuffer): Promise<void> {
    const { workers, volumeId, epoch, codec } = this.context;
    const keepsReplaced = this.context.keepsReplaced();
    if (!keepsReplaced) this.lastIncomplete = Math.max(this.lastIncomplete, segment.number);
    const at = { segment: segment.number, epoch };
    const job = {
      path: segment.file.path,
      header: segment.header,
      at,
      entryCount: segment.entryCount,
      blockCount: segment.blockCount,
      sealedMs: segment.sealedMs,
      codec,
      keepsReplaced,
    };
    const key = segmentKey(volumeId, at);
    const packed = await workers.pack({ ...job, ...this.packSealing(segment, key) });
    const attempts = await this.put(key, packed.body);
    this.uploadedBytes += packed.body.byteLength;
    // An attempt that failed may still be reading it somewhere.
    packed.release({ mayBeRead: attempts > 1 });
    this.uploadedSegments += 1;
    this.onTable(segment.number, packed.frames);
    this.stored.set(segment.number, segment);
    this.advance();
  }

  private packSealing(
    { header, groups }: SegmentBuffer,
    key: string,
  ): { readonly sealing?: PackSealing } {
    const { sealing } = this.context;
    if (sealing === undefined || header.sealing === undefined || groups === undefined) return {};
    return {
      sealing: {
        journal: sealing.journalKey(header.sealing),
        groupsBytes: groups.endPosition - groupsOffset,
        object: sealing.newObject(key),
      },
    };
  }

  /** Puts an object until it is there; returns how many attempts that took. */
  private async put(key: string, body: Uint8Array): Promise<number> {
    let attempts = 0;
    await untilDone(
      this.context,
      key,
      () => this.stopped,
      () => {
        attempts += 1;
        return this.context.store.put(key, [body]);
      },
    );
    return attempts;
  }

  private advance(): void {
    for (;;) {
      const segment = this.stored.get(this.committed + 1);
      if (segment === undefined) break;
      this.stored.delete(segment.number);
      this.committed = segment.number;
      this.onCommitted(segment);
    }
    const waiting = this.waiters.splice(0);
    for (const waiter of waiting) {
      if (waiter.number <= this.committed) waiter.resolve();
      else this.waiters.push(waiter);
    }
  }

  /** Begins nothing more and tells whoever waits why. */
  stop(reason: StorageError): void {
    this.stopped ??= reason;
    this.cancelTick?.();
    for (const waiter of this.waiters.splice(0)) waiter.reject(this.stopped);
  }
}
