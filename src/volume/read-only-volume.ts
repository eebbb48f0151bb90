import type { BlockDevice, Done, Extent } from '../base/block-device.ts';
import type { Clock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { blockBytes } from '../format/geometry.ts';
import { epochOfSegment } from '../format/manifest.ts';
import { loadStoredTail } from './attach.ts';
import { BlockMap } from './block-map.ts';
import { findVolumeId } from './catalog.ts';
import { FrameReader } from './frame-reader.ts';
import { blockMemory, replay } from './live-blocks.ts';
import { closeEpoch, loadManifest } from './ownership.ts';
import { PageTable } from './page-table.ts';
import { PlacementTable } from './placement-table.ts';
import { StoredPlaces } from './segment-places.ts';
import type { VolumeSettings } from './settings.ts';
import { nothingWritten, type VolumeStatistics } from './statistics.ts';
import { VolumeReader } from './volume-reader.ts';

export interface OpenReadOnlyOptions {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly name: string;
  readonly settings: VolumeSettings;
  /** Why it is not opened for writing: a sentence for people. */
  readonly reason: string;
}

/**
 * Opens a volume as the store has it now, the unbroken log after the checkpoint included. Nothing is
 * taken and nothing written: whoever has the volume goes on, and this stays as it was.
 */
export async function openReadOnly(options: OpenReadOnlyOptions): Promise<ReadOnlyVolume> {
  const { store, clock, name, settings } = options;
  const startedMs = clock.monotonicMs();
  const { manifest } = await loadManifest(store, await findVolumeId(store, name));
  const tail = await loadStoredTail(store, manifest, settings.getConcurrency);
  // As one who attaches would close the epochs; here it only says whose the last segments are.
  const view = closeEpoch(manifest, manifest.epoch, tail.lastSegment, tail.openEpoch);
  const table = await PageTable.load(store, manifest, manifest.head);
  const map = new BlockMap((pageIndex) => table.has(pageIndex));
  for (const segment of tail.segments) replay(map, segment.segment, segment.entries);
  const { cache, memory } = blockMemory(map, settings);
  const frames = new FrameReader({
    store,
    clock,
    diskCache: undefined,
    journaled: new Map(),
    places: new StoredPlaces({
      store,
      lineage: () => manifest,
      placement: await PlacementTable.load(store, manifest.id, manifest.placement),
      isChangedByOthers: true,
      epochOf: (segment) => epochOfSegment(view, segment),
    }),
  });
  const reader = new VolumeReader({
    volume: manifest.name,
    sizeBytes: () => manifest.sizeBytes,
    map,
    memory,
    cache,
    frames,
    readaheadBytes: Math.min(settings.readaheadBytes, Math.floor(settings.cacheBytes / 4)),
    readPage: (pageIndex) => table.readPage(pageIndex),
  });
  const attachment = {
    tookMs: clock.monotonicMs() - startedMs,
    storedTailSegments: tail.segments.length,
    recoveredSegments: 0,
    recoveredBytes: 0,
  };
  const statistics = (): VolumeStatistics => ({
    ...nothingWritten,
    epoch: manifest.epoch,
    durability: manifest.durability,
    cacheBytes: cache.memoryBytes,
    cacheHits: cache.hits,
    cacheMisses: cache.misses,
    storeReads: frames.storeReads,
    mapBytes: map.memoryBytes,
    attachment,
    failure: options.reason,
  });
  return new ReadOnlyVolume(name, manifest.sizeBytes, reader, statistics);
}

/** What `openReadOnly` gives: every request that would change something is refused. */
export class ReadOnlyVolume implements BlockDevice {
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly = true;
  readonly ended = false;
  readonly preferredBlockBytes = blockBytes;
  readonly statistics: () => VolumeStatistics;
  private readonly reader: VolumeReader;

  constructor(
    name: string,
    sizeBytes: number,
    reader: VolumeReader,
    statistics: () => VolumeStatistics,
  ) {
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.reader = reader;
    this.statistics = statistics;
  }

  read(offset: number, into: Uint8Array): Done {
    return this.reader.read(offset, into);
  }

  write(): Done {
    throw this.refusal();
  }

  zero(): Done {
    throw this.refusal();
  }

  trim(): Done {
    throw this.refusal();
  }

  private refusal(): StorageError {
    return new StorageError('read-only', `Volume ${this.name} is attached for reading only.`);
  }

  flush(): Done {
    return undefined;
  }

  prefetch(offset: number, lengthBytes: number): Done {
    return this.reader.fetch(offset, lengthBytes);
  }

  status(offset: number, lengthBytes: number, maxExtents: number): Promise<Extent[]> {
    return this.reader.status(offset, lengthBytes, maxExtents);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  abandon(): Promise<void> {
    return Promise.resolve();
  }
}
