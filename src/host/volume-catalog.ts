import type { Clock } from '../base/clock.ts';
import { StorageError, toStorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { parseMoment } from '../base/moment.ts';
import { formatDuration, formatSize, roundDuration } from '../base/quantity.ts';
import { parseVersionName, type VersionName } from '../format/version-name.ts';
import { MeteredDevice } from './metered-device.ts';
import type { OfferedVolume, OpenVolume, VolumeState } from './open-volume.ts';
import {
  attachedError,
  readOnlyError,
  resizeDetached,
  type Resizing,
  changingError,
} from './resizing.ts';
import { busyError, rollBackDetached } from './rolling-back.ts';
import { makeSnapshot } from './snapshotting.ts';
import type { Snapshot } from '../format/snapshot.ts';
import type { Resized } from '../volume/resize.ts';
import type { RolledBack } from '../volume/rollback.ts';
import type { SnapshotWish } from '../volume/snapshot-changes.ts';
import type { LeaseWatch, TakeOver } from '../volume/take-over.ts';
import { describeUnlisted, listedSnapshots, VersionExports } from './version-exports.ts';
import {
  type AttachedVolume,
  type AttachOptions,
  sourceOf,
  type VolumeSource,
  type VolumeSummary,
} from './volume-source.ts';

interface Offered {
  readonly volume: OfferedVolume;
  readonly snapshots: readonly OfferedVolume[];
}

export interface VolumeCatalogOptions {
  readonly sources: readonly VolumeSource[];
  /** What the empty export name means where there is more than one volume. */
  readonly defaultVolume: string | undefined;
  /** How a client's wish for a volume that another writer has is met. */
  takeOver(volume: string): TakeOver;
  /** Disconnects the clients of a volume; resolves when their requests are answered. */
  disconnect(volume: string): Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

/** A volume on its way to be attached. */
interface Attaching {
  readonly done: Promise<Attachment>;
  /** Rejects when it takes longer than a client can be made to wait. */
  readonly patience: Promise<never>;
  /** How the watching of another's lease goes, while that goes on. */
  watch(): LeaseWatch | undefined;
  /** Ends the watching of another's lease. */
  readonly giveUp: AbortController;
}

interface Attachment {
  readonly store: string;
  readonly volume: AttachedVolume;
  /** The same, as its clients use it. */
  readonly device: MeteredDevice;
  clients: number;
}

/**
 * The volumes of all stores under their names. One is attached when its first client asks, once
 * however many ask, and stays attached until it is detached or the daemon stops.
 */
export class VolumeCatalog {
  readonly #options: VolumeCatalogOptions;
  readonly #attachments = new Map<string, Attaching>();
  readonly #attached = new Map<string, Attachment>();
  /** What an operator took from the clients; it stays so until it is attached by an operator. */
  readonly #detached = new Map<string, Promise<boolean>>();
  /** Volumes that are being made smaller, or rolled back: nobody gets them meanwhile. */
  readonly #changing = new Map<string, Promise<unknown>>();
  readonly #versions: VersionExports;
  #closing = false;

  constructor(options: VolumeCatalogOptions) {
    this.#options = options;
    this.#versions = new VersionExports(options.clock, (volume) => this.#sourceOf(volume));
  }

  /** All volumes, in the order of their names, each with its snapshots. */
  async list(): Promise<OfferedVolume[]> {
    return (await this.#offered()).flatMap(({ volume, snapshots }) => [volume, ...snapshots]);
  }

  async volumes(): Promise<OfferedVolume[]> {
    return (await this.#offered()).map(({ volume }) => volume);
  }

  /** A store that does not answer is logged. */
  async #offered(): Promise<Offered[]> {
    const { sources, log } = this.#options;
    const offered = new Map<string, Offered>();
    const lists = sources.map(async (source) => {
      try {
        for (const summary of await source.list()) {
          const { name, sizeBytes, holder } = summary;
          const description = `${describe(sizeBytes, source.url, holder)}${describeUnlisted(summary)}`;
          const volume = { name, description };
          offered.set(name, { volume, snapshots: listedSnapshots(summary, source.url) });
        }
      } catch (error) {
        const { code, message } = toStorageError(error);
        log.warn('a store did not list its volumes', { store: source.url, code, reason: message });
      }
    });
    await Promise.all(lists);
    return [...offered.values()].sort((a, b) => byName(a.volume, b.volume));
  }

  /** The volume of that name, attached; the empty name is the default volume. Or a version of one. */
  async open(name: string): Promise<OpenVolume> {
    let wanted = name;
    let attachment: Attachment;
    try {
      if (name === '') wanted = await this.#defaultName();
      const version = parseVersionName(wanted);
      if (version !== undefined) {
        await this.#storeThrough(version);
        return await this.#versions.open(version);
      }
      if (this.#detached.has(wanted)) throw detachedError(wanted);
      const attaching = this.#attach(wanted, this.#options.takeOver(wanted));
      const watch = attaching.watch();
      if (watch !== undefined) throw waitingError(watch);
      attachment = await Promise.race([attaching.done, attaching.patience]);
    } catch (error) {
      const { code, message } = toStorageError(error);
      this.#options.log.warn('a client was refused', { volume: wanted, code, reason: message });
      throw error;
    }
    attachment.clients += 1;
    let open = true;
    return {
      name: wanted,
      description: describe(attachment.volume.sizeBytes, attachment.store),
      device: attachment.device,
      close() {
        if (open) attachment.clients -= 1;
        open = false;
        return Promise.resolve();
      },
    };
  }

  /** What is written here is read by the store alone as it was at a time. */
  async #storeThrough({ volume, version }: VersionName): Promise<void> {
    const timeMs = parseMoment(version);
    if (timeMs === undefined) return;
    const attaching = this.#attached.has(volume) ? undefined : this.#attachments.get(volume);
    // Whoever waits for another's lease does not write it: then the store alone is asked.
    if (attaching?.watch() === undefined) await attaching?.done.catch(() => undefined);
    await this.#attached.get(volume)?.volume.storeThrough?.(timeMs);
  }

  /** Attaches a volume because an operator says so, and lets clients have it again. */
  async attach(
    name: string,
    takeOver: TakeOver,
    onWatch?: (watch: LeaseWatch) => void,
  ): Promise<void> {
    await this.#detached.get(name);
    this.#detached.delete(name);
    if (this.#attached.get(name)?.volume.ended === true) await this.#options.disconnect(name);
    if (takeOver === 'now') await this.#stopWatching(name);
    await this.#attach(name, takeOver, onWatch).done;
  }

  /**
   * Disconnects a volume's clients, gives it up, and refuses it to clients from now on: theirs is to
   * come back and ask for it, and it must be free for another host. False when it was not attached.
   * `held` when another has it.
   */
  detach(name: string): Promise<boolean> {
    const present = this.#detached.get(name);
    if (present !== undefined) return present;
    const detaching = this.#detachNow(name);
    this.#detached.set(name, detaching);
    // What could not be detached is still there for whoever asks.
    detaching.catch(() => this.#detached.delete(name));
    return detaching;
  }

  /**
   * Gives a volume another size: one that is attached here at once, and only a larger one; any other
   * in its store. `held` when another host has it.
   */
  async resize(name: string, resizing: Resizing): Promise<Resized> {
    if (this.#underWay(name) !== undefined) await this.#decided(name);
    const resized = await this.#resizeNow(name, resizing);
    const sizes = { from: formatSize(resized.beforeBytes), to: formatSize(resized.sizeBytes) };
    this.#options.log.info('volume resized', { volume: name, ...sizes });
    return resized;
  }

  /**
   * Makes a snapshot of a volume, which is attached for it if it is not; resolves when it is completed,
   * or, unless that `waits`, when nothing but the loss of this machine can undo it. `held` when another host has the volume.
   */
  async snapshot(name: string, wish: SnapshotWish, waits: boolean): Promise<Snapshot> {
    const { volume } = await this.#attach(name, 'never').done;
    return makeSnapshot(volume, wish, waits);
  }

  /** Makes a volume what it was at a snapshot; no client may have it. `held` when another host has. */
  async rollBack(name: string, snapshot: string): Promise<RolledBack> {
    // In the same step where it is known: from then on nobody gets the volume.
    if (this.#underWay(name) !== undefined) await this.#decided(name);
    if (this.#closing) throw new StorageError('shutting-down', 'the daemon is shutting down');
    const present = this.#attached.get(name);
    if (present !== undefined && present.clients > 0) throw busyError(name, present.clients);
    const rolledBack = await this.#change(name, async () => {
      if (present !== undefined) await this.#giveUp(name, present.volume);
      return rollBackDetached(await this.#sourceOf(name), name, snapshot);
    });
    const { to, before } = rolledBack;
    this.#options.log.info('volume rolled back', {
      ...{ volume: name, to: to.name, before: before.name },
    });
    return rolledBack;
  }

  /** Resolves when it is known whether the volume is attached. */
  async #decided(name: string): Promise<void> {
    for (;;) {
      const underWay = this.#underWay(name);
      if (underWay === undefined) return;
      await underWay.catch(() => undefined);
    }
  }

  /** What decides whether the volume is attached; nothing, when it is known. */
  #underWay(name: string): Promise<unknown> | undefined {
    const attaching = this.#attached.has(name) ? undefined : this.#attachments.get(name);
    const watch = attaching?.watch();
    if (watch !== undefined) throw waitingError(watch);
    return this.#changing.get(name) ?? attaching?.done;
  }

  #resizeNow(name: string, resizing: Resizing): Promise<Resized> {
    const present = this.#attached.get(name);
    if (resizing.shrinks) {
      if (this.#closing) throw new StorageError('shutting-down', 'the daemon is shutting down');
      if (present !== undefined) throw attachedError(name, present.clients);
      return this.#change(name, () => this.#resizeDetached(name, resizing));
    }
    if (present === undefined || present.volume.ended) return this.#resizeDetached(name, resizing);
    if (present.volume.grow === undefined) throw readOnlyError(name);
    return present.volume.grow(resizing.sizeBytes);
  }

  /** Nobody gets the volume until `act` is done. */
  #change<T>(name: string, act: () => Promise<T>): Promise<T> {
    const changing = act().finally(() => this.#changing.delete(name));
    this.#changing.set(name, changing);
    return changing;
  }

  async #resizeDetached(name: string, resizing: Resizing): Promise<Resized> {
    return resizeDetached(await this.#sourceOf(name), name, resizing);
  }

  async #detachNow(name: string): Promise<boolean> {
    await this.#stopWatching(name);
    const attachment = this.#attached.get(name);
    if (attachment === undefined) {
      const { holder } = await (await this.#sourceOf(name)).find(name);
      if (holder === undefined) return false;
      const message = `volume "${name}" is attached on ${holder}, not here: detach it there`;
      throw new StorageError('held', message);
    }
    await this.#options.disconnect(name);
    await this.#giveUp(name, attachment.volume);
    return true;
  }

  /** Attaching that only waits for another's lease ends; any other is waited for. */
  async #stopWatching(name: string): Promise<void> {
    const attaching = this.#attachments.get(name);
    attaching?.giveUp.abort();
    await attaching?.done.catch(() => undefined);
  }

  /** One that was lost to another is let go of; it is not ours to give up. */
  async #giveUp(name: string, volume: AttachedVolume): Promise<void> {
    if (volume.ended) await volume.abandon();
    else await volume.close().finally(() => this.#forget(name));
    this.#forget(name);
    this.#options.log.info('volume given up', { volume: name });
  }

  /** The volumes that other writers have. */
  async held(): Promise<VolumeSummary[]> {
    const lists = await Promise.all(this.#options.sources.map((source) => source.list()));
    return lists.flat().filter(({ holder }) => holder !== undefined);
  }

  /** The versions of volumes that are open, by name. */
  versions(): VolumeState[] {
    return this.#versions.states();
  }

  /** What is attached now, by name. */
  attached(): VolumeState[] {
    return [...this.#attached.entries()]
      .map(([name, { store, volume, device, clients }]) => {
        return { name, store, volume, clients, requests: device.statistics() };
      })
      .sort(byName);
  }

  /**
   * Gives every volume up, all at once, and attaches none from now on. Rejects with the first
   * failure when all are done; what could not be uploaded is in the journal.
   */
  async close(): Promise<void> {
    this.#closing = true;
    this.#versions.close();
    const attaching = [...this.#attachments.values()];
    for (const { giveUp } of attaching) giveUp.abort();
    await Promise.allSettled([
      ...attaching.map(({ done }) => done),
      ...this.#detached.values(),
      ...this.#changing.values(),
    ]);
    const closed = await Promise.allSettled(
      this.attached().map(({ name, volume }) => this.#giveUp(name, volume)),
    );
    const failed = closed.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw toStorageError(failed.reason);
  }

  #forget(name: string): void {
    this.#attachments.delete(name);
    this.#attached.delete(name);
  }

  #attach(name: string, takeOver: TakeOver, onWatch?: (watch: LeaseWatch) => void): Attaching {
    if (this.#closing) throw new StorageError('shutting-down', 'the daemon is shutting down');
    if (this.#changing.has(name)) throw changingError(name);
    const present = this.#attached.get(name);
    // Another host took it: the next client, when there is no other, gets a fresh attempt at it.
    const stale = present?.volume.ended === true && present.clients === 0 ? present : undefined;
    const pending = this.#attachments.get(name);
    if (pending !== undefined && stale === undefined) return pending;
    this.#attached.delete(name);
    const patience = Promise.withResolvers<never>();
    const giveUp = new AbortController();
    let latest: LeaseWatch | undefined;
    const options = {
      takeOver,
      signal: giveUp.signal,
      onWatch: (watch: LeaseWatch): void => {
        if (latest === undefined) this.#waitsFor(watch);
        latest = watch;
        patience.reject(waitingError(watch));
        onWatch?.(watch);
      },
    };
    const done = this.#attachNow(name, stale?.volume, options);
    const attaching = { done, patience: patience.promise, giveUp, watch: () => latest };
    this.#attachments.set(name, attaching);
    // Nobody may be left to hear of either.
    patience.promise.catch(() => undefined);
    done
      .catch(() => this.#attachments.delete(name))
      .finally(() => {
        latest = undefined;
      });
    return attaching;
  }

  #waitsFor({ volume, host, epoch, leaseMs }: LeaseWatch): void {
    const waiting = { volume, host, epoch, lease: formatDuration(leaseMs) };
    this.#options.log.info('waiting whether the lease of a volume\u2019s writer ends', waiting);
  }

  async #attachNow(
    name: string,
    stale: AttachedVolume | undefined,
    options: AttachOptions,
  ): Promise<Attachment> {
    await stale?.abandon();
    const source = await this.#sourceOf(name);
    const volume = await source.attach(name, options);
    const device = new MeteredDevice(volume, this.#options.clock);
    const attachment = { store: source.url, volume, device, clients: 0 };
    this.#attached.set(name, attachment);
    return attachment;
  }

  #sourceOf(name: string): Promise<VolumeSource> {
    return sourceOf(this.#options.sources, name);
  }

  async #defaultName(): Promise<string> {
    const { defaultVolume, sources } = this.#options;
    if (defaultVolume !== undefined) return defaultVolume;
    const lists = await Promise.all(sources.map((source) => source.list()));
    const [first, ...others] = lists.flat().map((volume: VolumeSummary) => volume.name);
    if (first !== undefined && others.length === 0) return first;
    const problem = first === undefined ? 'there is no volume' : 'there are several volumes';
    throw new StorageError('not-found', `${problem} and no default_volume is set: name an export`);
  }
}

function describe(sizeBytes: number, storeUrl: string, holder?: string): string {
  const elsewhere = holder === undefined ? '' : `, attached on ${holder}`;
  return `${formatSize(sizeBytes)} in ${storeUrl}${elsewhere}`;
}

function detachedError(name: string): StorageError {
  return new StorageError(
    'held',
    `volume "${name}" was detached here: "elasticdrive volume attach ${name}" lets clients have it again`,
  );
}

function waitingError({ volume, host, remainingMs }: LeaseWatch): StorageError {
  return new StorageError(
    'held',
    `volume "${volume}" is attached on ${host}, whose lease is watched: ask again in ${roundDuration(Math.ceil(remainingMs))}`,
  );
}

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : 1;
}
