import { bytesToHex } from '../format/binary.ts';
import { isBeingDeleted, lastClosedSegment, type Manifest } from '../format/manifest.ts';
import type { Snapshot } from '../format/snapshot.ts';
import type { PinContext } from './clone-pins.ts';
import { changeManifest } from './manifest-change.ts';
import { addSnapshot, requireSnapshotWish, type SnapshotWish } from './snapshot-changes.ts';

/**
 * Makes a snapshot of a volume that was given up in order, in one change of its manifest and from any
 * host: it is completed at once, for all that there is is in the checkpoint. `undefined` when that is
 * not so, and it takes a writer.
 */
export async function snapshotAtRest(
  context: PinContext,
  volumeId: string,
  wish: SnapshotWish,
): Promise<Snapshot | undefined> {
  requireSnapshotWish(wish);
  if (wish.asOf !== undefined) return undefined;
  const id = bytesToHex(context.random.bytes(16));
  const wallMs = context.clock.wallMs();
  const manifest = await changeManifest(context, volumeId, (present) => {
    if (!isAtRest(present)) return present;
    const segment = lastClosedSegment(present);
    return addSnapshot(present, { ...wish, id, segment, sizeBytes: present.sizeBytes, wallMs });
  });
  return manifest.snapshots.find((snapshot) => snapshot.id === id);
}

/** Nobody has the volume, or left a journal, and the checkpoint is the end of the log. */
function isAtRest(manifest: Manifest): boolean {
  const { writer, epoch, closedThrough, head } = manifest;
  const isGivenUp = writer === undefined && closedThrough === epoch && !isBeingDeleted(manifest);
  return isGivenUp && (head?.segment ?? 0) === lastClosedSegment(manifest);
}
