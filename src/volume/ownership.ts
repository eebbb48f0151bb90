import { assert } from '../base/assert.ts';
import { type Clock, sleep } from '../base/clock.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Random } from '../base/random.ts';
import { bytesToHex } from '../format/binary.ts';
import { decodeManifest, encodeManifest, type Manifest } from '../format/manifest.ts';
import { manifestKey } from '../format/names.ts';
import type { VolumeSettings } from './settings.ts';

/** A writer tries so often in the time that its lease runs. */
const renewalsPerLease = 3;

export interface OwnershipContext {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly settings: VolumeSettings;
}

export interface LoadedManifest {
  readonly manifest: Manifest;
  readonly version: string;
}

export async function loadManifest(store: ObjectStore, volumeId: string): Promise<LoadedManifest> {
  const found = await store.load(manifestKey(volumeId));
  if (found === undefined) {
    throw new StorageError(
      'corrupt',
      `The manifest of volume ${volumeId} is missing from ${store.url}; it is never taken for an empty volume.`,
    );
  }
  const manifest = decodeManifest(found.value);
  if (manifest.id !== volumeId)
    throw new StorageError(
      'corrupt',
      `The manifest of volume ${volumeId} is that of ${manifest.id}.`,
    );
  return { manifest, version: found.version };
}

/**
 * A writer's hold on a volume: the manifest as it last saw it, and the only way to change it. All
 * changes go one after the other, each by compare-and-swap, each with a nonce, so that one whose
 * answer was lost is recognised and one that another host made is never overwritten.
 */
export class Ownership {
  private readonly context: OwnershipContext;
  private readonly writerId: string;
  private current: LoadedManifest;
  private chain: Promise<unknown> = Promise.resolve();
  private cancelRenewal: (() => void) | undefined;
  private lastChangeMs: number;
  private released = false;
  /** Called once, when another host has taken the volume. */
  onLost: (error: StorageError) => void = () => undefined;

  private constructor(context: OwnershipContext, writerId: string, current: LoadedManifest) {
    this.context = context;
    this.writerId = writerId;
    this.current = current;
    this.lastChangeMs = context.clock.monotonicMs();
  }

  /** Begins a new epoch, whoever has the volume; `conflict` when it has changed since `loaded`. */
  static async take(
    context: OwnershipContext,
    loaded: LoadedManifest,
    writer: { readonly id: string; readonly host: string },
  ): Promise<Ownership> {
    const { manifest } = loaded;
    const ownership = new Ownership(context, writer.id, loaded);
    const lease = (manifest.writer?.lease ?? 0) + 1;
    const { leaseMs } = context.settings;
    try {
      await ownership.swap({
        ...manifest,
        epoch: manifest.epoch + 1,
        writer: { ...writer, lease, leaseMs },
      });
    } catch (error) {
      if (!isStorageError(error, 'lost-ownership')) throw error;
      const message = `Volume ${manifest.name} was changed by another host while it was being attached here; try again.`;
      throw new StorageError('conflict', message, { cause: error });
    }
    return ownership;
  }

  get manifest(): Manifest {
    return this.current.manifest;
  }

  get epoch(): number {
    return this.current.manifest.epoch;
  }

  /** Changes the manifest; `change` sees it as it is then. `lost-ownership` when it is another's. */
  update(change: (manifest: Manifest) => Manifest): Promise<void> {
    return this.inTurn(async () => {
      const changed = change(this.current.manifest);
      const writer = changed.writer;
      const renewed = writer === undefined ? undefined : { ...writer, lease: writer.lease + 1 };
      await this.swap({ ...changed, writer: renewed });
    });
  }

  /** Asks the store whether the volume is still ours: the promise of `store` durability. */
  confirm(): Promise<void> {
    return this.inTurn(async () => {
      const { manifest } = await loadManifest(this.context.store, this.manifest.id);
      this.requireOurs(manifest);
    });
  }

  /** Gives the volume up; the epoch is closed at `lastSegment`. */
  async release(lastSegment: number): Promise<void> {
    this.stopRenewing();
    await this.update((manifest) => ({
      ...closeEpoch(manifest, manifest.epoch, lastSegment),
      writer: undefined,
    }));
    this.released = true;
  }

