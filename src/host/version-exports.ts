import { type Clock, sleep } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { formatSize } from '../base/quantity.ts';
import { formatVersionName, type VersionName } from '../format/version-name.ts';
import { MeteredDevice } from './metered-device.ts';
import type { OpenVolume, VolumeState } from './open-volume.ts';
import type {
  AttachedVolume,
  SnapshotSummary,
  VolumeSource,
  VolumeSummary,
  VolumeVersion,
} from './volume-source.ts';

/** A client gives up after about so long; one that waits for a snapshot is answered before. */
const patienceMs = 20_000;
/** How often the store is asked whether a snapshot is completed. */
const askEveryMs = 500;
/** A version that nobody reads stays open for this long, for whoever comes back. */
const idleMs = 60_000;
/** So many that nobody reads stay open at most: a client that lists all exports opens each. */
const idleMaximum = 8;
/** So many snapshots of a volume are listed to NBD clients; each of these asks for each of them. */
const listedMaximum = 64;

/** The exports of a volume's snapshots: the newest ones, in the order in which they were made. */
export function listedSnapshots(
  { name, snapshots }: VolumeSummary,
  storeUrl: string,
): { readonly name: string; readonly description: string }[] {
  return snapshots.slice(-listedMaximum).map((snapshot) => ({
    name: formatVersionName({ volume: name, version: snapshot.name }),
    description: `${describeSnapshot(snapshot)} in ${storeUrl}`,
  }));
}

function describeSnapshot({
  sizeBytes,
  createdAt,
  description,
  isCompleted,
}: SnapshotSummary): string {
  const pending = isCompleted ? '' : ', not completed yet';
  const purpose = description === '' ? '' : ` (${description})`;
  return `${formatSize(sizeBytes)}, snapshot of ${createdAt}${purpose}${pending}`;
}

/** What of a volume's snapshots is not listed, for its own description. */
export function describeUnlisted({ snapshots }: VolumeSummary): string {
  const count = snapshots.length - listedMaximum;
  return count > 0 ? `, the newest ${listedMaximum} of ${snapshots.length} snapshots listed` : '';
}

interface OpenVersion {
  readonly name: string;
  readonly store: string;
  readonly volume: AttachedVolume;
  readonly device: MeteredDevice;
}

interface Entry {
  readonly opening: Promise<OpenVersion>;
  /** When it is open. */
  opened: OpenVersion | undefined;
  clients: number;
  cancelClosing: () => void;
}

/**
 * The versions of volumes that clients read. One is opened when the first asks for it, from the store
 * alone, and closed a while after the last has left.
 */
export class VersionExports {
  readonly #clock: Clock;
  readonly #sourceOf: (volume: string) => Promise<VolumeSource>;
  /** Those without clients in the order in which they lost them. */
  readonly #entries = new Map<string, Entry>();
  readonly #closing = new AbortController();

  constructor(clock: Clock, sourceOf: (volume: string) => Promise<VolumeSource>) {
    this.#clock = clock;
    this.#sourceOf = sourceOf;
  }

  async open({ volume, version }: VersionName): Promise<OpenVolume> {
    const source = await this.#sourceOf(volume);
    const found = await this.#whenCompleted(source, volume, version);
    if (this.#closing.signal.aborted) throw closingError();
    const key = `${source.url} ${found.id}`;
    const entry = this.#entries.get(key) ?? this.#begin(key, source, found);
    entry.clients += 1;
    entry.cancelClosing();
    try {
      const { name, store, device } = await entry.opening;
      let isOpen = true;
      return {
        name,
        description: `${formatSize(device.sizeBytes)} in ${store}`,
        device,
        close: () => {
          if (isOpen) this.#leave(key, entry);
          isOpen = false;
          return Promise.resolve();
        },
      };
    } catch (error) {
      this.#leave(key, entry);
      throw error;
    }
  }

  /** A snapshot that was just made is there as soon as the store has all of it. */
  async #whenCompleted(
    source: VolumeSource,
    volume: string,
    version: string,
  ): Promise<VolumeVersion> {
    const { signal } = this.#closing;
    const untilMs = this.#clock.monotonicMs() + patienceMs;
    for (;;) {
      const found = await source.findVersion(volume, version);
      if (found.isCompleted) return found;
      if (signal.aborted) throw closingError();
      if (this.#clock.monotonicMs() >= untilMs) throw pendingError(found.name);
      await sleep(this.#clock, askEveryMs, signal);
    }
  }

  #begin(key: string, source: VolumeSource, version: VolumeVersion): Entry {
    const { name } = version;
    const opening = version.open().then((volume) => {
      entry.opened = {
        name,
        store: source.url,
        volume,
        device: new MeteredDevice(volume, this.#clock),
      };
      return entry.opened;
    });
    const entry: Entry = { opening, opened: undefined, clients: 0, cancelClosing: () => undefined };
    this.#entries.set(key, entry);
    // The next who asks tries again.
    opening.catch(() => this.#forget(key, entry));
    return entry;
  }

  #leave(key: string, entry: Entry): void {
    entry.clients -= 1;
    if (entry.clients > 0 || this.#entries.get(key) !== entry) return;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    entry.cancelClosing = this.#clock.after(idleMs, () => this.#close(key, entry));
    const idle = [...this.#entries].filter(([, { clients }]) => clients === 0);
    for (const [each, oldest] of idle.slice(0, -idleMaximum)) this.#close(each, oldest);
  }

  #close(key: string, entry: Entry): void {
    this.#forget(key, entry);
    entry.cancelClosing();
    // Who reads only has nothing that could fail to be written.
    entry.opening.then(({ volume }) => volume.close()).catch(() => undefined);
  }

  #forget(key: string, entry: Entry): void {
    if (this.#entries.get(key) === entry) this.#entries.delete(key);
  }

  /** What is open now, by name. */
  states(): VolumeState[] {
    return [...this.#entries.values()]
      .flatMap(({ opened, clients }) => {
        if (opened === undefined) return [];
        const { name, store, volume, device } = opened;
        return [{ name, store, volume, clients, requests: device.statistics() }];
      })
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Closes all; clients must have left. */
  close(): void {
    this.#closing.abort();
    for (const [key, entry] of this.#entries) this.#close(key, entry);
  }
}

function pendingError(name: string): StorageError {
  return new StorageError(
    'conflict',
    `${name} is not completed yet: not all of it is in the store; ask again later`,
  );
}

function closingError(): StorageError {
  return new StorageError('shutting-down', 'the daemon is shutting down');
}
