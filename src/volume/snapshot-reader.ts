import type { Changes } from '../base/block-device.ts';
import type { Clock } from '../base/clock.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { lastClosedSegment, type Manifest } from '../format/manifest.ts';
import type { Snapshot } from '../format/snapshot.ts';
import { formatVersionName } from '../format/version-name.ts';
import type { FrameReader } from './frame-reader.ts';
import { VersionChanges } from './map-difference.ts';
import { StoredVersion } from './map-version.ts';
import { closeEpoch, loadManifest } from './ownership.ts';
import { PageCache } from './page-cache.ts';
import { PlacementTable } from './placement-table.ts';
import { ReadOnlyVolume, storedFrames } from './read-only-volume.ts';
import { SharedBlocks } from './shared-blocks.ts';
import { completedNames, snapshotTable, snapshotVersion } from './stored-version.ts';
import { nothingWritten, type VolumeStatistics } from './statistics.ts';
import { StoredMap } from './stored-map.ts';
import type { VolumeSettings } from './settings.ts';
import { VolumeReader } from './volume-reader.ts';

/** Of the memory for versions so much is for their maps. */
const pagesShare = 0.25;

/** The memory that all versions which are read on a host share, however many they are. */
export class VersionMemory {
  readonly blocks: SharedBlocks;
  readonly pages: PageCache;
  readonly maximumBytes: number;

  constructor(maximumBytes: number) {
    this.maximumBytes = maximumBytes;
    this.blocks = new SharedBlocks(Math.floor(maximumBytes * (1 - pagesShare)));
    this.pages = new PageCache(Math.floor(maximumBytes * pagesShare));
  }
}

export interface SnapshotReaderContext {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly memory: VersionMemory;
}

/** What all open snapshots of one volume read with. */
interface VolumeAccess {
  readonly frames: FrameReader;
  /** The newest manifest that was seen, which knows the epochs of all segments in it. */
  view: Manifest;
  users: number;
}

/**
 * Opens snapshots for reading, from the store alone: whoever has the volume goes on, and nothing is
 * taken from it. Snapshots of one volume share what they fetch with.
 */
export class SnapshotReader {
  private readonly context: SnapshotReaderContext;
  private readonly accesses = new Map<string, VolumeAccess>();

  constructor(context: SnapshotReaderContext) {
    this.context = context;
  }

  /** A completed snapshot of the volume whose manifest this is. */
  async open(
    manifest: Manifest,
    snapshot: Snapshot,
    settings: Pick<VolumeSettings, 'readaheadBytes'>,
  ): Promise<ReadOnlyVolume> {
    const { store, clock, memory } = this.context;
    const startedMs = clock.monotonicMs();
    const table = await snapshotTable(store, manifest, snapshot);
    const access = await this.enter(manifest);
    const blocks = memory.blocks.open(`${store.url} ${manifest.id}`);
    const name = formatVersionName({ volume: manifest.name, version: snapshot.name });
    const reader = new VolumeReader({
      volume: name,
      sizeBytes: () => snapshot.sizeBytes,
      map: new StoredMap(table, memory.pages),
      memory: { find: () => undefined },
      cache: blocks,
      frames: access.frames,
      // A client that copies reads at several places at once: what is read ahead must not push itself out.
      readaheadBytes: Math.min(settings.readaheadBytes, Math.floor(memory.maximumBytes / 8)),
      readPage: (pageIndex) => memory.pages.load(table, pageIndex),
    });
    const tookMs = clock.monotonicMs() - startedMs;
    const statistics = (): VolumeStatistics => ({
      ...nothingWritten,
      epoch: manifest.epoch,
      durability: manifest.durability,
      // What they share is counted once, for all of them.
      cacheBytes: 0,
      mapBytes: 0,
      cacheHits: blocks.hits,
      cacheMisses: blocks.misses,
      storeReads: access.frames.storeReads,
      attachment: { tookMs, storedTailSegments: 0, recoveredSegments: 0, recoveredBytes: 0 },
      failure: undefined,
    });
    const version = new StoredVersion(table, snapshot.sizeBytes, memory.pages);
    return new ReadOnlyVolume({
      name,
      sizeBytes: snapshot.sizeBytes,
      reader,
      statistics,
      refusal: `${name} is a snapshot, which nobody writes: clone it to go on from it.`,
      explain: (error) => this.explain(error, manifest, snapshot),
      moments: () => this.earlier(manifest.id, snapshot.id),
      changesSince: (moment) => this.changes(manifest.id, moment, version),
      onClose: () => {
        blocks.close();
        this.leave(manifest.id, access);
      },
    });
  }

