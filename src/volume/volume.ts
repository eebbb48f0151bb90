import type {
  BlockDevice,
  Changes,
  Done,
  Extent,
  WriteOptions,
  ZeroOptions,
} from '../base/block-device.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import { entryKind } from '../format/entry.ts';
import { blockBytes } from '../format/geometry.ts';
import type { Snapshot } from '../format/snapshot.ts';
import { localStateOf, writeLocalState } from './attach.ts';
import type { CheckReport } from './check-report.ts';
import { grow, requireShrinkable, type Resized, shrink } from './resize.ts';
import type { Flattened, FlattenOptions } from './flattener.ts';
import { findMoment, type Moment, windowOf } from './moments.ts';
import type { WantedMoment } from './wanted-moment.ts';
import { snapshotAsOf } from './snapshot-as-of.ts';
import { type RolledBack, rollBack } from './rollback.ts';
import { findSnapshot, type SnapshotWish } from './snapshot-changes.ts';
import type { SnapshotStatus } from './snapshots.ts';
import type { PassOptions, SpaceStatus } from './space-keeper.ts';
import { statisticsOf, type VolumeStatistics } from './statistics.ts';
import type { VolumeParts } from './volume-parts.ts';
import type { Certainty } from './lease.ts';

/** An attached volume. */
export class Volume implements BlockDevice {
  readonly id: string;
  readonly name: string;
  readonly preferredBlockBytes = blockBytes;
  private readonly parts: VolumeParts;
  /** Why nothing is answered any more: another host has the volume, or it is closed. */
  private gone: StorageError | undefined;
  /** Why nothing is written any more; reading goes on. */
  private unwritable: StorageError | undefined;
  private confirmedSegment: number;
  /** Where the volume is being cut off: nothing past it is served any more. */
  private cutAtBytes = Number.POSITIVE_INFINITY;
  /** What ends each request that waits for something. */
  private readonly requests = new Set<(error: StorageError) => void>();

  constructor(parts: VolumeParts) {
    this.parts = parts;
    this.id = parts.ownership.manifest.id;
    this.name = parts.ownership.manifest.name;
    this.confirmedSegment = parts.uploader.committed;
  }

  get sizeBytes(): number {
    return Math.min(this.parts.ownership.manifest.sizeBytes, this.cutAtBytes);
  }

  get readOnly(): boolean {
    return false;
  }

  /** Why nothing is asked of the store any more; `undefined` while it is. */
  get ending(): StorageError | undefined {
    return this.gone;
  }

  /** Whether nothing is answered any more: another host has the volume, or it is closed. */
  get ended(): boolean {
    return this.gone !== undefined;
  }

  read(offset: number, into: Uint8Array): Done {
    this.requireHere();
    const certain = this.certainToRead();
    if (certain !== undefined) {
      return this.underWay(certain.then(() => this.parts.reader.read(offset, into)));
    }
    return this.underWay(this.parts.reader.read(offset, into));
  }

  write(offset: number, from: Uint8Array, options: WriteOptions): Done {
    return this.change(() => this.parts.writer.write(offset, from), options.fua);
  }

  zero(offset: number, lengthBytes: number, options: ZeroOptions): Done {
    const kind = options.mayPunchHole ? entryKind.hole : entryKind.zeroed;
    const { writer } = this.parts;
    return this.change(
      () => (lengthBytes > 0 ? writer.zero(kind, offset, lengthBytes) : undefined),
      options.fua,
    );
  }

  trim(offset: number, lengthBytes: number, options: WriteOptions): Done {
    const first = Math.ceil(offset / blockBytes);
    const count = Math.floor((offset + lengthBytes) / blockBytes) - first;
    const { writer } = this.parts;
    return this.change(
      () =>
        count > 0 ? writer.zero(entryKind.hole, first * blockBytes, count * blockBytes) : undefined,
      options.fua,
    );
  }

