import { isoTime } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { bytesToHex } from '../format/binary.ts';
import type { Manifest } from '../format/manifest.ts';
import type { CheckpointPosition } from '../format/names.ts';
import type { Snapshot } from '../format/snapshot.ts';
import type { Moment } from './moments.ts';
import type { WantedMoment } from './wanted-moment.ts';
import { PageTable } from './page-table.ts';
import { segmentOf } from './retention.ts';
import { addPastSnapshot, requireSnapshotWish, type SnapshotWish } from './snapshot-changes.ts';
import { requireOneLineage } from './manifest-change.ts';
import { storeFold } from './stored-fold.ts';
import type { VolumeParts } from './volume-parts.ts';

type Parts = Pick<
  VolumeParts,
  'store' | 'clock' | 'random' | 'log' | 'settings' | 'workers' | 'ownership' | 'ending'
>;

/**
 * Makes a snapshot of a moment that was found in the volume's past: a checkpoint that is made of an
 * older one and the log after it, and then the name for it, in one change of the manifest.
 */
export async function snapshotAsOf(
  parts: Parts,
  moment: Moment,
  wanted: WantedMoment,
  wish: SnapshotWish,
): Promise<Snapshot> {
  requireSnapshotWish(wish);
  const { clock, random, ownership } = parts;
  const checkpoint = await checkpointOf(parts, moment);
  const past = {
    ...wish,
    id: bytesToHex(random.bytes(16)),
    segment: moment.segment,
    checkpoint,
    sizeBytes: moment.sizeBytes,
    wallMs: clock.wallMs(),
    timeMs: wanted.timeMs,
  };
  await ownership.update((manifest) => addPastSnapshot(stillKept(manifest, moment, wanted), past));
  const made = ownership.manifest.snapshots.find(({ id }) => id === past.id);
  if (made !== undefined) return made;
  throw new StorageError('not-found', 'The snapshot was deleted as soon as it was made.');
}

async function checkpointOf(
  parts: Parts,
  { base, segments, segment, manifest }: Moment,
): Promise<CheckpointPosition | undefined> {
  if (segments.length === 0) return base;
  const { store, ownership, ending } = parts;
  const at = { segment, epoch: ownership.epoch, variant: ownership.nextVariant() };
  const table = await PageTable.load(store, manifest, base);
  const context = { ...parts, volumeId: manifest.id };
  // It is no state that the log goes on from: it bears no time, and nobody begins with it.
  await storeFold(context, table, segments, at, 0, ending);
  return at;
}

/** What it was made of is in the store for as long as the manifest says so: that it says so still. */
function stillKept(
  manifest: Manifest,
  { base, manifest: found }: Moment,
  { timeMs }: WantedMoment,
): Manifest {
  requireOneLineage(found, manifest);
  const keptFrom = manifest.retention?.keptFrom;
  if (keptFrom !== undefined && segmentOf(keptFrom.checkpoint) <= segmentOf(base)) return manifest;
  throw new StorageError(
    'usage',
    `Volume ${manifest.name} is no longer kept as of ${isoTime(timeMs)}.`,
  );
}
