import type { Snapshot } from '../format/snapshot.ts';
import type { SnapshotWish } from '../volume/snapshot-changes.ts';
import { readOnlyError, withAttached } from './resizing.ts';
import type { AttachedVolume, VolumeSource } from './volume-source.ts';

/** Makes a snapshot of an attached volume; `waits`: resolves when it is completed. */
export async function makeSnapshot(
  volume: AttachedVolume,
  wish: SnapshotWish,
  waits: boolean,
): Promise<Snapshot> {
  const made = await volume.createSnapshot?.(wish);
  if (made === undefined) throw readOnlyError(volume.name);
  return waits ? ((await volume.whenSnapshotCompleted?.(made.id)) ?? made) : made;
}

/** Makes a completed one of a volume that this daemon, or this machine without one, does not serve. */
export function makeSnapshotDetached(
  source: VolumeSource,
  name: string,
  wish: SnapshotWish,
): Promise<Snapshot> {
  return withAttached(source, name, (volume) => makeSnapshot(volume, wish, true));
}
