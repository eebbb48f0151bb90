import { plantedBugs } from './canaries.ts';
import type { Campaign } from './campaign.ts';
import { loadEngine } from './engine.ts';
import { type ExhaustiveResult, runExhaustive } from './exhaustive.ts';
import { failEachCall, type FailingPart } from './nth-failure.ts';
import type { PlantedBug } from './planted.ts';
import type { Outcome } from './run.ts';
import { runSeed } from './run.ts';
import { foundBugs } from './seeds.ts';
import { shapes } from './shapes.ts';

const parts: readonly FailingPart[] = ['disk', 'store before', 'store after'];

/** The seeds that once found a bug; the first that does again. */
export async function repeatSeeds(campaign: Campaign): Promise<Outcome | undefined> {
  for (const { seed, shape } of foundBugs) {
    const outcome = await campaign.run(seed, false, shape);
    if (outcome.failure !== undefined) return outcome;
  }
  return undefined;
}

/** How many calls were failed, each in a run of its own. */
export async function failAllCalls(): Promise<number> {
  const engine = await loadEngine(shapes.tiny);
  let calls = 0;
  for (const durability of ['local', 'store'] as const) {
    for (const part of parts) calls += await failEachCall(engine, part, durability);
  }
  return calls;
}

export async function tryAllSequences(longest: number): Promise<ExhaustiveResult> {
  return runExhaustive(await loadEngine(shapes.tiny), longest);
}

/** A planted bug, and the number of seeds after which it was seen; `undefined` when it was not. */
export interface Catch {
  readonly bug: PlantedBug;
  readonly seeds: number | undefined;
  readonly message: string;
  /** What the seed that saw it does without it: nothing may be wrong then. */
  readonly without: Outcome | undefined;
}

/**
 * Plants each bug in the engine, one at a time, and lets the simulator look for it, with the same seeds
 * each time: that it is missed says that something has changed. The seed that sees it is one that goes
 * the way to it, and is run as things are, too.
 */
export async function* catchPlantedBugs(): AsyncGenerator<Catch> {
  const plain = await loadEngine(shapes.tiny);
  for (const bug of plantedBugs) {
    const engine = await loadEngine([...shapes.tiny, ...bug.patches]);
    let caught: Catch = { bug, seeds: undefined, message: '', without: undefined };
    for (let seeds = 1; seeds <= bug.seeds && caught.seeds === undefined; seeds += 1) {
      const { failure } = await runSeed(engine, seeds);
      if (failure === undefined) continue;
      const without = await runSeed(plain, seeds);
      caught = { bug, seeds, message: failure.message, without };
    }
    yield caught;
  }
}
