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

export function decodeAncestor(value: unknown): Ancestor {
  const fields = new Fields(value, 'ancestor');
  return {
    volumeId: fields.matching('volumeId', /^[0-9a-f]{32}$/),
    snapshotId: fields.matching('snapshotId', /^[0-9a-f]{32}$/),
    lastSegment: fields.count('lastSegment'),
    lastEpoch: fields.count('lastEpoch'),
  };
}
