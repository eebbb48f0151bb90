import type { BlockDevice, Changes, Done, Extent } from '../base/block-device.ts';
import type { Clock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { blockBytes } from '../format/geometry.ts';
import { epochOfSegment, type Manifest } from '../format/manifest.ts';
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
  const placement = await PlacementTable.load(store, manifest.id, manifest.placement);
  const frames = storedFrames(store, clock, placement, () => view);
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
  const refusal = `Volume ${name} is attached for reading only.`;
  return new ReadOnlyVolume({ name, sizeBytes: manifest.sizeBytes, reader, statistics, refusal });
}

/** Reads what the store has of a volume that others write, of whose segments the manifest tells. */
export function storedFrames(
  store: ObjectStore,
  clock: Clock,
  placement: PlacementTable,
  manifest: () => Manifest,
  epochOf = (segment: number): number => epochOfSegment(manifest(), segment),
): FrameReader {
  return new FrameReader({
    store,
    clock,
    diskCache: undefined,
    journaled: new Map(),
    places: new StoredPlaces({
      store,
      lineage: manifest,
      placement,
      isChangedByOthers: true,
      epochOf,
    }),
  });
}

export interface ReadOnlyParts {
  readonly name: string;
  readonly sizeBytes: number;
  readonly reader: VolumeReader;
  readonly statistics: () => VolumeStatistics;
  /** What whoever wants to change something is told. */
  readonly refusal: string;
  /** What is said of a failure to read; as it is when not given. */
  explain?(error: unknown): Promise<unknown>;
  /** As `BlockDevice` has them; none when not given. */
  moments?(): Promise<readonly string[]>;
  changesSince?(moment: string): Promise<Changes | undefined>;
  /** Lets go of what it read from. */
  onClose?(): void;
}

/** A volume or a version of one: every request that would change something is refused. */
export class ReadOnlyVolume implements BlockDevice {
  readonly readOnly = true;
  readonly ended = false;
  readonly preferredBlockBytes = blockBytes;
  private readonly parts: ReadOnlyParts;

  constructor(parts: ReadOnlyParts) {
    this.parts = parts;
  }

  get name(): string {
    return this.parts.name;
  }

  get sizeBytes(): number {
    return this.parts.sizeBytes;
  }

  statistics(): VolumeStatistics {
    return this.parts.statistics();
  }

  read(offset: number, into: Uint8Array): Done {
    return this.explained(this.parts.reader.read(offset, into));
  }

  private explained<T>(done: Promise<T>): Promise<T>;
  private explained(done: Done): Done;
  private explained<T>(done: Promise<T> | undefined): Promise<T> | undefined {
    const { parts } = this;
    if (done === undefined || parts.explain === undefined) return done;
    return done.catch(async (error: unknown) => {
      throw await parts.explain?.(error);
    });
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
    return new StorageError('read-only', this.parts.refusal);
  }

  flush(): Done {
    return undefined;
  }

  prefetch(offset: number, lengthBytes: number): Done {
    return this.explained(this.parts.reader.fetch(offset, lengthBytes));
  }

  status(offset: number, lengthBytes: number, maxExtents: number): Promise<Extent[]> {
    return this.explained(this.parts.reader.status(offset, lengthBytes, maxExtents));
  }

  moments(): Promise<readonly string[]> {
    return this.parts.moments?.() ?? Promise.resolve([]);
  }

  changesSince(moment: string): Promise<Changes | undefined> {
    return this.parts.changesSince?.(moment) ?? Promise.resolve(undefined);
  }

  close(): Promise<void> {
    this.parts.onClose?.();
    return Promise.resolve();
  }

  abandon(): Promise<void> {
    return this.close();
  }
}