  private change(make: () => Done, fua: boolean): Done {
    this.requireWritable();
    const certain = this.parts.ownership.lease.certain('unheard', true);
    const done = certain === undefined ? make() : certain.then(make);
    const {
      settings: { writesAnswered },
    } = this.parts;
    if (!fua && writesAnswered === 'memory') return this.underWay(done);
    const finish = (): Done =>
      fua || writesAnswered === 'disk' ? this.flush() : this.parts.segments.journal.land();
    return done === undefined ? finish() : this.underWay(done.then(finish));
  }

  flush(): Done {
    this.requireWritable();
    return this.underWay(
      this.parts.durability === 'store' ? this.flushToStore() : this.flushToDisk(),
    );
  }

  /** Whether the volume may be another's by now is asked last: the host may have slept meanwhile. */
  private flushToDisk(): Done {
    const { segments, ownership } = this.parts;
    const done = segments.flushLocal();
    const certain =
      done === undefined
        ? ownership.lease.certain('unheard', true)
        : done.then(() => ownership.lease.certain('unheard', true));
    return this.afterFlush(certain);
  }

  /** Done when all that was written is in the store, and the volume was still ours after that. */
  private flushToStore(): Done {
    const { segments, uploader } = this.parts;
    const last = segments.lastNumber;
    if (last <= this.confirmedSegment) {
      return this.afterFlush(this.parts.ownership.lease.certain('ours', true));
    }
    segments.seal();
    const stored = uploader.whenCommitted(last).then(async () => {
      await this.parts.ownership.confirm();
      this.confirmedSegment = Math.max(this.confirmedSegment, last);
    });
    return this.afterFlush(stored);
  }

  /** Tells the log when the flush is answered. */
  private afterFlush(done: Done): Done {
    const { segments } = this.parts;
    if (done !== undefined) return done.then(() => segments.flushAnswered());
    segments.flushAnswered();
    return undefined;
  }

  /**
   * With `store` durability a read waits for the store when the lease has run out: another host may
   * have written since. With `local`, a host that is cut off from the store goes on with what it has.
   */
  private certainToRead(): Done {
    const certainty: Certainty = this.parts.durability === 'store' ? 'ours' : 'unheard';
    return this.parts.ownership.lease.certain(certainty, false);
  }

  /** A request that has to wait; it fails when the volume is lost, whatever it waits for. */
  private underWay(done: Done): Done {
    if (done === undefined) return undefined;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.requests.add(reject);
    done.then(resolve, reject).finally(() => this.requests.delete(reject));
    return promise;
  }

  prefetch(offset: number, lengthBytes: number): Done {
    this.requireHere();
    return this.underWay(this.parts.reader.fetch(offset, lengthBytes));
  }

  status(offset: number, lengthBytes: number, maxExtents: number): Promise<Extent[]> {
    return this.answered(() => this.parts.reader.status(offset, lengthBytes, maxExtents));
  }

  /** The names of its snapshots, once they are completed. */
  async moments(): Promise<readonly string[]> {
    this.requireHere();
    return this.parts.changes.moments();
  }

  async changesSince(moment: string): Promise<Changes | undefined> {
    this.requireHere();
    const changes = await this.parts.changes.since(moment);
    return changes && { status: (...range) => this.answered(() => changes.status(...range)) };
  }

  /** An answer that counts only if the volume is still here after it. */
  private async answered<T>(ask: () => Promise<T> | T): Promise<T> {
    this.requireHere();
    await this.certainToRead();
    const answer = await ask();
    this.requireHere();
    return answer;
  }

  private requireHere(): void {
    if (this.gone !== undefined) throw this.gone;
  }

  requireWritable(): void {
    if (this.gone !== undefined) throw this.gone;
    if (this.unwritable !== undefined) throw this.unwritable;
  }

  /** Another host has the volume: from now on nothing is answered, nor what is under way. */
  lose(error: StorageError): void {
    if (this.gone === undefined) this.parts.log.error(error.message, { volume: this.name });
    this.gone ??= error;
    this.parts.uploader.stop(error);
    this.parts.checkpointer.stop();
    void this.parts.space.end(error);
    this.parts.snapshots.end(error);
    for (const reject of this.requests) reject(error);
    this.requests.clear();
  }

