import { assert } from '../base/assert.ts';
import { isoTime } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { Manifest } from '../format/manifest.ts';
import {
  type CheckpointPosition,
  requireSnapshotName,
  volumeNamePattern,
} from '../format/names.ts';
import type { Snapshot } from '../format/snapshot.ts';
import type { WantedMoment } from './wanted-moment.ts';

/**
 * Changes of a manifest's snapshots. Each is a pure function of the manifest that it is given, and
 * changes nothing that it finds done: one whose answer was lost is made again over what is there then.
 */

/** All of a volume's snapshots are in its manifest, which is written anew at each checkpoint. */
export const snapshotLimits = {
  perVolume: 1000,
  /** Cut and not completed: each has ended a segment early, in a journal file of its own. */
  pending: 16,
  descriptionCharacters: 1000,
  tags: 32,
  tagCharacters: 256,
} as const;

/** What people say of a snapshot that they ask for. */
export interface SnapshotWish {
  /** Made of the time when it is not given. */
  readonly name?: string;
  readonly description?: string;
  readonly tags?: Readonly<Record<string, string>>;
  /** A moment of the past that it is to be of; now, when it is not given. */
  readonly asOf?: WantedMoment;
}

/** Where and when the log was cut for a snapshot. */
export interface Cut extends SnapshotWish {
  readonly id: string;
  readonly segment: number;
  /** Of that segment, where it is not only in the store. */
  readonly entryCount?: number;
  readonly sizeBytes: number;
  readonly wallMs: number;
}

export function requireSnapshotWish({ name, description = '', tags = {} }: SnapshotWish): void {
  if (name !== undefined) requireSnapshotName(name);
  const { descriptionCharacters, tagCharacters } = snapshotLimits;
  if (description.length > descriptionCharacters) {
    throw usage(`A description has up to ${descriptionCharacters} characters.`);
  }
  const entries = Object.entries(tags);
  if (entries.length > snapshotLimits.tags) {
    throw usage(`A snapshot has up to ${snapshotLimits.tags} tags.`);
  }
  for (const [key, value] of entries) {
    if (key === '' || Math.max(key.length, value.length) > tagCharacters) {
      throw usage(`A tag is KEY=VALUE, each up to ${tagCharacters} characters.`);
    }
  }
}

function usage(message: string): StorageError {
  return new StorageError('usage', message);
}

/** Adds the snapshot; completed at once when the checkpoint has all of it. */
export function addSnapshot(manifest: Manifest, cut: Cut): Manifest {
  const { snapshots, head } = manifest;
  if (snapshots.some(({ id }) => id === cut.id)) return manifest;
  requireRoom(manifest);
  const headSegment = head?.segment ?? 0;
  assert(headSegment <= cut.segment, 'no checkpoint goes past a cut that is not in the manifest');
  const isCompleted = headSegment === cut.segment;
  const snapshot: Snapshot = {
    id: cut.id,
    name: cut.name === undefined ? freeName(manifest, cut.wallMs) : requireFree(manifest, cut.name),
    segment: cut.segment,
    checkpoint: isCompleted ? head : undefined,
    ...(isCompleted || cut.entryCount === undefined ? {} : { cutEntries: cut.entryCount }),
    isCompleted,
    sizeBytes: cut.sizeBytes,
    createdAt: isoTime(cut.wallMs),
    description: cut.description ?? '',
    tags: cut.tags ?? {},
    clones: [],
  };
  return { ...manifest, snapshots: [...snapshots, snapshot] };
}

/** A moment of the past that a snapshot is made of, and the checkpoint that is it. */
export interface Past extends Cut {
  readonly checkpoint: CheckpointPosition | undefined;
  readonly timeMs: number;
}

/** Adds a snapshot of the past, all of which the store has. */
export function addPastSnapshot(manifest: Manifest, past: Past): Manifest {
  const { snapshots } = manifest;
  if (snapshots.some(({ id }) => id === past.id)) return manifest;
  requireRoom(manifest);
  const snapshot: Snapshot = {
    id: past.id,
    name:
      past.name === undefined ? freeName(manifest, past.timeMs) : requireFree(manifest, past.name),
    segment: past.segment,
    checkpoint: past.checkpoint,
    isCompleted: true,
    sizeBytes: past.sizeBytes,
    createdAt: isoTime(past.wallMs),
    description: past.description || `as of ${isoTime(past.timeMs)}`,
    tags: past.tags ?? {},
    clones: [],
  };
  return { ...manifest, snapshots: [...snapshots, snapshot] };
}

/** That there may be one more snapshot of the volume. */
export function requireRoom({ name, snapshots }: Manifest): void {
  const { perVolume } = snapshotLimits;
  if (snapshots.length < perVolume) return;
  throw new StorageError(
    'no-space',
    `Volume ${name} has ${perVolume} snapshots, which is the most there can be; delete one with "elasticdrive snapshot delete".`,
  );
}

/** That the name can be given to one more snapshot of the volume. */
export function requireFree(manifest: Manifest, name: string): string {
  if (!isTaken(manifest, name)) return name;
  throw new StorageError(
    'already-exists',
    `There is a snapshot ${manifest.name}@${name} already; give this one another name, or delete that one.`,
  );
}

