/**
 * `npm run simulate`: the engine in simulated worlds, each made by a seed, until the time is over or
 * one goes wrong. A seed that fails is run again with its trace; the last lines say how to repeat it.
 */
import { parseArgs } from 'node:util';
import { Campaign, shapeOf, type Totals } from '../test/simulator/campaign.ts';
import type { Outcome } from '../test/simulator/run.ts';
import { type ShapeName, shapes } from '../test/simulator/shapes.ts';
import { huntPlantedBugs } from '../test/simulator/hunt.ts';
import { failAllCalls, repeatSeeds, tryAllSequences } from '../test/simulator/suite.ts';

const longestSequence = 3;

const usage = `npm run simulate -- [--seed N] [--minutes M] [--seeds COUNT] [--shape NAME] [--trace LINES]

  --seed N       the first seed; a fresh one when not given
  --minutes M    stop after that long (1)
  --seeds COUNT  stop after so many seeds; 1 repeats one
  --shape NAME   ${Object.keys(shapes).join(', ')}: sizes of the engine; by seed when not given
  --trace LINES  of a seed that fails show the last lines of what happened (60)
  --suite        before fresh seeds: those that found a bug, every call failed once, all short
                 sequences with a crash after each step, and every planted bug`;

interface Options {
  readonly seed: number;
  readonly minutes: number;
  readonly seeds: number;
  readonly shape: ShapeName | undefined;
  readonly traceLines: number;
  readonly isSuite: boolean;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string' },
      minutes: { type: 'string', default: '1' },
      seeds: { type: 'string', default: 'Infinity' },
      shape: { type: 'string' },
      trace: { type: 'string', default: '60' },
      suite: { type: 'boolean', default: false },
    },
  });
  const { shape } = values;
  if (shape !== undefined && !(shape in shapes)) throw new Error(`there is no shape ${shape}`);
  const numbers = [values.minutes, values.seeds, values.trace, values.seed ?? '0'].map(Number);
  if (numbers.some(Number.isNaN)) throw new Error('a number is no number');
  return {
    seed: values.seed === undefined ? Math.floor(Math.random() * 1e9) : Number(values.seed),
    minutes: Number(values.minutes),
    seeds: Number(values.seeds),
    shape: shape as ShapeName | undefined,
    traceLines: Number(values.trace),
    isSuite: values.suite,
  };
}

function showTotals(totals: Totals): void {
  const {
    seeds,
    crashes,
    servingCrashes,
    operations,
    recoveries,
    snapshots,
    travels,
    clones,
    flattened,
    virtualMs,
    seconds,
  } = totals;
  const hours = virtualMs / 3_600_000;
  console.log(`seeds            ${seeds}`);
  console.log(`crashes          ${crashes}`);
  console.log(`while serving    ${servingCrashes}; the others while attaching, or waiting to`);
  console.log(`recoveries       ${recoveries}, each compared block by block`);
  console.log(`past moments     ${travels}, each likewise`);
  console.log(
    `clones           ${clones}, each with hosts, clients and crashes of its own; ${flattened} flattened`,
  );
  console.log(`snapshots        ${snapshots}, read and compared when they were completed`);
  console.log(`operations       ${operations}`);
  console.log(`simulated time   ${hours.toFixed(1)} hours`);
  console.log(`time             ${seconds.toFixed(1)} s`);
  console.log(`crashes/second   ${Math.round(crashes / seconds)}`);
}

/** Runs the seed again, remembering what happens. */
async function showFailure({ seed, failure }: Outcome, options: Options): Promise<void> {
  const shape = options.shape ?? shapeOf(seed);
  const { lines } = await new Campaign().run(seed, true, shape);
  console.log(lines.slice(-options.traceLines).join('\n'));
  console.log(`\nseed ${seed} fails: ${failure?.stack ?? ''}`);
  console.log(`to repeat it: npm run simulate -- --seed ${seed} --seeds 1 --shape ${shape}`);
}

/** What is tried beside fresh seeds; false when something went wrong. */
async function runSuite(campaign: Campaign, options: Options): Promise<boolean> {
  const failed = await repeatSeeds(campaign);
  if (failed !== undefined) {
    await showFailure(failed, options);
    return false;
  }
  console.log(`failed calls     ${await failAllCalls()}, each in a run of its own`);
  const { sequences, crashes, failure } = await tryAllSequences(longestSequence);
  console.log(`sequences        ${sequences}, with ${crashes} crashes`);
  if (failure !== undefined) {
    console.log(failure.stack);
    return false;
  }
  let isGood = true;
  await huntPlantedBugs(({ name, seed, message, without }) => {
    const isCaught = seed !== undefined;
    const verdict = (isCaught ? `caught by ${seed}` : 'MISSED').padEnd(17);
    console.log(`${verdict}${name}${isCaught ? `: ${message.slice(0, 60)}` : ''}`);
    if (without !== undefined)
      console.log(`seed ${seed} of shape tiny fails without it, too: ${without}`);
    if (!isCaught || without !== undefined) isGood = false;
  });
  return isGood;
}

async function runFresh(campaign: Campaign, options: Options): Promise<boolean> {
  const endMs = performance.now() + options.minutes * 60_000;
  for (let at = 0; at < options.seeds && performance.now() < endMs; at += 1) {
    const outcome = await campaign.run(options.seed + at, false, options.shape);
    if (options.seeds === 1) console.log(`trace hash       ${outcome.hash.toString(16)}`);
    if (outcome.failure === undefined) continue;
    await showFailure(outcome, options);
    return false;
  }
  return true;
}

async function main(): Promise<void> {
  const options = readOptions();
  console.log(`first seed       ${options.seed}`);
  const campaign = new Campaign();
  const isGood =
    (!options.isSuite || (await runSuite(campaign, options))) &&
    (await runFresh(campaign, options));
  showTotals(campaign.totals);
  process.exitCode = isGood ? 0 : 1;
}

await main().catch((error: unknown) => {
  console.error(`${error instanceof Error ? error.stack : String(error)}\n\n${usage}`);
  process.exitCode = 2;
});
