import { isoTime } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { formatSize } from '../base/quantity.ts';
import { bytesToHex } from '../format/binary.ts';
import {
  encodeManifest,
  encodeNameRecord,
  isBeingDeleted,
  type Manifest,
  type Tenure,
} from '../format/manifest.ts';
import { manifestKey, nameKey, requireVolumeName } from '../format/names.ts';
import type { Snapshot } from '../format/snapshot.ts';
import { findVolumeId, nameTaken, requireVolumeSize } from './catalog.ts';
import { confirmPins, pinAll, type PinContext, type Tie, unpinAll } from './clone-pins.ts';
import { findManifest, loadManifest } from './ownership.ts';
import { newEncryptionIn } from './sealing-store.ts';

/** A clone names all its ancestors, and is noted at a snapshot of each. */
const maximumGenerations = 64;

export interface CloneWish {
  readonly name: string;
  /** The volume that is cloned, and which completed snapshot of it. */
  readonly sourceId: string;
  readonly snapshotId: string;
  /** As large as the snapshot if not given; never smaller. */
  readonly sizeBytes?: number | undefined;
}

/**
 * Makes a volume that begins as a snapshot of another and is independent from then on. Nothing is
 * copied: its log goes on after the snapshot's last segment, and what is before that is read from the
 * ancestors. First the snapshots are pinned, so that they stay; then comes the manifest; then the pins are
 * looked at again, which says that they held all the time; the name last. Whoever finds what a crash has left in
 * between can tell, for nothing leads to it. `already-exists` when the name is taken.
 */
export async function cloneVolume(context: PinContext, wish: CloneWish): Promise<Manifest> {
  const { store, clock, random } = context;
  const name = await requireFreeName(store, wish.name);
  const before = (await loadManifest(store, wish.sourceId)).manifest;
  const sizeBytes = sizeOfClone(before, snapshotOf(before, wish.snapshotId), wish.sizeBytes);
  requireFewGenerations(before);
  const id = bytesToHex(random.bytes(16));
  // Whoever has no key for it is told so before anything is changed.
  const encryption = await encryptionOfClone(store, before, { id, name });
  let ties: readonly Tie[] = [
    { volumeId: before.id, snapshotId: wish.snapshotId },
    ...before.ancestors,
  ];
  let manifest: Manifest;
  try {
    const [source = before] = await pinAll(context, ties, id);
    manifest = manifestOfClone(source, snapshotOf(source, wish.snapshotId), {
      ...{ id, name, sizeBytes },
      createdAt: isoTime(clock.wallMs()),
      nonce: bytesToHex(random.bytes(16)),
      ...encryption,
    });
    // The source may have been flattened since it was looked at.
    const needed = new Set(manifest.ancestors.map(({ snapshotId }) => snapshotId));
    const unneeded = ties.filter(({ snapshotId }) => !needed.has(snapshotId));
    await unpinAll(context, unneeded, id);
    ties = ties.filter(({ snapshotId }) => needed.has(snapshotId));
    await store.swap(manifestKey(id), undefined, encodeManifest(manifest));
    await confirmPins(context, ties, id);
    const version = await store.swap(nameKey(name), undefined, encodeNameRecord(id));
    if (version === undefined && (await findVolumeId(store, name)) !== id)
      throw nameTaken(store, name);
  } catch (error) {
    if (!isDecided(error)) throw error;
    await store.remove(manifestKey(id));
    await unpinAll(context, ties, id);
    throw error;
  }
  await requireKept(context, manifest);
  return manifest;
}

/** That no volume is called so; `already-exists` when one is. */
export async function requireFreeName(store: ObjectStore, wanted: string): Promise<string> {
  const name = requireVolumeName(wanted);
  if ((await store.load(nameKey(name))) !== undefined) throw nameTaken(store, name);
  return name;
}

