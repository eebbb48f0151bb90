import { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Manifest } from '../format/manifest.ts';
import type { Snapshot } from '../format/snapshot.ts';
import { nowhere } from '../format/map-page.ts';
import { loadStoredTail } from './attach.ts';
import { BlockMap } from './block-map.ts';
import type { SegmentEntries } from './fold.ts';
import { replay } from './live-blocks.ts';
import { MapPage } from './map-page.ts';
import { type MapVersion, PresentVersion, StoredVersion } from './map-version.ts';
import type { PageCache } from './page-cache.ts';
import { isMissingObject } from './object-errors.ts';
import { loadManifest } from './ownership.ts';
import { PageTable } from './page-table.ts';
import { isSameCheckpoint } from './roots.ts';
import { findSnapshot } from './snapshot-changes.ts';

/** The names of those that can be read. */
export function completedNames(snapshots: readonly Snapshot[]): string[] {
  return snapshots.filter(({ isCompleted }) => isCompleted).map(({ name }) => name);
}

/**
 * Where the map of a snapshot is stored: by this manifest, or elsewhere by the time at which it is
 * looked for, as when its volume was flattened.
 */
export async function snapshotTable(
  store: ObjectStore,
  manifest: Manifest,
  { id, checkpoint }: Snapshot,
): Promise<PageTable> {
  const elsewhere = async (): Promise<PageTable | undefined> => {
    const { manifest: now } = await loadManifest(store, manifest.id);
    const present = now.snapshots.find((snapshot) => snapshot.id === id);
    const at = present?.checkpoint;
    if (present === undefined || at === undefined || checkpoint === undefined) return undefined;
    return isSameCheckpoint(at, checkpoint) ? undefined : snapshotTable(store, now, present);
  };
  try {
    const table = await PageTable.load(store, manifest, checkpoint);
    table.elsewhere = elsewhere;
    return table;
  } catch (error) {
    const table = isMissingObject(error) ? await elsewhere() : undefined;
    if (table === undefined) throw error;
    return table;
  }
}

/** The map of a snapshot, by its name or id; `not-found` when there is none, `conflict` while it is pending. */
export async function snapshotVersion(
  store: ObjectStore,
  manifest: Manifest,
  nameOrId: string,
  pages: PageCache,
): Promise<MapVersion> {
  const snapshot = findSnapshot(manifest, nameOrId);
  if (!snapshot.isCompleted) {
    const message = `Snapshot ${manifest.name}@${snapshot.name} is not completed yet: not all of it is in the store; ask again later.`;
    throw new StorageError('conflict', message);
  }
  const table = await snapshotTable(store, manifest, snapshot);
  return new StoredVersion(table, snapshot.sizeBytes, pages);
}

/** The map of a volume as the store has it now, the unbroken log after the checkpoint included. */
export async function presentVersion(
  store: ObjectStore,
  manifest: Manifest,
  pages: PageCache,
  concurrency: number,
): Promise<MapVersion> {
  const tail = await loadStoredTail(store, manifest, concurrency);
  const table = await PageTable.load(store, manifest, manifest.head);
  return replayedVersion(table, tail.segments, manifest.sizeBytes, pages);
}

/** The map that a checkpoint and the segments after it make. */
export function replayedVersion(
  table: PageTable,
  segments: readonly SegmentEntries[],
  sizeBytes: number,
  pages: PageCache,
): MapVersion {
  const map = new BlockMap((pageIndex) => table.has(pageIndex));
  for (const { segment, entries } of segments) replay(map, segment, entries);
  return new PresentVersion({
    map,
    cache: pages,
    sizeBytes: () => sizeBytes,
    table: () => table,
    loadPage: async (pageIndex) => {
      const page = await table.readPage(pageIndex);
      map.fillUnknown(pageIndex, page ?? new MapPage(nowhere.hole));
    },
  });
}
