import { type Clock, isoTime, parseIsoTime } from '../base/clock.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Random } from '../base/random.ts';
import type { Ancestor } from '../format/lineage.ts';
import { isBeingDeleted, type Manifest } from '../format/manifest.ts';
import type { Snapshot } from '../format/snapshot.ts';
import { findVolumeId } from './catalog.ts';
import { inParallel } from './concurrency.ts';
import { changeManifest } from './manifest-change.ts';
import { findManifest } from './ownership.ts';

/**
 * A clone is noted at the snapshot that it was made from and at those that its ancestors were made
 * from: none of them is deleted while the note, a pin, is there. The pins come before the clone and
 * go after it, so a crash leaves at most a pin without a clone.
 */

/** A pin without a clone is as old as this before it is dropped: making one takes seconds. */
const pinGraceMs = 3_600_000;
/** All pins of a volume are in its manifest, which is written anew at each checkpoint. */
const maximumPins = 1000;
/** Since when a pin is there that is about to be dropped. */
const doubted = isoTime(0);
/** Manifests looked at or changed at once. */
const pinConcurrency = 32;
/** On a snapshot that was made to be cloned; it goes with the last clone that needs it. */
const madeForTag = 'elasticdrive.made-for';

export interface PinContext {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly random: Random;
}

/** Where a clone's pin is. */
export type Tie = Pick<Ancestor, 'volumeId' | 'snapshotId'>;

/** What a snapshot is called, and how it is known again, that is made for one clone. */
export function snapshotForClone(
  clone: string,
  random: Random,
): {
  readonly name: string;
  readonly description: string;
  readonly tags: Readonly<Record<string, string>>;
} {
  const distinct = Math.floor(random.fraction() * 2 ** 32)
    .toString(16)
    .padStart(8, '0');
  return {
    name: `clone-${clone.slice(0, 48)}-${distinct}`,
    description: `made for the clone ${clone}, kept while a clone needs it`,
    tags: { [madeForTag]: 'clone' },
  };
}

/** Notes the clone at the snapshot, anew if it is there already; returns the manifest with it. */
function pin(context: PinContext, tie: Tie, cloneId: string): Promise<Manifest> {
  const since = isoTime(context.clock.wallMs());
  return changeManifest(context, tie.volumeId, (manifest) => {
    const pinned = withPin(manifest, tie.snapshotId, { volumeId: cloneId, since });
    return withoutUnneeded(pinned, context.clock.wallMs() - pinGraceMs);
  });
}

/** Takes out snapshots made for clones that never came about. */
function withoutUnneeded(manifest: Manifest, beforeMs: number): Manifest {
  const snapshots = manifest.snapshots.filter(
    ({ tags, clones, createdAt }) =>
      tags[madeForTag] === undefined || clones.length > 0 || parseIsoTime(createdAt) > beforeMs,
  );
  return { ...manifest, snapshots };
}

/** Takes a snapshot out that was made for a clone, if no clone came about. */
export async function dropUnneeded(
  context: PinContext,
  volumeId: string,
  snapshotId: string,
): Promise<void> {
  await changeManifest(context, volumeId, (manifest) => {
    const { snapshots } = manifest;
    const kept = snapshots.filter(({ id, clones }) => id !== snapshotId || clones.length > 0);
    return kept.length === snapshots.length ? manifest : { ...manifest, snapshots: kept };
  });
}

/** As `pin`, at each of several snapshots; the manifests are in the order of these. */
export function pinAll(
  context: PinContext,
  ties: readonly Tie[],
  cloneId: string,
): Promise<Manifest[]> {
  return inParallel(ties, pinConcurrency, (tie) => pin(context, tie, cloneId));
}

/**
 * Makes sure that the pins of a clone whose manifest is there by now are there and stay. Nobody drops one
 * but after doubting it first and finding no manifest then: one that is not in doubt is for good.
 */
export async function confirmPins(
  context: PinContext,
  ties: readonly Tie[],
  cloneId: string,
): Promise<void> {
  await inParallel(ties, pinConcurrency, async (tie) => {
    const manifest = (await findManifest(context.store, tie.volumeId))?.manifest;
    const snapshot = manifest?.snapshots.find(({ id }) => id === tie.snapshotId);
    const known = snapshot?.clones.find(({ volumeId }) => volumeId === cloneId);
    const isSure = known !== undefined && known.since !== doubted;
    if (manifest !== undefined && isSure && !isBeingDeleted(manifest)) return;
    await pin(context, tie, cloneId);
  });
}

function withPin(
  manifest: Manifest,
  snapshotId: string,
  clone: Snapshot['clones'][number],
): Manifest {
  const snapshot = manifest.snapshots.find(({ id }) => id === snapshotId);
  if (isBeingDeleted(manifest) || snapshot === undefined) {
    const message = `The snapshot of volume ${manifest.name} was deleted while it was being cloned.`;
    throw new StorageError('conflict', message);
  }
  if (!snapshot.isCompleted) {
    const message = `Snapshot ${manifest.name}@${snapshot.name} is not completed yet; try again when it is.`;
    throw new StorageError('conflict', message);
  }
  const others = snapshot.clones.filter(({ volumeId }) => volumeId !== clone.volumeId);
  if (others.length >= maximumPins) {
    throw new StorageError(
      'no-space',
      `Snapshot ${manifest.name}@${snapshot.name} has ${maximumPins} clones, which is the most there can be; make another snapshot.`,
    );
  }
  return withSnapshot(manifest, { ...snapshot, clones: [...others, clone] });
}

