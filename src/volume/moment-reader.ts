import type { Clock } from '../base/clock.ts';
import { isoTime } from '../base/clock.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Manifest } from '../format/manifest.ts';
import { BlockMap } from './block-map.ts';
import { blockMemory, replay } from './live-blocks.ts';
import { epochsOf, findMoment, type Moment } from './moments.ts';
import type { WantedMoment } from './wanted-moment.ts';
import { findManifest } from './ownership.ts';
import { PageTable } from './page-table.ts';
import { PlacementTable } from './placement-table.ts';
import { ReadOnlyVolume, storedFrames } from './read-only-volume.ts';
import { segmentOf } from './retention.ts';
import type { VersionMemory } from './snapshot-reader.ts';
import type { VolumeSettings } from './settings.ts';
import { nothingWritten, type VolumeStatistics } from './statistics.ts';
import { VolumeReader } from './volume-reader.ts';

export interface OpenMomentOptions {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly settings: VolumeSettings;
  /** Shared with all versions that are read here; else it has as much of its own as a volume. */
  readonly memory?: VersionMemory;
}

/** Finds a moment of a volume in the store alone: `held` when its writer alone could say. */
export function findStoredMoment(
  { store, clock, settings }: OpenMomentOptions,
  manifest: Manifest,
  wanted: WantedMoment,
): Promise<Moment> {
  const nowMs = clock.wallMs();
  const concurrency = settings.getConcurrency;
  return findMoment({ store, manifest, concurrency, nowMs, storedThroughMs: 0 }, wanted);
}

/**
 * Opens a volume as of a moment, for reading. Nothing is written and nothing is pinned: it can be read
 * as long as the volume keeps that moment.
 */
export async function openMoment(
  { store, clock, settings, memory: shared }: OpenMomentOptions,
  moment: Moment,
  timeMs: number,
): Promise<ReadOnlyVolume> {
  const startedMs = clock.monotonicMs();
  const { manifest } = moment;
  const name = `${manifest.name}@${isoTime(timeMs)}`;
  const table = await PageTable.load(store, manifest, moment.base);
  const map = new BlockMap((pageIndex) => table.has(pageIndex));
  for (const { segment, entries } of moment.segments) replay(map, segment, entries);
  const part = shared?.blocks.open(`${store.url} ${manifest.id}`);
  const own = part === undefined ? blockMemory(map, settings) : undefined;
  const cacheBytes = shared?.maximumBytes ?? settings.cacheBytes;
  const placement = await PlacementTable.load(store, manifest.id, manifest.placement);
  const frames = storedFrames(store, clock, placement, () => manifest, epochsOf(moment));
  const reader = new VolumeReader({
    volume: name,
    sizeBytes: () => moment.sizeBytes,
    map,
    memory: own?.memory ?? { find: () => undefined },
    cache: part ?? (own as ReturnType<typeof blockMemory>).cache,
    frames,
    readaheadBytes: Math.min(settings.readaheadBytes, Math.floor(cacheBytes / 4)),
    readPage: (pageIndex) => table.readPage(pageIndex),
  });
  const attachment = {
    tookMs: clock.monotonicMs() - startedMs,
    storedTailSegments: moment.segments.length,
    recoveredSegments: 0,
    recoveredBytes: 0,
  };
  const statistics = (): VolumeStatistics => ({
    ...nothingWritten,
    epoch: manifest.epoch,
    durability: manifest.durability,
    // What is shared is counted once, for all.
    cacheBytes: own?.cache.memoryBytes ?? 0,
    cacheHits: (part ?? own?.cache)?.hits ?? 0,
    cacheMisses: (part ?? own?.cache)?.misses ?? 0,
    storeReads: frames.storeReads,
    mapBytes: map.memoryBytes,
    attachment,
    failure: undefined,
  });
  return new ReadOnlyVolume({
    ...{ name, sizeBytes: moment.sizeBytes, reader, statistics },
    refusal: `${name} is in the past, which nobody writes: clone it to go on from it.`,
    onClose: () => part?.close(),
    explain: (error) => explain(store, moment, { name, timeMs }, error),
  });
}

/** Bytes that cannot be read are no damage once what they were read from is no longer kept. */
async function explain(
  store: ObjectStore,
  { manifest, base }: Moment,
  { name, timeMs }: { readonly name: string; readonly timeMs: number },
  error: unknown,
): Promise<unknown> {
  if (!isStorageError(error, 'corrupt')) return error;
  const found = await findManifest(store, manifest.id).catch(() => undefined);
  const keptFrom = found?.manifest.retention?.keptFrom;
  if (found === undefined) return error;
  if (keptFrom !== undefined && segmentOf(keptFrom.checkpoint) <= segmentOf(base)) return error;
  const message =
    keptFrom !== undefined && keptFrom.timeMs < timeMs
      ? `${name} must be opened again: the map that it was opened with is no longer kept.`
      : `${name} is no longer kept.`;
  return new StorageError('not-found', message, { cause: error });
}
