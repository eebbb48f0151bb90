import type { Snapshot } from '../format/snapshot.ts';
import type { SnapshotWish } from '../volume/snapshot-changes.ts';
import { readOnlyError, withAttached } from './resizing.ts';
import type { AttachedVolume, VolumeSource } from './volume-source.ts';

/** Makes a snapshot of an attached volume; resolves when it is completed. */
export async function completeSnapshot(
  volume: AttachedVolume,
  wish: SnapshotWish,
): Promise<Snapshot> {
  const { id } = (await volume.createSnapshot?.(wish)) ?? {};
  const completed = id === undefined ? undefined : await volume.whenSnapshotCompleted?.(id);
  if (completed === undefined) throw readOnlyError(volume.name);
  return completed;
}

/** Likewise of a volume that this daemon, or this machine without one, does not serve. */
export function completeSnapshotDetached(
  source: VolumeSource,
  name: string,
  wish: SnapshotWish,
): Promise<Snapshot> {
  return withAttached(source, name, (volume) => completeSnapshot(volume, wish));
}
