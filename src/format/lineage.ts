import { Fields } from './json-fields.ts';
import type { LogPosition } from './names.ts';

/** A volume that a clone goes back to. */
export interface Ancestor {
  readonly volumeId: string;
  /** The snapshot of it that the clone, or the clone's own ancestor, was made from. */
  readonly snapshotId: string;
  /** Segments up to this one, after the ancestor before it, are that volume's. */
  readonly lastSegment: number;
  /** That volume's epoch when the clone was made, whose own epochs are above it. */
  readonly lastEpoch: number;
}

/** Which volume each segment that a volume reads was written by; the number alone says it. */
export interface Lineage {
  readonly id: string;
  /** The oldest first. */
  readonly ancestors: readonly Ancestor[];
}

/** The last segment that is an ancestor's; 0 when none is, as of a volume that is no clone. */
export function lastOfAncestors({ ancestors }: Pick<Lineage, 'ancestors'>): number {
  return ancestors.at(-1)?.lastSegment ?? 0;
}

/** The ancestors of a volume that reads nothing of them any more, and is still noted with them. */
export function withoutSegments(ancestors: readonly Ancestor[]): Ancestor[] {
  return ancestors.map((ancestor) => ({ ...ancestor, lastSegment: 0, lastEpoch: 0 }));
}

/** Whether what was found by one lineage of a volume is where the other says: it was not flattened since. */
export function isOneLineage(
  a: Pick<Lineage, 'ancestors'>,
  b: Pick<Lineage, 'ancestors'>,
): boolean {
  return lastOfAncestors(a) === lastOfAncestors(b);
}

/** The id of the volume that wrote `segment`, under whose prefix it was stored. */
export function volumeOfSegment(lineage: Lineage, segment: number): string {
  const owner = lineage.ancestors.find(({ lastSegment }) => segment <= lastSegment);
  return owner?.volumeId ?? lineage.id;
}

/**
 * The id of the volume that made the checkpoint of this position, under whose prefix it and its
 * pages were stored. The epoch counts too: a clone that has written nothing yet and is rolled back
 * makes a checkpoint of the last segment of its ancestor.
 */
export function volumeOfCheckpoint(lineage: Lineage, { segment, epoch }: LogPosition): string {
  const owner = lineage.ancestors.find(
    ({ lastSegment, lastEpoch }) => segment <= lastSegment && epoch <= lastEpoch,
  );
  return owner?.volumeId ?? lineage.id;
}

/**
 * The last segment that is the same in both lineages, and all before it: the number alone says that two
 * versions have the same data there. 0 for nothing; endless in one lineage.
 */
export function sharedSegments(a: Lineage, b: Lineage): number {
  // Of one volume at any two times: a clone that was made independent has kept its numbers.
  if (a.id === b.id) return Infinity;
  const [ofA, ofB] = [tenuresOf(a), tenuresOf(b)];
  let shared = 0;
  for (const [at, { volumeId, lastSegment }] of ofA.entries()) {
    const other = ofB[at];
    if (other?.volumeId !== volumeId) return shared;
    shared = Math.min(lastSegment, other.lastSegment);
    if (lastSegment !== other.lastSegment) return shared;
  }
  return shared;
}

/** Whether both go back to the same volume. */
export function isOneFamily(a: Lineage, b: Lineage): boolean {
  return a.id === b.id || tenuresOf(a)[0]?.volumeId === tenuresOf(b)[0]?.volumeId;
}

function tenuresOf(lineage: Lineage): Pick<Ancestor, 'volumeId' | 'lastSegment'>[] {
  return [...lineage.ancestors, { volumeId: lineage.id, lastSegment: Infinity }];
}

export function decodeAncestor(value: unknown): Ancestor {
  const fields = new Fields(value, 'ancestor');
  return {
    volumeId: fields.matching('volumeId', /^[0-9a-f]{32}$/),
    snapshotId: fields.matching('snapshotId', /^[0-9a-f]{32}$/),
    lastSegment: fields.count('lastSegment'),
    lastEpoch: fields.count('lastEpoch'),
  };
}
