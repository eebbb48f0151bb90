import { assert } from '../base/assert.ts';
import { type Clock, sleep } from '../base/clock.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { CallOptions, ObjectStore } from '../base/object-store.ts';
import type { Random } from '../base/random.ts';
import { bytesToHex } from '../format/binary.ts';
import { decodeManifest, encodeManifest, type Manifest } from '../format/manifest.ts';
import { manifestKey, maximumVariant } from '../format/names.ts';
import { Lease } from './lease.ts';
import type { VolumeSettings } from './settings.ts';

/** A writer tries so often in the time that its lease runs. */
const renewalsPerLease = 3;
/** A call takes no longer than this part: a failed change and a failed look fit between renewals. */
const callsPerLease = 5;

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
  const found = await findManifest(store, volumeId);
  if (found !== undefined) return found;
  throw new StorageError(
    'corrupt',
    `The manifest of volume ${volumeId} is missing from ${store.url}; it is never taken for an empty volume.`,
  );
}

/** As `loadManifest`; `undefined` when there is none. */
export async function findManifest(
  store: ObjectStore,
  volumeId: string,
  options?: CallOptions,
): Promise<LoadedManifest | undefined> {
  const found = await store.load(manifestKey(volumeId), options);
  if (found === undefined) return undefined;
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
  private renewing = false;
  private nextConfirmation: Promise<void> | undefined;
  private ended: StorageError | undefined;
  private lostError: StorageError | undefined;
  private onLost: (error: StorageError) => void = () => undefined;
  private lastVariant = 0;
  /** Of the changes of this epoch: no two that were ever tried have the same. */
  private lastLease = 0;
  private alsoChange: (manifest: Manifest) => Manifest = (manifest) => manifest;
  /** How long what is known of the volume holds. */
  readonly lease: Lease;

  private constructor(context: OwnershipContext, writerId: string, current: LoadedManifest) {
    this.context = context;
    this.writerId = writerId;
    this.current = current;
    this.lastChangeMs = context.clock.monotonicMs();
    this.lease = new Lease(context.clock, context.settings.leaseMs, () => this.renew());
  }

  /** Calls `action` when another host has taken the volume; at once when it has already. */
  whenLost(action: (error: StorageError) => void): void {
    this.onLost = action;
    if (this.lostError !== undefined) action(this.lostError);
  }

  /** Tells a checkpoint that is made of another one from all others of this epoch. */
  nextVariant(): number {
    if (this.lastVariant === maximumVariant) {
      const { name } = this.manifest;
      const message = `Volume ${name} has been gone back to too often: attach it again.`;
      throw new StorageError('no-space', message);
    }
    this.lastVariant += 1;
    return this.lastVariant;
  }

  /** What is said anew with each change that is made for whatever reason. */
  whenChanging(change: (manifest: Manifest) => Manifest): void {
    this.alsoChange = change;
  }

  /** Begins a new epoch, whoever has the volume; `conflict` when it has changed since `loaded`. */
  static async take(
    context: OwnershipContext,
    loaded: LoadedManifest,
    writer: { readonly id: string; readonly host: string },
  ): Promise<Ownership> {
    const { manifest } = loaded;
    const ownership = new Ownership(context, writer.id, loaded);
    const { leaseMs } = context.settings;
    try {
      await ownership.swap((before) => ({
        ...before,
        epoch: manifest.epoch + 1,
        writer: { ...writer, lease: (before.writer?.lease ?? 0) + 1, leaseMs },
      }));
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
    return this.inTurn(() => {
      const lease = Math.max(this.lastLease, this.manifest.writer?.lease ?? 0) + 1;
      this.lastLease = lease;
      return this.swap((before) => {
        const changed = noteTurn(before, this.alsoChange(change(before)));
        const { writer } = changed;
        return { ...changed, writer: writer === undefined ? undefined : { ...writer, lease } };
      });
    });
  }

  /**
   * Asks the store whether the volume is still ours, until it answers: the promise of `store`
   * durability. This is no renewal: who watches the lease sees no change by it.
   */
  confirm(): Promise<void> {
    // One question answers all who wait for it to be asked.
    this.nextConfirmation ??= this.inTurn(async () => {
      this.nextConfirmation = undefined;
      const { manifest } = await this.persist(() => this.look());
      this.requireOurs(manifest);
    });
    return this.nextConfirmation;
  }

  /** The manifest as the store has it now; `lost-ownership` when it is another's. */
  fresh(): Promise<Manifest> {
    return this.inTurn(async () => {
      const { manifest } = await this.persist(() => this.look());
      this.requireOurs(manifest);
      return manifest;
    });
  }

  /** Gives the volume up; the epoch is closed at `lastSegment`. */
  async release(lastSegment: number): Promise<void> {
    this.stopRenewing();
    await this.update((manifest) => ({
      ...closeEpoch(manifest, manifest.epoch, lastSegment),
      writer: undefined,
    }));
  }

  private inTurn<T>(action: () => Promise<T>): Promise<T> {
    const next = this.chain.then(action);
    this.chain = next.catch(() => undefined);
    return next;
  }

  /** One compare-and-swap, decided even when its answer is lost; retried while the store is away. */
  private async swap(change: (manifest: Manifest) => Omit<Manifest, 'nonce'>): Promise<void> {
    const { clock, random } = this.context;
    const { lease } = this;
    // One nonce for all attempts: a slow network may do an early one after a later one was tried.
    const nonce = bytesToHex(random.bytes(16));
    let manifest = { ...change(this.current.manifest), nonce };
    // When the change was not made yet: the lease counts from there, not from where it was noticed.
    let unmade = lease.now();
    await this.persist(async () => {
      const asked = lease.now();
      if (await this.attempt(manifest)) {
        lease.renewed(asked);
        return true;
      }
      const looked = lease.now();
      const { version } = this.current;
      const isDone = await this.wasDone(manifest);
      if (this.current.version !== version) manifest = { ...change(this.current.manifest), nonce };
      if (isDone === true) lease.renewed(unmade);
      if (isDone === false) unmade = looked;
      return isDone === true ? true : undefined;
    });
    this.lastChangeMs = clock.monotonicMs();
  }

  /** Repeats `action`, ever more slowly, until it gives something; the store may be away for long. */
  private async persist<T>(action: () => Promise<T | undefined>): Promise<T> {
    const { clock, random, settings } = this.context;
    let waitMs = settings.retryMinimumMs;
    for (;;) {
      if (this.ended !== undefined) throw this.ended;
      const result = await action();
      if (result !== undefined) return result;
      await sleep(clock, waitMs * (0.5 + random.fraction()));
      waitMs = Math.min(settings.retryMaximumMs, waitMs * 2);
    }
  }

  /**
   * One call to the store, cut short when it takes so long that the lease must be asked for anew;
   * `undefined` when the store does not answer.
   */
  private async call<T>(
    make: (options: CallOptions) => Promise<T>,
    onFailure: (error: StorageError) => void = () => undefined,
  ): Promise<T | undefined> {
    const { clock, settings, log } = this.context;
    const controller = new AbortController();
    const cancel = clock.after(settings.leaseMs / callsPerLease, () => controller.abort());
    try {
      return await make({ signal: controller.signal });
    } catch (error) {
      if (!isStorageError(error)) throw error;
      onFailure(error);
      if (error.class !== 'retry') throw error;
      log.warn('the store does not say whose the volume is, trying again', {
        volume: this.manifest.name,
        error: error.message,
      });
      return undefined;
    } finally {
      cancel();
    }
  }

  /** False when another value was there, or nobody can say what was done. */
  private async attempt(manifest: Manifest): Promise<boolean> {
    const key = manifestKey(manifest.id);
    const { version: before } = this.current;
    const swapped = await this.call(async (options) => ({
      version: await this.context.store.swap(key, before, encodeManifest(manifest), options),
    }));
    if (swapped?.version === undefined) return false;
    this.current = { manifest, version: swapped.version };
    return true;
  }

  /**
   * Looks whether a swap was done all the same; `lost-ownership` when another's value is there. One of
   * ours that was given up, as after a refusal, may have been done since: then this one goes over it.
   */
  private async wasDone(tried: Manifest): Promise<boolean | undefined> {
    const found = await this.look();
    if (found === undefined) return undefined;
    if (found.manifest.nonce === tried.nonce) {
      this.current = found;
      return true;
    }
    if (this.isUnder(tried, found.manifest)) {
      // Another, such as for a clone, has changed it since; what was taken away again stays away.
      this.current = found;
      return true;
    }
    if (found.manifest.nonce !== this.current.manifest.nonce) {
      this.requireOurs(found.manifest);
      this.current = found;
    }
    return false;
  }

  /** Whether `found` came about by changes that others made to `tried`: they leave the writer as it is. */
  private isUnder(tried: Manifest, found: Manifest): boolean {
    if (tried.epoch !== this.epoch || found.epoch !== tried.epoch) return false;
    if (tried.writer === undefined) return isGivenUp(found, tried.epoch);
    return found.writer?.id === this.writerId && found.writer.lease === tried.writer.lease;
  }

  private requireOurs(found: Manifest): void {
    if (found.epoch !== this.epoch || found.writer?.id !== this.writerId) throw this.lost(found);
  }

  /** The manifest as it is now; `undefined` when the store does not answer. */
  private async look(): Promise<LoadedManifest | undefined> {
    const { store } = this.context;
    const asked = this.lease.now();
    const answer = await this.call(
      async (options) => ({ found: await findManifest(store, this.manifest.id, options) }),
      // That a change was not made may be somebody's answer; that reading failed is none.
      (error) => this.lease.unanswered(asked, error),
    );
    if (answer === undefined) return undefined;
    if (answer.found === undefined) throw this.lost(undefined);
    return answer.found;
  }

  /** `found`: what the manifest says now; `undefined` when it is gone. */
  private lost(found: Manifest | undefined): StorageError {
    const { name } = this.manifest;
    const by = found?.writer?.host ?? 'another host';
    const what =
      found === undefined
        ? `was deleted: its manifest is gone from ${this.context.store.url}`
        : `was taken by ${by} (epoch ${found.epoch}, this was epoch ${this.epoch})`;
    const error = new StorageError(
      'lost-ownership',
      `Volume ${name} ${what}; this host has stopped answering for it.`,
    );
    this.lostError = error;
    this.end(error);
    this.onLost(error);
    return error;
  }

  /** Keeps the lease alive: whoever watches sees its counter change. */
  startRenewing(): void {
    const { clock, settings } = this.context;
    const renewMs = settings.leaseMs / renewalsPerLease;
    const tick = (): void => {
      const dueMs = renewMs - (clock.monotonicMs() - this.lastChangeMs);
      this.cancelRenewal = clock.after(dueMs > 1 ? dueMs : renewMs, tick);
      if (dueMs <= 1) this.renew();
    };
    this.cancelRenewal = clock.after(renewMs, tick);
  }

  private renew(): void {
    if (this.renewing || this.ended !== undefined) return;
    this.renewing = true;
    this.update((manifest) => manifest)
      .catch((error: unknown) => {
        if (error === this.ended) return;
        this.context.log.error('lease not renewed', { error: String(error) });
      })
      .finally(() => {
        this.renewing = false;
        if (this.lease.isAwaited) this.renew();
      });
  }

  private stopRenewing(): void {
    this.cancelRenewal?.();
    this.cancelRenewal = undefined;
  }

  /** Why nothing more is asked of the store, once that is so. */
  get ending(): StorageError | undefined {
    return this.ended;
  }

  /** Asks the store nothing more, and tells those who wait for its answer why. */
  end(reason: StorageError): void {
    this.stopRenewing();
    this.ended ??= reason;
    this.lease.end(reason);
  }
}

/** A head that is no fold of the log is noted: the log before it no longer says what the map is. */
function noteTurn(before: Manifest, changed: Manifest): Manifest {
  const { head } = changed;
  const isTurn = head !== undefined && head.variant > 0 && head !== before.head;
  return isTurn ? { ...changed, turnedAt: head.segment } : changed;
}

function isGivenUp({ writer, epoch, closedThrough }: Manifest, ownEpoch: number): boolean {
  return writer === undefined && epoch === ownEpoch && closedThrough === ownEpoch;
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