function withSnapshot(manifest: Manifest, changed: Snapshot): Manifest {
  const snapshots = manifest.snapshots.map((each) => (each.id === changed.id ? changed : each));
  return { ...manifest, snapshots };
}

/** Takes a clone's pins away; a snapshot goes with its last one if it was made for clones. */
export async function unpinAll(
  context: PinContext,
  ties: readonly Tie[],
  cloneId: string,
): Promise<void> {
  await inParallel(ties, pinConcurrency, async ({ volumeId, snapshotId }) => {
    // It may be gone: whoever deleted it has seen that no clone is there.
    if ((await findManifest(context.store, volumeId)) === undefined) return;
    await changeManifest(context, volumeId, (manifest) =>
      withoutPins(manifest, snapshotId, new Set([cloneId])),
    );
  });
}

function withoutPins(
  manifest: Manifest,
  snapshotId: string,
  cloneIds: ReadonlySet<string>,
): Manifest {
  const snapshot = manifest.snapshots.find(({ id }) => id === snapshotId);
  if (snapshot === undefined) return manifest;
  const clones = snapshot.clones.filter(({ volumeId }) => !cloneIds.has(volumeId));
  if (clones.length === snapshot.clones.length) return manifest;
  if (clones.length > 0 || snapshot.tags[madeForTag] === undefined) {
    return withSnapshot(manifest, { ...snapshot, clones });
  }
  return { ...manifest, snapshots: manifest.snapshots.filter((each) => each !== snapshot) };
}

/** What a pin stands for. */
export type PinState =
  | { readonly kind: 'clone'; readonly name: string }
  /** A clone that is being made, or was left half made or half deleted a short time ago. */
  | { readonly kind: 'unfinished' }
  /** It has a manifest and no name, for long: nobody can open it, and nobody goes on with it. */
  | { readonly kind: 'forsaken' }
  /** There is no such volume, or it does not need the snapshot. */
  | { readonly kind: 'stale' };

/** What each pin of the snapshot stands for, by the clone's id. */
export async function pinStates(
  { store, clock }: PinContext,
  { id, clones }: Pick<Snapshot, 'id' | 'clones'>,
): Promise<Map<string, PinState>> {
  const nowMs = clock.wallMs();
  const states = await inParallel(clones, pinConcurrency, async ({ volumeId, since }) => {
    const isOld = nowMs - parseIsoTime(since) > pinGraceMs;
    return [volumeId, await pinState(store, id, volumeId, isOld)] as const;
  });
  return new Map(states);
}

async function pinState(
  store: ObjectStore,
  snapshotId: string,
  cloneId: string,
  isOld: boolean,
): Promise<PinState> {
  let found: Manifest | undefined;
  try {
    found = (await findManifest(store, cloneId))?.manifest;
  } catch (error) {
    if (!isStorageError(error, 'corrupt')) throw error;
    // What it needs cannot be known, so it keeps all.
    return { kind: 'clone', name: cloneId };
  }
  // One that needs it would say so from its birth on.
  if (found !== undefined && !needs(found, snapshotId)) return { kind: 'stale' };
  if (found !== undefined && (await isNamed(store, found))) {
    return { kind: 'clone', name: found.name };
  }
  if (!isOld) return { kind: 'unfinished' };
  return { kind: found === undefined ? 'stale' : 'forsaken' };
}

/** Whether a clone reads by this snapshot: not one that was flattened since it was pinned, or its source. */
function needs({ ancestors }: Manifest, snapshotId: string): boolean {
  return ancestors.some((ancestor) => ancestor.snapshotId === snapshotId);
}

/** Whether a volume's name leads to it. */
export async function isNamed(store: ObjectStore, { id, name }: Manifest): Promise<boolean> {
  try {
    return (await findVolumeId(store, name)) === id;
  } catch (error) {
    if (isStorageError(error, 'not-found')) return false;
    throw error;
  }
}

/**
 * Drops pins of clones that are not there, and were not begun a short time ago. In two steps: a clone that
 * was so slow has its manifest by the time of the second, or finds its pin in doubt and pins anew.
 */
export async function dropStalePins(
  context: PinContext,
  volumeId: string,
  snapshot: Snapshot,
): Promise<void> {
  const states = await pinStates(context, snapshot);
  const stale = new Map(
    snapshot.clones
      .filter((each) => states.get(each.volumeId)?.kind === 'stale')
      .map(({ volumeId: id, since }) => [id, since]),
  );
  if (stale.size === 0) return;
  await changeManifest(context, volumeId, (manifest) => {
    const present = manifest.snapshots.find(({ id }) => id === snapshot.id);
    if (present === undefined) return manifest;
    const clones = present.clones.map((each) =>
      stale.get(each.volumeId) === each.since ? { ...each, since: doubted } : each,
    );
    return withSnapshot(manifest, { ...present, clones });
  });
  for (const id of stale.keys()) {
    const found = await findManifest(context.store, id);
    if (found !== undefined && needs(found.manifest, snapshot.id)) stale.delete(id);
  }
  await changeManifest(context, volumeId, (manifest) => {
    const present = manifest.snapshots.find(({ id }) => id === snapshot.id)?.clones ?? [];
    const dropped = present.filter((each) => stale.has(each.volumeId) && each.since === doubted);
    return withoutPins(manifest, snapshot.id, new Set(dropped.map(({ volumeId: id }) => id)));
  });
}