  private inTurn<T>(action: () => Promise<T>): Promise<T> {
    const next = this.chain.then(action);
    this.chain = next.catch(() => undefined);
    return next;
  }

  /** One compare-and-swap, decided even when its answer is lost; retried while the store is away. */
  private async swap(changed: Omit<Manifest, 'nonce'>): Promise<void> {
    const { clock, random, settings } = this.context;
    // One nonce for all attempts: a slow network may do an early one after a later one was tried.
    const manifest = { ...changed, nonce: bytesToHex(random.bytes(16)) };
    let waitMs = settings.retryMinimumMs;
    while (!(await this.attempt(manifest)) && !(await this.wasDone(manifest))) {
      await sleep(clock, waitMs * (0.5 + random.fraction()));
      waitMs = Math.min(settings.retryMaximumMs, waitMs * 2);
    }
    this.lastChangeMs = clock.monotonicMs();
  }

  /** False when another value was there, or nobody can say what was done. */
  private async attempt(manifest: Manifest): Promise<boolean> {
    const { store, log } = this.context;
    try {
      const key = manifestKey(manifest.id);
      const version = await store.swap(key, this.current.version, encodeManifest(manifest));
      if (version !== undefined) this.current = { manifest, version };
      return version !== undefined;
    } catch (error) {
      if (!isStorageError(error) || error.class !== 'retry') throw error;
      log.warn('manifest not changed yet, trying again', { error: error.message });
      return false;
    }
  }

  /** Looks whether a swap was done all the same; `lost-ownership` when another's value is there. */
  private async wasDone(tried: Manifest): Promise<boolean> {
    try {
      const found = await loadManifest(this.context.store, tried.id);
      if (found.manifest.nonce === tried.nonce) {
        this.current = found;
        return true;
      }
      if (found.manifest.nonce !== this.current.manifest.nonce) throw this.lost(found.manifest);
      return false;
    } catch (error) {
      if (isStorageError(error) && error.class === 'retry') return false;
      throw error;
    }
  }

  private requireOurs(found: Manifest): void {
    if (found.epoch !== this.epoch || found.writer?.id !== this.writerId) throw this.lost(found);
  }

  private lost(found: Manifest): StorageError {
    const by = found.writer === undefined ? 'another host' : found.writer.host;
    const error = new StorageError(
      'lost-ownership',
      `Volume ${found.name} was taken by ${by} (epoch ${found.epoch}, this was epoch ${this.epoch}); this host has stopped answering for it.`,
    );
    this.stopRenewing();
    this.onLost(error);
    return error;
  }

  /** Keeps the lease alive: whoever watches sees its counter change. */
  startRenewing(): void {
    const { clock, settings } = this.context;
    const renewMs = settings.leaseMs / renewalsPerLease;
    const tick = (): void => {
      if (this.released) return;
      const sinceMs = clock.monotonicMs() - this.lastChangeMs;
      const dueMs = renewMs - sinceMs;
      if (dueMs > 1) {
        this.cancelRenewal = clock.after(dueMs, tick);
        return;
      }
      this.cancelRenewal = clock.after(renewMs, tick);
      this.update((manifest) => manifest).catch((error: unknown) => {
        this.context.log.error('lease not renewed', { error: String(error) });
      });
    };
    this.cancelRenewal = clock.after(renewMs, tick);
  }

  stopRenewing(): void {
    this.cancelRenewal?.();
    this.cancelRenewal = undefined;
    this.released = true;
  }
}

/** Says that epochs up to `epoch` end at `lastSegment`, of which `writtenBy` wrote the last ones. */
export function closeEpoch(
  manifest: Manifest,
  epoch: number,
  lastSegment: number,
  writtenBy = epoch,
): Manifest {
  const before = manifest.tenures.at(-1)?.lastSegment ?? 0;
  assert(lastSegment >= before, 'a tenure ends where or after the one before it did');
  const tenures =
    lastSegment === before
      ? manifest.tenures
      : [...manifest.tenures, { epoch: writtenBy, lastSegment }];
  return { ...manifest, closedThrough: epoch, tenures };
}
