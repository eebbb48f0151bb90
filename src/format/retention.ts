import { corrupt } from './binary.ts';
import { Fields } from './json-fields.ts';
import type { CheckpointPosition } from './names.ts';
import { decodeCheckpointPosition, encodablePosition } from './snapshot.ts';

/** From which state of a volume on everything is kept. */
export interface KeptFrom {
  /** None: from before the first segment that was ever written. */
  readonly checkpoint: CheckpointPosition | undefined;
  /** When the last that is in it was written: a later moment can be gone back to. Since 1970. */
  readonly timeMs: number;
}

/** The map became another one than the log says: after `segment`, it goes on from `checkpoint`. */
export interface Turn {
  readonly segment: number;
  /** None: from an empty map. */
  readonly checkpoint: CheckpointPosition | undefined;
  readonly timeMs: number;
}

/** The volume was larger before. */
export interface FormerSize {
  readonly sizeBytes: number;
  /** Until when. */
  readonly timeMs: number;
}

/** How long, and since when, all that was ever written to a volume is kept. */
export interface Retention {
  readonly retainMs: number;
  /** None until the writer has made a checkpoint after which nothing was left out. */
  readonly keptFrom: KeptFrom | undefined;
  /** All that was answered before this time is in the store; 0 when nobody has said so. */
  readonly storedThroughMs: number;
  /** In order; those after `keptFrom`. */
  readonly turns: readonly Turn[];
  /** In order; those that it had after `keptFrom`. */
  readonly formerSizes: readonly FormerSize[];
}

export function encodableRetention(retention: Retention | undefined): object | null {
  if (retention === undefined) return null;
  const { retainMs, keptFrom, storedThroughMs, turns, formerSizes } = retention;
  return {
    retainMs,
    keptFrom: keptFrom === undefined ? null : encodableState(keptFrom),
    storedThroughMs,
    turns: turns.map((turn) => ({ segment: turn.segment, ...encodableState(turn) })),
    formerSizes,
  };
}

function encodableState({ checkpoint, timeMs }: KeptFrom): object {
  return { checkpoint: encodablePosition(checkpoint), timeMs };
}

export function decodeRetention(value: unknown): Retention {
  const fields = new Fields(value, 'retention');
  const retention = {
    retainMs: fields.count('retainMs'),
    keptFrom: fields.optional('keptFrom', (each) => decodeState(new Fields(each, 'keptFrom'))),
    storedThroughMs: fields.count('storedThroughMs'),
    turns: fields.list('turns').map((each): Turn => {
      const turn = new Fields(each, 'turn');
      return { segment: turn.count('segment'), ...decodeState(turn) };
    }),
    formerSizes: fields.list('formerSizes').map((each): FormerSize => {
      const former = new Fields(each, 'former size');
      return { sizeBytes: former.count('sizeBytes'), timeMs: former.count('timeMs') };
    }),
  };
  retention.turns.forEach(({ segment, timeMs }, at) => {
    const before = retention.turns[at - 1];
    if (before !== undefined && (before.segment > segment || before.timeMs > timeMs))
      throw corrupt('retention with turns out of order');
  });
  return retention;
}

function decodeState(fields: Fields): KeptFrom {
  return {
    checkpoint: fields.optional('checkpoint', decodeCheckpointPosition),
    timeMs: fields.count('timeMs'),
  };
}