/** Errors after which nothing of the clone can come about any more: the store said no. */
function isDecided(error: unknown): boolean {
  return (
    error instanceof StorageError && ['already-exists', 'conflict', 'no-space'].includes(error.code)
  );
}

/** Whoever swept it as never finished did so for good, unless he saw the name in time. */
async function requireKept({ store }: PinContext, { id, name }: Manifest): Promise<void> {
  const found = await findManifest(store, id);
  if (found !== undefined && !isBeingDeleted(found.manifest)) return;
  await store.remove(nameKey(name));
  const message = `Making the clone ${name} took so long that it was given up for lost; try again.`;
  throw new StorageError('conflict', message);
}

function snapshotOf({ name, snapshots }: Manifest, snapshotId: string): Snapshot {
  const snapshot = snapshots.find(({ id }) => id === snapshotId);
  if (snapshot !== undefined) return snapshot;
  throw new StorageError('not-found', `Volume ${name} has no snapshot ${snapshotId} any more.`);
}

function sizeOfClone(source: Manifest, snapshot: Snapshot, wanted = snapshot.sizeBytes): number {
  requireVolumeSize(wanted);
  if (wanted >= snapshot.sizeBytes) return wanted;
  throw new StorageError(
    'usage',
    `A clone of ${source.name}@${snapshot.name} has at least its size, ${formatSize(snapshot.sizeBytes)}.`,
  );
}

function requireFewGenerations({ name, ancestors }: Manifest): void {
  if (ancestors.length < maximumGenerations) return;
  throw new StorageError(
    'unsupported',
    `Volume ${name} is a clone in the ${maximumGenerations}th generation, which is the last: "elasticdrive volume flatten ${name}" makes it the first again.`,
  );
}

/**
 * A clone has a data key of its own, wrapped by the same key as its source's. Those of its ancestors
 * are in their own manifests, which are there as long as it is.
 */
async function encryptionOfClone(
  store: ObjectStore,
  { encryption }: Manifest,
  clone: Pick<Manifest, 'id' | 'name'>,
): Promise<Pick<Manifest, 'encryption'>> {
  if (encryption === undefined) return {};
  const { cipher, keys } = encryption;
  const sameKeyAs = keys.at(-1)?.wrapped;
  return { encryption: await newEncryptionIn(store, clone, { cipher, sameKeyAs }) };
}

type OwnFields = Pick<Manifest, 'id' | 'name' | 'sizeBytes' | 'createdAt' | 'nonce' | 'encryption'>;

/** The manifest of a clone as it is born; `source` as it was when its snapshot had the clone's pin. */
export function manifestOfClone(source: Manifest, snapshot: Snapshot, own: OwnFields): Manifest {
  const { epoch } = source;
  return {
    ...own,
    codec: source.codec,
    durability: source.durability,
    // Its own epochs are above those of all that it reads.
    epoch,
    closedThrough: epoch,
    tenures: tenuresThrough(source, snapshot),
    writer: undefined,
    head: snapshot.checkpoint,
    ancestors: [
      ...source.ancestors,
      {
        ...{ volumeId: source.id, snapshotId: snapshot.id },
        ...{ lastSegment: snapshot.segment, lastEpoch: epoch },
      },
    ],
    placement: undefined,
    snapshots: [],
  };
}

/** Which epochs wrote the segments that a snapshot holds. */
function tenuresThrough({ tenures }: Manifest, { segment, checkpoint }: Snapshot): Tenure[] {
  const kept: Tenure[] = [];
  let last = 0;
  for (const tenure of tenures) {
    if (last >= segment) return kept;
    last = Math.min(tenure.lastSegment, segment);
    kept.push({ epoch: tenure.epoch, lastSegment: last });
  }
  // What is past the closed tenures is that writer's own who made the checkpoint: he had closed all others.
  if (last < segment && checkpoint !== undefined)
    kept.push({ epoch: checkpoint.epoch, lastSegment: segment });
  return kept;
}