  private async enter(manifest: Manifest): Promise<VolumeAccess> {
    if (!this.accesses.has(manifest.id)) {
      const made = await this.makeAccess(manifest);
      // Another may have been faster.
      if (!this.accesses.has(manifest.id)) this.accesses.set(manifest.id, made);
    }
    const access = this.accesses.get(manifest.id) as VolumeAccess;
    if (!isOlder(manifest, access.view)) access.view = closedAtHead(manifest);
    access.users += 1;
    return access;
  }

  private async makeAccess(manifest: Manifest): Promise<VolumeAccess> {
    const { store, clock } = this.context;
    const placement = await PlacementTable.load(store, manifest.id, manifest.placement);
    const access: VolumeAccess = {
      frames: storedFrames(store, clock, placement, () => access.view),
      view: manifest,
      users: 0,
    };
    return access;
  }

  private leave(volumeId: string, access: VolumeAccess): void {
    access.users -= 1;
    if (access.users === 0) this.accesses.delete(volumeId);
  }

  /** Bytes that cannot be read are no damage once the snapshot that kept them is gone. */
  private async explain(error: unknown, manifest: Manifest, snapshot: Snapshot): Promise<unknown> {
    if (!isStorageError(error, 'corrupt')) return error;
    try {
      const now = await loadManifest(this.context.store, manifest.id);
      if (now.manifest.snapshots.some(({ id }) => id === snapshot.id)) return error;
    } catch (cause) {
      // Without its manifest the volume is gone, and all of its snapshots.
      if (!isStorageError(cause, 'corrupt')) return error;
    }
    const message = `Snapshot ${snapshot.name} of volume ${manifest.name} was deleted while it was being read.`;
    return new StorageError('not-found', message, { cause: error });
  }

  /** The snapshots that were made before this one. */
  private async earlier(volumeId: string, snapshotId: string): Promise<string[]> {
    const { manifest } = await loadManifest(this.context.store, volumeId);
    const at = manifest.snapshots.findIndex(({ id }) => id === snapshotId);
    return completedNames(manifest.snapshots.slice(0, Math.max(0, at)));
  }

  private async changes(
    volumeId: string,
    moment: string,
    after: StoredVersion,
  ): Promise<Changes | undefined> {
    const { store, clock, memory } = this.context;
    const { manifest } = await loadManifest(store, volumeId);
    if (!completedNames(manifest.snapshots).includes(moment)) return undefined;
    const before = await snapshotVersion(store, manifest, moment, memory.pages);
    return new VersionChanges(clock, before, after);
  }
}

function isOlder(manifest: Manifest, than: Manifest): boolean {
  if (manifest.epoch !== than.epoch) return manifest.epoch < than.epoch;
  return (manifest.head?.segment ?? 0) < (than.head?.segment ?? 0);
}

/**
 * The manifest as one who attaches would close its epochs, as far as the checkpoint goes: what is past
 * the last tenure and in the checkpoint was written by the epoch that made it.
 */
function closedAtHead(manifest: Manifest): Manifest {
  const { head } = manifest;
  if (head === undefined || head.segment <= lastClosedSegment(manifest)) return manifest;
  return closeEpoch(manifest, manifest.epoch, head.segment, head.epoch);
}
