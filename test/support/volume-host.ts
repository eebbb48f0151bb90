import { afterEach } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { type Clock, systemClock } from '../../src/base/clock.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import { seededRandom } from '../../src/base/random.ts';
import { createVolume, findVolumeId, type NewVolume } from '../../src/volume/catalog.ts';
import { inlineWorkers } from '../../src/volume/engine-workers.ts';
import { changeManifest } from '../../src/volume/manifest-change.ts';
import { withRetention } from '../../src/volume/retention.ts';
import { openVolume, type OpenVolumeOptions } from '../../src/volume/open-volume.ts';
import { defaultVolumeSettings, type VolumeSettings } from '../../src/volume/settings.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { MemoryDisk } from './memory-disk.ts';
import { requireWatchedSound, watchStore } from './sound-stores.ts';

/** Small enough that a test meets every limit soon. */
export const smallSettings: VolumeSettings = {
  ...defaultVolumeSettings,
  cacheBytes: 2 ** 20,
  segmentBuffers: 2,
  diskCacheBytes: 4 * 2 ** 20,
  journalBytes: 64 * 2 ** 20,
  uploadIntervalMs: 20,
  checkpointSegments: 3,
  checkpointIdleMs: 50,
  retryMinimumMs: 1,
  retryMaximumMs: 5,
};

/** Whatever a test does with volumes, it must leave them sound, or say that it harms the store. */
afterEach(requireWatchedSound);

let lastHost = 0;

/** A host of a test: a local disk and an identity; several may share a store. */
export class VolumeHost {
  readonly store: ObjectStore;
  readonly disk = new MemoryDisk();
  readonly name: string;
  readonly settings: VolumeSettings;
  readonly random;
  private readonly clock: Clock;

  constructor(
    store: ObjectStore,
    settings: Partial<VolumeSettings> = {},
    seed = 1,
    clock: Clock = systemClock,
  ) {
    this.store = store;
    watchStore(store);
    this.clock = clock;
    this.settings = { ...smallSettings, ...settings };
    lastHost += 1;
    this.name = `host-${lastHost}`;
    this.random = seededRandom(seed * 1000 + lastHost);
  }

  /** The same host, which reaches another store. */
  withStore(store: ObjectStore): VolumeHost {
    return Object.assign(Object.create(VolumeHost.prototype) as VolumeHost, this, { store });
  }

  /** The same host, under this name. */
  named(name: string): VolumeHost {
    return Object.assign(Object.create(VolumeHost.prototype) as VolumeHost, this, { name });
  }

  async create(volume: NewVolume): Promise<void> {
    await createVolume(this.store, volume, { clock: this.clock, random: this.random });
  }

  async setRetention(name: string, retainMs: number): Promise<void> {
    const id = await findVolumeId(this.store, name);
    await changeManifest(this, id, (manifest) => withRetention(manifest, retainMs));
  }

  open(
    name: string,
    options: Pick<OpenVolumeOptions, 'takeOver' | 'onWatch' | 'signal'> = {},
  ): Promise<Volume> {
    return openVolume({
      store: this.store,
      disk: this.disk,
      workers: inlineWorkers(this.disk),
      clock: this.clock,
      random: this.random,
      log: silentLog,
      name,
      settings: this.settings,
      writerId: this.name,
      host: this.name,
      ...options,
    });
  }
}

export async function readAll(volume: Volume): Promise<Uint8Array> {
  const content = new Uint8Array(volume.sizeBytes);
  await volume.read(0, content);
  return content;
}