  /** The journal or the upload cannot go on: nothing is written any more, what was stays readable. */
  stopWriting(cause: StorageError): void {
    if (this.gone !== undefined) return;
    this.parts.log.error('volume is read-only from now on', {
      volume: this.name,
      error: cause.message,
    });
    this.unwritable ??= new StorageError(
      cause.code === 'corrupt' ? 'corrupt' : 'local-io',
      `Volume ${this.name} is read-only since its journal failed: ${cause.message}`,
      { cause },
    );
    // What the journal does not have whole never gets to the store.
    this.parts.uploader.endLog(this.unwritable);
  }

  /** Makes the volume larger, while clients use it; done when the store says so. */
  async grow(sizeBytes: number): Promise<Resized> {
    this.requireWritable();
    const beforeBytes = this.sizeBytes;
    await this.underWay(grow(this.parts, sizeBytes));
    return { beforeBytes, sizeBytes };
  }

  /**
   * Makes the volume smaller, which no client may have; what is cut off is gone. If that fails it is
   * to be closed: the store may have the new size all the same.
   */
  async shrink(sizeBytes: number): Promise<Resized> {
    this.requireWritable();
    const beforeBytes = this.sizeBytes;
    requireShrinkable(this.parts.ownership.manifest, sizeBytes);
    this.cutAtBytes = sizeBytes;
    await this.underWay(shrink(this.parts, sizeBytes));
    this.cutAtBytes = Number.POSITIVE_INFINITY;
    return { beforeBytes, sizeBytes };
  }

  /** The time now, as its log has it. */
  get logTimeMs(): number {
    return this.parts.times.nowMs();
  }

  /** From when until when it can be gone back to; `undefined` when to no time at all. */
  get window(): { fromMs: number; throughMs: number } | undefined {
    const { manifest } = this.parts.ownership;
    // Its own writer need not wait until the store has been told.
    return windowOf({ ...manifest, writer: undefined }, this.logTimeMs);
  }

  /**
   * The volume as of a moment, which has to be in the past: uploads first what was written by then.
   * Where the writes of one moment are still being answered, it counts what the log says.
   */
  async asOf(wanted: WantedMoment): Promise<Moment> {
    this.requireHere();
    const { store, settings, times, ownership } = this.parts;
    const nowMs = times.nowMs();
    await this.storeThrough(wanted.timeMs);
    // What a writer sees that has lost the volume is not what the volume was.
    await ownership.confirm();
    const { manifest } = ownership;
    const concurrency = settings.getConcurrency;
    return findMoment({ store, manifest, concurrency, nowMs, storedThroughMs: nowMs }, wanted);
  }

  /** Has the store all that was answered before a time, and says so in it. */
  async storeThrough(timeMs: number): Promise<void> {
    this.requireHere();
    const { segments, uploader, ownership } = this.parts;
    if (timeMs > this.logTimeMs) return;
    if (timeMs > segments.storedThroughMs) {
      segments.seal();
      await uploader.whenCommitted(segments.lastNumber);
    }
    const { retention } = ownership.manifest;
    if (retention !== undefined && retention.storedThroughMs < timeMs)
      await ownership.update((manifest) => manifest);
  }

  /** Looks for space that can be given back, and gives it back; what is set decides what is worth it. */
  async compact(options: PassOptions = {}): Promise<SpaceStatus> {
    this.requireWritable();
    const { segments, uploader, space } = this.parts;
    segments.seal();
    await this.underWay(
      uploader
        .whenCommitted(segments.lastNumber)
        .then(() => space.pass({ isThorough: true, ...options })),
    );
    return space.statistics;
  }

  /**
   * Makes a clone independent of its ancestors, at the rate of compaction, while it is used; one that is
   * asked for again goes on. `in-use` while others are clones of this one, for they read by its map.
   */
  async flatten(options: FlattenOptions): Promise<Flattened> {
    this.requireWritable();
    let flattened: Flattened | undefined;
    const done = this.parts.space.flatten(options).then((result) => {
      flattened = result;
    });
    await this.underWay(done);
    return flattened as Flattened;
  }

  /** Reads and verifies all of the volume's objects, at the set rate. */
  scrub(): Promise<CheckReport> {
    this.requireHere();
    return this.parts.scrubber.start();
  }

