/** One of the threads that hunt planted bugs: it takes the next that nobody has, until there is none. */
import { parentPort, workerData } from 'node:worker_threads';
import { plantedBugs } from './canaries.ts';
import { loadEngine } from './engine.ts';
import type { Catch } from './hunt.ts';
import type { PlantedBug } from './planted.ts';
import { runSeed } from './run.ts';
import { shapes } from './shapes.ts';

const nextBug = workerData as Int32Array;
const plain = await loadEngine(shapes.tiny);

async function hunt({ name, patches, seeds }: PlantedBug): Promise<Catch> {
  const engine = await loadEngine([...shapes.tiny, ...patches]);
  for (let seed = 1; seed <= seeds; seed += 1) {
    const { failure } = await runSeed(engine, seed);
    if (failure === undefined) continue;
    const { message } = failure;
    const without = (await runSeed(plain, seed)).failure;
    return { name, seed, message, without: without?.stack };
  }
  return { name, seed: undefined, message: '', without: undefined };
}

for (;;) {
  const bug = plantedBugs[Atomics.add(nextBug, 0, 1)];
  if (bug === undefined) break;
  parentPort?.postMessage(await hunt(bug));
}