function isTaken({ snapshots }: Manifest, name: string): boolean {
  return snapshots.some((snapshot) => snapshot.name === name);
}

/** The time in UTC, to the second, and a number where one was made in that second already. */
export function freeName(manifest: Manifest, wallMs: number, prefix = ''): string {
  const time = `${prefix}${isoTime(wallMs).slice(0, 19).replaceAll(':', '')}Z`;
  let name = time;
  for (let count = 2; isTaken(manifest, name); count += 1) name = `${time}-${count}`;
  return name;
}

/**
 * Moves the head to a checkpoint, which completes the snapshots that were cut at its segment. One that
 * was cut before it can never be completed: whoever asked for it was told that it was not made.
 */
export function withHead(manifest: Manifest, head: CheckpointPosition): Manifest {
  const snapshots = manifest.snapshots
    .filter(({ isCompleted, segment }) => isCompleted || segment >= head.segment)
    .map((snapshot) =>
      snapshot.isCompleted || snapshot.segment > head.segment
        ? snapshot
        : { ...snapshot, checkpoint: head, isCompleted: true },
    );
  return { ...manifest, head, snapshots };
}

/** Where the log ends: how many entries its last segment has, where that is not in the store. */
export interface LogEnd {
  readonly segment: number;
  readonly entryCount: number | undefined;
}

/**
 * Drops the snapshots that were cut past the end of the log, of which a part was lost: with a host, or
 * with the end of a journal that its disk has changed.
 */
export function withoutLostCuts(manifest: Manifest, end: LogEnd): Manifest {
  const isWhole = ({ segment, cutEntries = 0 }: Snapshot): boolean =>
    segment === end.segment ? cutEntries <= (end.entryCount ?? cutEntries) : segment < end.segment;
  const kept = manifest.snapshots.filter((each) => each.isCompleted || isWhole(each));
  return kept.length === manifest.snapshots.length ? manifest : { ...manifest, snapshots: kept };
}

/** Takes a snapshot out, by its id; refused while a clone reads what it holds. */
export function removeSnapshot(manifest: Manifest, id: string): Manifest {
  const snapshot = manifest.snapshots.find((each) => each.id === id);
  if (snapshot === undefined) return manifest;
  if (snapshot.clones.length > 0) {
    throw new StorageError(
      'in-use',
      `Snapshot ${manifest.name}@${snapshot.name} is what ${clonesOf(snapshot)} of; delete that first.`,
    );
  }
  const { holds = [] } = snapshot;
  if (holds.length > 0) {
    const release = `elasticdrive snapshot release ${manifest.name}@${snapshot.name} ${holds[0]}`;
    throw new StorageError(
      'held',
      `Snapshot ${manifest.name}@${snapshot.name} is held for ${holds.join(', ')}: "${release}" lets go of it.`,
    );
  }
  return { ...manifest, snapshots: manifest.snapshots.filter((each) => each !== snapshot) };
}

/** Keeps a snapshot from being deleted, for `hold`, until that is released. */
export function holdSnapshot(manifest: Manifest, id: string, hold: string): Manifest {
  requireName(hold);
  return changeHolds(manifest, id, (holds) => (holds.includes(hold) ? holds : [...holds, hold]));
}

export function releaseSnapshot(manifest: Manifest, id: string, hold: string): Manifest {
  return changeHolds(manifest, id, (holds) =>
    holds.includes(hold) ? holds.filter((each) => each !== hold) : holds,
  );
}

function changeHolds(
  manifest: Manifest,
  id: string,
  change: (holds: readonly string[]) => readonly string[],
): Manifest {
  const found = manifest.snapshots.find((each) => each.id === id);
  if (found === undefined)
    throw new StorageError('not-found', `The snapshot ${id} of volume ${manifest.name} is gone.`);
  const before = found.holds ?? [];
  const holds = change(before);
  if (holds === before) return manifest;
  const { holds: _before, ...rest } = found;
  const changed = holds.length === 0 ? rest : { ...rest, holds };
  const snapshots = manifest.snapshots.map((each) => (each === found ? changed : each));
  return { ...manifest, snapshots };
}

function requireName(hold: string): void {
  if (volumeNamePattern.test(hold)) return;
  throw usage(`"${hold}" cannot name a hold: use 1 to 64 letters, digits, ".", "_" or "-".`);
}

function clonesOf({ clones }: Snapshot): string {
  const ids = clones.map(({ volumeId }) => volumeId);
  return ids.length === 1 ? `volume ${ids[0]} is a clone` : `volumes ${ids.join(', ')} are clones`;
}

/** The snapshots that are not completed, in the order of their cuts. */
export function pendingSnapshots({ snapshots }: Manifest): readonly Snapshot[] {
  return snapshots.filter(({ isCompleted }) => !isCompleted);
}

/** The snapshot that people call so, or whose id it is; `not-found` when there is none. */
export function findSnapshot(manifest: Manifest, nameOrId: string): Snapshot {
  const { snapshots, name } = manifest;
  const found =
    snapshots.find((snapshot) => snapshot.name === nameOrId) ??
    snapshots.find(({ id }) => id === nameOrId);
  if (found !== undefined) return found;
  throw new StorageError(
    'not-found',
    `There is no snapshot ${name}@${nameOrId}; "elasticdrive snapshot list ${name}" shows those that are.`,
  );
}
