import type { BlockDevice } from '../base/block-device.ts';
import { isStorageError, StorageError, toStorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { formatSize } from '../base/quantity.ts';
import type { AttachedVolume, VolumeSource, VolumeSummary } from './volume-source.ts';

/** A volume that a client may ask for. */
export interface OfferedVolume {
  readonly name: string;
  readonly description: string;
}

/** A volume that a client uses; `close` says that it does no more. */
export interface OpenVolume extends OfferedVolume {
  readonly device: BlockDevice;
  close(): Promise<void>;
}

export interface VolumeState {
  readonly name: string;
  readonly store: string;
  readonly volume: AttachedVolume;
  readonly clients: number;
}

export interface VolumeCatalogOptions {
  readonly sources: readonly VolumeSource[];
  /** What the empty export name means where there is more than one volume. */
  readonly defaultVolume: string | undefined;
  readonly log: Log;
}

interface Attachment {
  readonly store: string;
  readonly volume: AttachedVolume;
  clients: number;
}

/**
 * The volumes of all stores under their names. One is attached when its first client asks, once
 * however many ask, and stays attached until the daemon stops.
 */
export class VolumeCatalog {
  readonly #options: VolumeCatalogOptions;
  readonly #attachments = new Map<string, Promise<Attachment>>();
  readonly #attached = new Map<string, Attachment>();
  #closing = false;

  constructor(options: VolumeCatalogOptions) {
    this.#options = options;
  }

  /** All volumes, in the order of their names. A store that does not answer is logged. */
  async list(): Promise<OfferedVolume[]> {
    const { sources, log } = this.#options;
    const offered = new Map<string, OfferedVolume>();
    const lists = sources.map(async (source) => {
      try {
        for (const volume of await source.list()) {
          offered.set(volume.name, {
            name: volume.name,
            description: describe(volume.sizeBytes, source.url),
          });
        }
      } catch (error) {
        const { code, message } = toStorageError(error);
        log.warn('a store did not list its volumes', { store: source.url, code, reason: message });
      }
    });
    await Promise.all(lists);
    return [...offered.values()].sort(byName);
  }

  /** The volume of that name, attached; the empty name is the default volume. */
  async open(name: string): Promise<OpenVolume> {
    let wanted = name;
    let attachment: Attachment;
    try {
      if (name === '') wanted = await this.#defaultName();
      attachment = await this.#attach(wanted);
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
      device: attachment.volume,
      close() {
        if (open) attachment.clients -= 1;
        open = false;
        return Promise.resolve();
      },
    };
  }

  /** What is attached now, by name. */
  attached(): VolumeState[] {
    return [...this.#attached.entries()]
      .map(([name, { store, volume, clients }]) => ({ name, store, volume, clients }))
      .sort(byName);
  }

  /**
   * Gives every volume up, all at once, and attaches none from now on. Rejects with the first
   * failure when all are done; what could not be uploaded is in the journal.
   */
  async close(): Promise<void> {
    this.#closing = true;
    await Promise.allSettled(this.#attachments.values());
    const closed = await Promise.allSettled(
      this.attached().map(async ({ name, volume }) => {
        await volume.close();
        this.#forget(name);
        this.#options.log.info('volume given up', { volume: name });
      }),
    );
    const failed = closed.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw toStorageError(failed.reason);
  }

  #forget(name: string): void {
    this.#attachments.delete(name);
    this.#attached.delete(name);
  }

  async #attach(name: string): Promise<Attachment> {
    if (this.#closing) throw new StorageError('shutting-down', 'the daemon is shutting down');
    const present = this.#attached.get(name);
    // Another host took it: the next client, when there is no other, gets a fresh attempt at it.
    const stale = present?.volume.ended === true && present.clients === 0 ? present : undefined;
    const pending = this.#attachments.get(name);
    if (pending !== undefined && stale === undefined) return pending;
    this.#attached.delete(name);
    const attaching = this.#attachNow(name, stale?.volume);
    this.#attachments.set(name, attaching);
    try {
      return await attaching;
    } catch (error) {
      this.#attachments.delete(name);
      throw error;
    }
  }

  async #attachNow(name: string, stale: AttachedVolume | undefined): Promise<Attachment> {
    await stale?.abandon();
    const source = await this.#sourceOf(name);
    const volume = await source.attach(name);
    const attachment = { store: source.url, volume, clients: 0 };
    this.#attached.set(name, attachment);
    return attachment;
  }

  /**
   * The one store that has the volume. Every store must answer: with one silent, a volume of the
   * same name there could be the one that the client means.
   */
  async #sourceOf(name: string): Promise<VolumeSource> {
    const holders = await Promise.all(
      this.#options.sources.map(async (source) => ((await has(source, name)) ? [source] : [])),
    );
    const [first, second] = holders.flat();
    if (first === undefined) throw new StorageError('not-found', `there is no volume "${name}"`);
    if (second === undefined) return first;
    throw new StorageError(
      'conflict',
      `two stores have a volume "${name}", ${first.url} and ${second.url}: serve them from two daemons`,
    );
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

async function has(source: VolumeSource, name: string): Promise<boolean> {
  try {
    await source.find(name);
    return true;
  } catch (error) {
    if (isStorageError(error, 'not-found') || isStorageError(error, 'usage')) return false;
    throw error;
  }
}

function describe(sizeBytes: number, storeUrl: string): string {
  return `${formatSize(sizeBytes)} in ${storeUrl}`;
}

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : 1;
}
