import type { Campaign } from './campaign.ts';
import { loadEngine } from './engine.ts';
import { type ExhaustiveResult, runExhaustive } from './exhaustive.ts';
import { failEachCall, type FailingPart } from './nth-failure.ts';
import type { Outcome } from './run.ts';
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
