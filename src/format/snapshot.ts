import { corrupt } from './binary.ts';
import { Fields } from './json-fields.ts';
import { type CheckpointPosition, maximumVariant, volumeNamePattern } from './names.ts';

/** A clone that reads what a snapshot holds, in whatever generation. */
export interface CloneOfSnapshot {
  readonly volumeId: string;
  /** When it was noted here, which is before the clone was made. */
  readonly since: string;
}

/** A name for the volume as of the end of one segment. */
export interface Snapshot {
  /** For machines; never used twice. */
  readonly id: string;
  /** For people; unique in the volume, and free again when the snapshot is deleted. */
  readonly name: string;
  /** The last segment that is in it; 0 when nothing had been written. */
  readonly segment: number;
  /** Where its map is; none while it is pending, or when nothing had been written. */
  readonly checkpoint: CheckpointPosition | undefined;
  /** How many entries that segment had at the cut; none when it was in the store already. */
  readonly cutEntries?: number;
  /** Whether all of it is in the store: it then outlives the host. */
  readonly isCompleted: boolean;
  readonly sizeBytes: number;
  readonly createdAt: string;
  readonly description: string;
  readonly tags: Readonly<Record<string, string>>;
  /** It is not deleted while one of these is there. */
  readonly clones: readonly CloneOfSnapshot[];
  /** Nor while somebody holds it: what for, each for itself. None when absent. */
  readonly holds?: readonly string[];
}

export function encodableSnapshot(snapshot: Snapshot): object {
  return { ...snapshot, checkpoint: encodablePosition(snapshot.checkpoint) };
}

export function decodeSnapshot(value: unknown): Snapshot {
  const fields = new Fields(value, 'snapshot');
  const snapshot = {
    id: fields.matching('id', /^[0-9a-f]{32}$/),
    name: fields.matching('name', volumeNamePattern),
    segment: fields.count('segment'),
    checkpoint: fields.optional('checkpoint', decodeCheckpointPosition),
    ...cutEntriesIn(fields),
    isCompleted: fields.flag('isCompleted'),
    sizeBytes: fields.count('sizeBytes'),
    createdAt: fields.text('createdAt'),
    description: fields.text('description'),
    tags: fields.texts('tags'),
    clones: fields.list('clones').map(decodeClone),
    ...holdsIn(fields),
  };
  const { checkpoint, segment, isCompleted } = snapshot;
  const isPlausible = isCompleted
    ? (checkpoint?.segment ?? 0) === segment
    : checkpoint === undefined && snapshot.clones.length === 0;
  if (!isPlausible) throw corrupt(`snapshot ${snapshot.name} that contradicts itself`);
  return snapshot;
}

function holdsIn(fields: Fields): Pick<Snapshot, 'holds'> {
  const holds = fields.optional('holds', (value) => value as readonly unknown[], null);
  if (holds === undefined) return {};
  return { holds: fields.list('holds').map((hold) => new Fields({ hold }, 'hold').text('hold')) };
}

function cutEntriesIn(fields: Fields): Pick<Snapshot, 'cutEntries'> {
  const cutEntries = fields.count('cutEntries', 0);
  return cutEntries === 0 ? {} : { cutEntries };
}

function decodeClone(value: unknown): CloneOfSnapshot {
  const fields = new Fields(value, 'clone of a snapshot');
  return {
    volumeId: fields.matching('volumeId', /^[0-9a-f]{32}$/),
    since: fields.text('since'),
  };
}

export function encodablePosition(position: CheckpointPosition | undefined): object | null {
  if (position === undefined) return null;
  const { segment, epoch, variant } = position;
  return variant === 0 ? { segment, epoch } : { segment, epoch, variant };
}

export function decodeCheckpointPosition(value: unknown): CheckpointPosition {
  const fields = new Fields(value, 'position');
  const variant = fields.count('variant', 0);
  if (variant > maximumVariant) throw corrupt(`checkpoint of variant ${variant}`);
  return { segment: fields.count('segment'), epoch: fields.count('epoch'), variant };
}
