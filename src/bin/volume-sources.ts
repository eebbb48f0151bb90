import { availableParallelism, hostname } from 'node:os';
import { type Clock, isoTime } from '../base/clock.ts';
import { parseMoment } from '../base/moment.ts';
import { findStoredMoment, openMoment, type OpenMomentOptions } from '../volume/moment-reader.ts';
import { StorageError } from '../base/errors.ts';
import type { LocalDisk } from '../base/local-disk.ts';
import type { Random } from '../base/random.ts';
import type { Settings } from '../cli/configuration/keys.ts';
import type { SourceRequest } from '../cli/drivers.ts';
import type { Manifest } from '../format/manifest.ts';
import { formatVersionName } from '../format/version-name.ts';
import type { VolumeSource, VolumeSummary, VolumeVersion } from '../host/volume-source.ts';
import { StoreTrust } from '../host/store-trust.ts';
import { createLocalDisk } from '../store/local-disk.ts';
import { findVolume, listVolumes } from '../volume/catalog.ts';
import type { EngineWorkers } from '../volume/engine-workers.ts';
import { openVolume } from '../volume/open-volume.ts';
import { growDetached } from '../volume/resize.ts';
import { SnapshotReader, VersionMemory } from '../volume/snapshot-reader.ts';
import { findSnapshot } from '../volume/snapshot-changes.ts';
import { openReadOnly } from '../volume/read-only-volume.ts';
import { defaultVolumeSettings, type VolumeSettings } from '../volume/settings.ts';
import { createEngineThreads } from './engine-threads.ts';

/** The most threads that pack segments; packing shares the machine with answering. */
const engineThreadsMaximum = 4;
const writerIdFile = 'writer-id';
const writerIdBytes = 16;

/** What all volumes of a state directory share. */
interface LocalParts {
  readonly disk: LocalDisk;
  readonly workers: EngineWorkers;
  readonly writerId: Promise<string>;
  readonly versionMemory: VersionMemory;
}

/** Makes stores into sources of volumes that are attached on this machine. */
export function volumeSources(
  clock: Clock,
  random: Random,
): (request: SourceRequest) => VolumeSource {
  const byStateDirectory = new Map<string, LocalParts>();
  const partsOf = ({ stateDirectory, snapshotCacheBytes }: SourceRequest): LocalParts => {
    const present = byStateDirectory.get(stateDirectory);
    if (present !== undefined) return present;
    const disk = createLocalDisk(stateDirectory);
    // Packing takes turns with answering: it gets half of the processors.
    const half = Math.max(1, Math.floor(availableParallelism() / 2));
    const threadCount = Math.min(half, engineThreadsMaximum);
    const workers = createEngineThreads(stateDirectory, threadCount);
    const versionMemory = new VersionMemory(snapshotCacheBytes);
    const parts = { disk, workers, writerId: writerIdOf(disk, random), versionMemory };
    // Whoever attaches hears of a failure; until then it is no unhandled rejection.
    parts.writerId.catch(() => undefined);
    byStateDirectory.set(stateDirectory, parts);
    return parts;
  };
  return (request) => {
    const { endpoint, settingsOf, log } = request;
    const { store, statistics } = request.opened;
    const { disk, workers, writerId, versionMemory } = partsOf(request);
    const snapshots = new SnapshotReader({ store, clock, memory: versionMemory });
    const trust = new StoreTrust({ store, endpoint, disk, clock, random, log });
    return {
      url: store.url,
      statistics,
      async list() {
        const onDamaged = (volume: string, { code, message }: StorageError): void => {
          log.error('a volume cannot be served', { volume, code, reason: message });
        };
        const [manifests, ownId] = await Promise.all([listVolumes(store, onDamaged), writerId]);
        return manifests.map((manifest) => summaryOf(manifest, ownId));
      },
      find: async (name) => summaryOf(await findVolume(store, name), await writerId),
      async findVersion(volume, version) {
        const manifest = await findVolume(store, volume);
        const timeMs = parseMoment(version);
        if (timeMs !== undefined) {
          const settings = volumeSettings(settingsOf(volume));
          const options = { store, clock, settings, memory: versionMemory };
          return versionAsOf(options, manifest, timeMs);
        }
        const snapshot = findSnapshot(manifest, version);
        const settings = volumeSettings(settingsOf(volume));
        return {
          id: snapshot.id,
          name: formatVersionName({ volume, version: snapshot.name }),
          isCompleted: snapshot.isCompleted,
          open: () => snapshots.open(manifest, snapshot, settings),
        };
      },
      async attach(name, options) {
        const chosen = settingsOf(name);
        const settings = volumeSettings(chosen);
        const distrust = chosen.unsafe_single_writer ? undefined : await trust.judge();
        if (distrust !== undefined) {
          log.warn('volume attached for reading only', { volume: name, reason: distrust });
          return openReadOnly({ store, clock, name, settings, reason: `read-only: ${distrust}` });
        }
        return openVolume({
          store,
          disk,
          workers,
          clock,
          random,
          log,
          name,
          settings,
          pages: versionMemory.pages,
          writerId: await writerId,
          host: hostname(),
          ...options,
        });
      },
      async grow(name, sizeBytes) {
        const distrust = settingsOf(name).unsafe_single_writer ? undefined : await trust.judge();
        if (distrust !== undefined) throw new StorageError('read-only', distrust);
        return growDetached({ store, random, name, writerId: await writerId }, sizeBytes);
      },
      async close() {
        await workers.close();
        await store.close();
      },
    };
  };
}

