import { StorageError } from '../base/errors.ts';
import type { Snapshot } from '../format/snapshot.ts';
import { parseVersionName, type VersionName } from '../format/version-name.ts';
import type { SnapshotProgress } from '../volume/snapshots.ts';
import type { StoredVolume } from './volumes.ts';

/** The one argument that names a snapshot. */
export function snapshotArgument(name: string): VersionName {
  const parsed = parseVersionName(name);
  if (parsed !== undefined) return parsed;
  throw new StorageError('usage', `"${name}" names no snapshot: expected VOLUME@SNAPSHOT`);
}

/** What `--json` prints of a snapshot. */
export function snapshotData(
  { opened, manifest }: StoredVolume,
  { name, id, isCompleted, clones, ...rest }: Snapshot,
): Record<string, unknown> {
  const { segment, sizeBytes, createdAt, description, tags, holds = [] } = rest;
  return {
    ...{ volume: manifest.name, name, id, store: opened.store.url },
    ...{ state: isCompleted ? 'completed' : 'pending', segment, sizeBytes, createdAt },
    ...{ description, tags, holds, clones: clones.map(({ volumeId }) => volumeId) },
  };
}

/** `completed`, or how far it is. */
export function stateOf({ isCompleted }: Snapshot, progress: SnapshotProgress | undefined): string {
  if (isCompleted || progress === undefined) return isCompleted ? 'completed' : 'pending';
  const { segments, storedSegments } = progress;
  return `pending, ${storedSegments} of ${segments} segments in the store`;
}
