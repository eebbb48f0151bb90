import { type Clock, sleep } from '../base/clock.ts';
import { isStorageError, StorageError, toStorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import { bytesToHex } from '../format/binary.ts';
import type { Snapshot } from '../format/snapshot.ts';
import type { Checkpointer } from './checkpointer.ts';
import type { Ownership } from './ownership.ts';
import type { SegmentLog } from './segment-log.ts';
import type { VolumeSettings } from './settings.ts';
import {
  addSnapshot,
  type Cut,
  pendingSnapshots,
  removeSnapshot,
  requireFree,
  requireRoom,
  requireSnapshotWish,
  snapshotLimits,
  type SnapshotWish,
} from './snapshot-changes.ts';
import type { Uploader } from './uploader.ts';

export interface SnapshotsContext {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly settings: VolumeSettings;
  readonly ownership: Ownership;
  readonly segments: SegmentLog;
  readonly uploader: Uploader;
  readonly checkpointer: Checkpointer;
}

/** How far a snapshot is on its way into the store. */
export interface SnapshotProgress {
  /** Segments that its checkpoint folds. */
  readonly segments: number;
  /** Of them those that are in the store, without a gap. */
  readonly storedSegments: number;
}

export interface SnapshotStatus extends Snapshot {
  /** None for one that is completed. */
  readonly progress: SnapshotProgress | undefined;
}

interface Waiter {
  readonly id: string;
  readonly resolve: (snapshot: Snapshot) => void;
  readonly reject: (error: StorageError) => void;
}

/**
 * Makes snapshots of an attached volume. The log is cut in one step that nothing comes between; the
 * snapshot is in the manifest once the local disk has all that is before the cut, and completed once
 * the store has it, and a checkpoint that ends there.
 */
export class Snapshots {
  private readonly context: SnapshotsContext;
  /** Cuts go into the manifest one after the other, in their order. */
  private announcing: Promise<unknown> = Promise.resolve();
  private unannounced = 0;
  private completing: Promise<void> | undefined;
  private readonly waiters = new Set<Waiter>();
  /** What ends each creation that is under way. */
  private readonly creations = new Set<(error: StorageError) => void>();
  private ended: StorageError | undefined;
  private readonly ending = new AbortController();

  constructor(context: SnapshotsContext) {
    this.context = context;
  }

  /** Completes, by and by, what an earlier attachment has left. */
  start(): void {
    if (pendingSnapshots(this.context.ownership.manifest).length > 0) this.complete();
  }

  /**
   * Makes a snapshot: of all that was answered before it is asked for, of nothing that is asked for
   * once it is answered, as of one moment in between. Resolves when the manifest has it.
   */
  create(wish: SnapshotWish, requireWritable: () => void): Promise<Snapshot> {
    const { promise, resolve, reject } = Promise.withResolvers<Snapshot>();
    this.creations.add(reject);
    this.make(wish, requireWritable)
      .then(resolve, reject)
      .finally(() => this.creations.delete(reject));
    return promise;
  }

  private async make(wish: SnapshotWish, requireWritable: () => void): Promise<Snapshot> {
    const { ownership, segments } = this.context;
    requireSnapshotWish(wish);
    requireRoom(ownership.manifest);
    if (wish.name !== undefined) requireFree(ownership.manifest, wish.name);
    this.requireFewPending();
    // Made ready before the cut: what is written next must not wait for the next segment.
    while (!segments.isEndable) {
      await segments.whenEndable();
      requireWritable();
    }
    const cut = this.cut(wish);
    const release = this.context.checkpointer.hold(cut.segment);
    const onDisk = this.flush();
    // Whether or not the one before could be made.
    const announced = this.announcing.then(() => this.announce(cut, onDisk)).finally(release);
    this.announcing = announced.catch(() => undefined);
    this.unannounced += 1;
    void this.announcing.then(() => {
      this.unannounced -= 1;
    });
    const snapshot = await announced;
    this.complete();
    return snapshot;
  }

  /** Asks for it at once; that it fails is told to whoever waits for it. */
  private flush(): Promise<void> {
    const done = (async () => {
      await this.context.segments.flushLocal();
    })();
    done.catch(() => undefined);
    return done;
  }

  /** One step: what was answered is before the cut, what is asked for later is after it. */
  private cut(wish: SnapshotWish): Cut {
    const { clock, random, ownership, segments } = this.context;
    segments.seal();
    return {
      ...wish,
      id: bytesToHex(random.bytes(16)),
      segment: segments.lastNumber,
      entryCount: segments.lastEntries,
      sizeBytes: ownership.manifest.sizeBytes,
      wallMs: clock.wallMs(),
    };
  }

  /**
   * A cut that the manifest has must never be found with less before it than there was: all of it is
   * on the local disk by then, and where that disk is lost, the log ends before the cut.
   */
  private async announce(cut: Cut, onDisk: Promise<void>): Promise<Snapshot> {
    const { ownership } = this.context;
    await onDisk;
    if (this.ended !== undefined) throw this.ended;
    await ownership.update((manifest) => addSnapshot(manifest, cut));
    const made = ownership.manifest.snapshots.find(({ id }) => id === cut.id);
    if (made === undefined) throw deletedError();
    return made;
  }

  private requireFewPending(): void {
    const { name } = this.context.ownership.manifest;
    const pending = pendingSnapshots(this.context.ownership.manifest).length + this.unannounced;
    if (pending < snapshotLimits.pending) return;
    throw new StorageError(
      'store-unavailable',
      `${pending} snapshots of volume ${name} wait for the store to have all of them; make more when they are completed.`,
    );
  }

  /** Resolves when the snapshot is completed; `not-found` when it is deleted before that. */
  whenCompleted(id: string): Promise<Snapshot> {
    if (this.ended !== undefined) return Promise.reject(this.ended);
    return new Promise((resolve, reject) => {
      this.waiters.add({ id, resolve, reject });
      this.settle();
      this.complete();
    });
  }

  /** How far a pending snapshot is; `undefined` for one that is completed. */
  progressOf({ segment, isCompleted }: Snapshot): SnapshotProgress | undefined {
    if (isCompleted) return undefined;
    const { ownership, uploader } = this.context;
    const head = ownership.manifest.head?.segment ?? 0;
    const storedSegments = Math.max(0, Math.min(uploader.committed, segment) - head);
    return { segments: segment - head, storedSegments };
  }

  async delete(id: string): Promise<void> {
    await this.context.ownership.update((manifest) => removeSnapshot(manifest, id));
    this.settle();
  }

  /** Uploads and folds what the pending snapshots need, the oldest cut first, until none is left. */
  private complete(): void {
    if (this.completing !== undefined || this.ended !== undefined) return;
    const { ownership } = this.context;
    const next = pendingSnapshots(ownership.manifest)[0];
    if (next === undefined) return;
    this.completing = this.completeOne(next).then(() => {
      this.completing = undefined;
      this.settle();
      this.complete();
    });
  }

  private async completeOne({ id, name, segment }: Snapshot): Promise<void> {
    const { ownership, uploader, checkpointer, clock, settings, log } = this.context;
    try {
      await uploader.whenCommitted(segment);
    } catch (error) {
      // Nothing is uploaded any more; whoever attaches the volume next completes it.
      this.end(toStorageError(error));
      return;
    }
    try {
      await checkpointer.checkpoint(segment);
    } catch (error) {
      if (!isStorageError(error)) throw error;
      log.warn('snapshot not completed yet, trying again', { name, error: error.message });
    }
    const isPending = pendingSnapshots(ownership.manifest).some((snapshot) => snapshot.id === id);
    if (isPending) await sleep(clock, settings.retryMaximumMs, this.ending.signal);
  }

  /** Answers those who wait for what is completed or gone by now. */
  private settle(): void {
    const { snapshots } = this.context.ownership.manifest;
    for (const waiter of this.waiters) {
      const snapshot = snapshots.find(({ id }) => id === waiter.id);
      if (snapshot?.isCompleted === false) continue;
      this.waiters.delete(waiter);
      if (snapshot === undefined) waiter.reject(deletedError());
      else waiter.resolve(snapshot);
    }
  }

  /** Resolves when every cut is in the manifest, or has failed to get there. */
  async settled(): Promise<void> {
    await this.announcing;
  }

  /** Makes no snapshot and completes none any more, for `reason`. */
  end(reason: StorageError): void {
    this.ended ??= reason;
    this.ending.abort();
    for (const { reject } of this.waiters) reject(reason);
    this.waiters.clear();
    for (const reject of this.creations) reject(reason);
    this.creations.clear();
  }
}

function deletedError(): StorageError {
  return new StorageError('not-found', 'The snapshot was deleted before it was completed.');
}
