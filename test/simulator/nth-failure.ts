import { StorageError } from '../../src/base/errors.ts';
import type { Durability } from '../../src/format/manifest.ts';
import type { Engine } from './engine.ts';
import { type Request, Stage } from './stage.ts';

/** What is done while one call fails: every part of the engine has something to do. */
export const requests: readonly Request[] = [
  { kind: 'write', first: 0, count: 3 },
  { kind: 'flush' },
  { kind: 'write', first: 1, count: 1 },
  { kind: 'snapshot' },
  { kind: 'upload' },
  { kind: 'zero', first: 2, count: 1 },
  { kind: 'write', first: 0, count: 1 },
  { kind: 'write', first: 0, count: 2 },
  { kind: 'flush' },
  { kind: 'snapshot' },
  { kind: 'trim', first: 0, count: 1 },
  { kind: 'reopen' },
  { kind: 'forget' },
  { kind: 'write', first: 2, count: 1 },
  { kind: 'flush' },
  { kind: 'write', first: 0, count: 3 },
  { kind: 'snapshot' },
  { kind: 'upload' },
  { kind: 'write', first: 1, count: 2 },
  { kind: 'shrink', blocks: 1 },
  { kind: 'grow', blocks: 3 },
  { kind: 'write', first: 2, count: 1 },
];

export type FailingPart = 'disk' | 'store before' | 'store after';

/**
 * Fails the n-th call of the disk, or of the store before or after it was done, for n = 1, 2, … until
 * a run makes fewer calls. Each run must keep what it promised and come to its end. Returns the runs.
 */
export async function failEachCall(
  engine: Engine,
  part: FailingPart,
  durability: Durability,
): Promise<number> {
  for (let n = 1; ; n += 1) {
    try {
      if (!(await failCall(engine, part, durability, n))) return n - 1;
    } catch (error) {
      throw new Error(`call ${n} of the ${part} (${durability} durability)`, { cause: error });
    }
  }
}

/** Whether there was an `n`-th call. */
async function failCall(
  engine: Engine,
  part: FailingPart,
  durability: Durability,
  n: number,
): Promise<boolean> {
  const stage = new Stage(engine, durability, n);
  const { world, host } = stage;
  await stage.play(() => world.createVolume());
  let calls = 0;
  const mayFail = (): void => {
    calls += 1;
    if (calls !== n) return;
    const code = part === 'disk' ? 'local-io' : 'store-unavailable';
    throw new StorageError(code, `Call ${n} of the ${part} fails.`);
  };
  if (part === 'disk') {
    host.disk.onCall = mayFail;
    host.disk.hasErred = true;
  } else {
    world.store[part === 'store before' ? 'onCall' : 'onDone'] = mayFail;
    world.store.hasErred = true;
  }
  await stage.play(() => stage.perform(requests));
  host.disk.onCall = () => undefined;
  world.store.onCall = () => undefined;
  world.store.onDone = () => undefined;
  await stage.play(() => stage.moveOn());
  return calls >= n;
}
