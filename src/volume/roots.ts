import type { Manifest } from '../format/manifest.ts';
import type { CheckpointPosition } from '../format/names.ts';

/**
 * What a volume is kept for: maps, and the end of the log. What none of these holds is dead, and dead
 * for ever: the next map is a fold of the log over one of them, or is made of one of them.
 */
export interface Roots {
  /** Whose maps count: the head's, those of snapshots, and what retention goes back to. */
  readonly checkpoints: readonly CheckpointPosition[];
  /** All segments after this one are kept, whatever is in them. */
  readonly logFrom: number;
}

export function rootsOf(manifest: Manifest): Roots {
  const { head, snapshots, retention } = manifest;
  const keptFrom = retention?.keptFrom;
  const turns = retention?.turns ?? [];
  const positions = [
    head,
    ...snapshots.map(({ checkpoint }) => checkpoint),
    keptFrom?.checkpoint,
    ...turns.map(({ checkpoint }) => checkpoint),
  ];
  const headSegment = head?.segment ?? 0;
  const keptSegment = keptFrom === undefined ? headSegment : (keptFrom.checkpoint?.segment ?? 0);
  return { checkpoints: distinct(positions), logFrom: Math.min(headSegment, keptSegment) };
}

function distinct(positions: readonly (CheckpointPosition | undefined)[]): CheckpointPosition[] {
  const found: CheckpointPosition[] = [];
  for (const position of positions) {
    if (position === undefined) continue;
    if (!found.some((known) => isSameCheckpoint(known, position))) found.push(position);
  }
  return found;
}

export function isSameCheckpoint(a: CheckpointPosition, b: CheckpointPosition): boolean {
  return a.segment === b.segment && a.epoch === b.epoch && a.variant === b.variant;
}

/**
 * Whether all that was dead by `before` is dead by `now`. It is, if every map that counts now counted
 * then, or was made since: of what the log had after `logFrom`, all of which was kept, and of maps
 * that counted. An older map that counts again proves nothing.
 */
export function remainsDead(before: Roots, now: Roots): boolean {
  if (now.logFrom < before.logFrom) return false;
  return now.checkpoints.every(
    (position) =>
      position.segment >= before.logFrom ||
      before.checkpoints.some((known) => isSameCheckpoint(known, position)),
  );
}