/** A volume as of a time, which is open as long as somebody reads it. */
async function versionAsOf(
  options: OpenMomentOptions,
  manifest: Manifest,
  timeMs: number,
): Promise<VolumeVersion> {
  // Whoever cannot have it is told so before he has anything.
  const moment = await findStoredMoment(options, manifest, { timeMs, flushed: false });
  return {
    id: `${manifest.id}@${timeMs}`,
    name: formatVersionName({ volume: manifest.name, version: isoTime(timeMs) }),
    isCompleted: true,
    open: () => openMoment(options, moment, timeMs),
  };
}

function summaryOf(manifest: Manifest, ownId: string): VolumeSummary {
  const { id, name, sizeBytes, writer, snapshots } = manifest;
  const holder = writer?.id === ownId ? undefined : writer?.host;
  return { id, name, sizeBytes, holder, snapshots };
}

/** Names the state directory for good, so that it can go on with a volume that it holds. */
async function writerIdOf(disk: LocalDisk, random: Random): Promise<string> {
  const known = await disk.readFile(writerIdFile);
  if (known !== undefined) return Buffer.from(known).toString().trim();
  const made = Buffer.from(random.bytes(writerIdBytes)).toString('hex');
  await disk.replaceFile(writerIdFile, Buffer.from(`${made}\n`));
  return made;
}

function volumeSettings(settings: Settings): VolumeSettings {
  return {
    ...defaultVolumeSettings,
    cacheBytes: settings['cache.memory'],
    diskCacheBytes: settings['cache.disk'],
    journalBytes: settings['journal.size'],
    uploadIntervalMs: settings['upload.interval'],
    putConcurrency: settings['upload.concurrency'],
    getConcurrency: settings['read.concurrency'],
    readaheadBytes: settings['read.ahead'],
    leaseMs: settings['lease.time'],
    scrubIntervalMs: settings['scrub.interval'],
    scrubBytesPerSecond: settings['scrub.rate'],
    space: {
      ...defaultVolumeSettings.space,
      bytesPerSecond: settings['compaction.rate'],
      graceMs: settings['compaction.grace'],
    },
    durability: settings.durability,
    writesAnswered: settings['writes.answered'],
  };
}