  /**
   * Makes a snapshot: all that was answered before this, nothing that is asked for after it. It outlives
   * this host once it is completed. Errors: `already-exists`, `usage`, `no-space` when there are too many.
   */
  async createSnapshot(wish: SnapshotWish): Promise<Snapshot> {
    const { asOf } = wish;
    if (asOf !== undefined) return snapshotAsOf(this.parts, await this.asOf(asOf), asOf, wish);
    this.requireWritable();
    return this.parts.snapshots.create(wish, () => this.requireWritable());
  }

  /** Resolves when the snapshot of that id is completed; `not-found` when it is deleted before. */
  whenSnapshotCompleted(id: string): Promise<Snapshot> {
    this.requireHere();
    return this.parts.snapshots.whenCompleted(id);
  }

  /** Deletes a snapshot by its id; `in-use` while a clone reads it. */
  deleteSnapshot(id: string): Promise<void> {
    this.requireHere();
    return this.parts.snapshots.delete(id);
  }

  /** All snapshots as this writer last saw them; of those that are pending, how far they are. */
  get snapshots(): readonly SnapshotStatus[] {
    const { ownership, snapshots } = this.parts;
    return ownership.manifest.snapshots.map((snapshot) => ({
      ...snapshot,
      progress: snapshots.progressOf(snapshot),
    }));
  }

  statistics(): VolumeStatistics {
    return statisticsOf(this.parts, {
      held: this.gone === undefined,
      failure: (this.gone ?? this.unwritable)?.message,
    });
  }

  /** Uploads everything, makes a checkpoint and gives the volume up. Requests must have ended. */
  close(): Promise<void> {
    return this.giveUp(() => Promise.resolve());
  }

  /**
   * Makes the volume what it was at a snapshot, and gives it up: nothing that is in RAM of it holds any
   * more. No client may have it. What it was until then becomes a snapshot, called `name` if that is
   * given. Rejects with the volume given up, and as it was unless the store has done it all the same.
   */
  async rollback(nameOrId: string, name?: string): Promise<RolledBack> {
    this.requireWritable();
    findSnapshot(this.parts.ownership.manifest, nameOrId);
    return this.giveUp((last) => rollBack(this.parts, last, nameOrId, name));
  }

  /** Does `act` when all is in the checkpoint, up to segment `last`, and nobody writes any more. */
  private async giveUp<T>(act: (last: number) => Promise<T>): Promise<T> {
    const { segments, uploader, checkpointer, retention, snapshots, ownership } = this.parts;
    const { disk, statePath } = this.parts;
    this.requireHere();
    this.gone = new StorageError('shutting-down', `Volume ${this.name} is being closed.`);
    try {
      await this.parts.space.end(this.gone);
      segments.seal();
      const last = segments.lastNumber;
      await uploader.whenCommitted(last);
      await snapshots.settled();
      checkpointer.stop();
      await checkpointer.checkpoint();
      await retention.end();
      const [acted] = await Promise.allSettled([act(last)]);
      // Before the release: whoever finds the volume given up finds this journal done with.
      await writeLocalState(disk, statePath, localStateOf(ownership.manifest, true));
      await ownership.release(last);
      if (acted.status === 'rejected') throw acted.reason;
      return acted.value;
    } finally {
      await this.abandon();
    }
  }

  /** Lets go at once, as a crash would: what is flushed is in the journal and is found again. */
  async abandon(): Promise<void> {
    const { segments, uploader, checkpointer, ownership, files, diskCache } = this.parts;
    const { scrubber, retention } = this.parts;
    const reason = new StorageError('shutting-down', `Volume ${this.name} was closed.`);
    this.gone ??= reason;
    this.parts.snapshots.end(reason);
    ownership.end(reason);
    uploader.stop(reason);
    segments.stop();
    await scrubber.stop();
    await this.parts.space.end(reason);
    await checkpointer.end(reason);
    await retention.end();
    await segments.journal.stop();
    for (const segment of segments.segments.values()) await segment.file.file.close();
    await files.close();
    await diskCache?.close().catch((error: unknown) => {
      if (!isStorageError(error)) throw error;
    });
  }
}
