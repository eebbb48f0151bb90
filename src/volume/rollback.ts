import { StorageError } from '../base/errors.ts';
import { bytesToHex } from '../format/binary.ts';
import { encodeCheckpoint } from '../format/checkpoint-object.ts';
import type { Manifest } from '../format/manifest.ts';
import { type CheckpointPosition, checkpointKey } from '../format/names.ts';
import type { Snapshot } from '../format/snapshot.ts';
import { requireOneLineage } from './manifest-change.ts';
import { PageTable } from './page-table.ts';
import { cutOff, turned } from './retention.ts';
import { addSnapshot, type Cut, findSnapshot, freeName } from './snapshot-changes.ts';
import { untilDone } from './until-done.ts';
import type { VolumeParts } from './volume-parts.ts';

export interface RolledBack {
  /** What the volume is again. */
  readonly to: Snapshot;
  /** What it was until then. */
  readonly before: Snapshot;
}

type Parts = Pick<
  VolumeParts,
  'store' | 'clock' | 'random' | 'log' | 'settings' | 'times' | 'ownership'
>;

/**
 * Makes a volume what it was at a snapshot. All of its log, up to segment `last`, is in its checkpoint,
 * and nobody writes to it. The snapshot's page table is stored again, as one that the log can go on
 * from; then one change of the manifest makes a snapshot of the present and the head that table.
 */
export async function rollBack(
  parts: Parts,
  last: number,
  nameOrId: string,
  name?: string,
): Promise<RolledBack> {
  const { ownership, clock, random, times } = parts;
  const { manifest } = ownership;
  const to = findSnapshot(manifest, nameOrId);
  const wallMs = clock.wallMs();
  const before: Cut = {
    id: bytesToHex(random.bytes(16)),
    name: name ?? freeName(manifest, wallMs, 'before-rollback-'),
    description: `as it was before it was rolled back to ${to.name}`,
    ...{ segment: last, sizeBytes: manifest.sizeBytes, wallMs },
  };
  const timeMs = times.nowMs();
  const head = last === 0 ? undefined : await storeAgain(parts, to, last, timeMs);
  await ownership.update((present) => {
    requireOneLineage(manifest, present);
    return rolledBack(present, to, before, head, timeMs);
  });
  const made = ownership.manifest.snapshots.find(({ id }) => id === before.id);
  if (made !== undefined) return { to, before: made };
  throw new StorageError('not-found', 'The snapshot of the present was deleted at once.');
}

/** Stores a snapshot's page table as one at the end of the log; the pages stay where they are. */
async function storeAgain(
  parts: Parts,
  to: Snapshot,
  segment: number,
  timeMs: number,
): Promise<CheckpointPosition> {
  const { store, ownership } = parts;
  const { manifest } = ownership;
  const table = await PageTable.load(store, manifest, to.checkpoint);
  const at = { segment, epoch: ownership.epoch, variant: ownership.nextVariant() };
  const object = encodeCheckpoint(manifest.id, at, table.references(), timeMs);
  const key = checkpointKey(manifest.id, at);
  await untilDone(
    parts,
    key,
    () => ownership.ending,
    () => store.put(key, [object]),
  );
  return at;
}

function rolledBack(
  manifest: Manifest,
  { id, name }: Snapshot,
  before: Cut,
  head: CheckpointPosition | undefined,
  timeMs: number,
): Manifest {
  if (manifest.snapshots.some((snapshot) => snapshot.id === before.id)) return manifest;
  // What its table refers to is kept by nothing else.
  const to = manifest.snapshots.find((snapshot) => snapshot.id === id);
  if (to === undefined) {
    const message = `Snapshot ${manifest.name}@${name} was deleted while the volume was being rolled back to it.`;
    throw new StorageError('not-found', message);
  }
  const { sizeBytes } = to;
  const named = addSnapshot(manifest, before);
  // Whoever goes back to before this finds the size that the volume had.
  const sized =
    sizeBytes < manifest.sizeBytes ? cutOff(named, sizeBytes, timeMs) : { ...named, sizeBytes };
  return turned({ ...sized, head }, head, before.segment, timeMs);
}
