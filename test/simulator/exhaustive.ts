import type { Engine } from './engine.ts';
import { asError } from './scheduler.ts';
import { type Request, Stage } from './stage.ts';

const alphabet: readonly Request[] = [
  { kind: 'write', first: 0, count: 1 },
  { kind: 'write', first: 1, count: 1 },
  { kind: 'write', first: 0, count: 3 },
  { kind: 'zero', first: 1, count: 1 },
  { kind: 'trim', first: 0, count: 2 },
  { kind: 'flush' },
  { kind: 'snapshot' },
  { kind: 'upload' },
  { kind: 'reopen' },
  // One after the other: the volume is cut off, then as large again.
  { kind: 'shrink', blocks: 1 },
  { kind: 'grow', blocks: 3 },
];

/** Calls after which something may survive that did not before. */
const persisting = new Set([
  'create',
  'write',
  'writeHere',
  'writeDurably',
  'sync',
  'replaceFile',
  'rename',
  'remove',
  'put',
  'swap',
]);
/** Of so many unsynced writes, every subset is tried. */
const subsetWrites = 3;

export interface ExhaustiveResult {
  sequences: number;
  crashes: number;
  failure: Error | undefined;
}

/** All sequences of 1 to `longest` requests, in an order that differs from day to day in nothing. */
function* sequences(longest: number): Generator<readonly Request[]> {
  for (let length = 1; length <= longest; length += 1) {
    for (let number = 0; number < alphabet.length ** length; number += 1) {
      const requests: Request[] = [];
      let rest = number;
      for (let at = 0; at < length; at += 1) {
        requests.push(alphabet[rest % alphabet.length] as Request);
        rest = Math.floor(rest / alphabet.length);
      }
      // What only waits or reads leaves nothing to lose; what was not cut off cannot grow.
      const kinds = requests.map(({ kind }) => kind);
      const mayGrow = kinds.includes('shrink') && kinds.indexOf('shrink') < kinds.indexOf('grow');
      if (kinds.includes('write') && (mayGrow || !kinds.includes('grow'))) yield requests;
    }
  }
}

/**
 * Every sequence of up to `longest` requests over three blocks, with a power cut after each persisting
 * step, and there with every subset of the writes that were not synced, where they are few.
 */
export async function runExhaustive(
  engine: Engine,
  longest: number,
  isOver: () => boolean = () => false,
): Promise<ExhaustiveResult> {
  const result: ExhaustiveResult = { sequences: 0, crashes: 0, failure: undefined };
  for (const requests of sequences(longest)) {
    if (isOver()) return result;
    result.sequences += 1;
    try {
      result.crashes += await crashEverywhere(engine, requests);
    } catch (error) {
      const said = requests.map((request) => Object.values(request).join(' ')).join(', ');
      const { message } = asError(error);
      result.failure = new Error(`${said}: ${message}`, { cause: error });
      return result;
    }
  }
  return result;
}

async function crashEverywhere(engine: Engine, requests: readonly Request[]): Promise<number> {
  let crashes = 0;
  for (let step = 1; ; step += 1) {
    const unsynced = await crashAt(engine, requests, step, 0);
    if (unsynced === undefined) return crashes;
    crashes += 1;
    for (let subset = 1; subset < 2 ** Math.min(unsynced, subsetWrites); subset += 1) {
      await crashAt(engine, requests, step, subset);
      crashes += 1;
    }
  }
}

/**
 * Cuts the power after the `step`-th persisting step; of the unsynced writes those stay whose bit is
 * in `subset`. Returns how many there were, or `undefined` when the end came first.
 */
async function crashAt(
  engine: Engine,
  requests: readonly Request[],
  step: number,
  subset: number,
): Promise<number | undefined> {
  const stage = new Stage(engine, 'local', step * 64 + subset);
  const { world, host } = stage;
  let steps = 0;
  const count = (name: string): void => {
    if (persisting.has(name)) steps += 1;
  };
  host.disk.onCall = count;
  world.store.onDone = count;
  await stage.play(() => world.createVolume());
  await stage.play(
    () => stage.perform(requests),
    () => steps >= step,
  );
  if (steps < step) return undefined;
  host.disk.onCall = () => undefined;
  world.store.onDone = () => undefined;
  const unsynced = host.disk.content.unsyncedCount;
  stage.losePower((write) => ((subset >> Math.min(write, subsetWrites)) & 1) === 1);
  try {
    await stage.play(() => stage.comeBack());
  } catch (error) {
    const message = `after step ${step}, with subset ${subset} of the unsynced writes: ${asError(error).message}`;
    throw new Error(message, { cause: error });
  }
  return unsynced;
}
