import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';

/** How the hunt for one planted bug ended. */
export interface Catch {
  readonly name: string;
  /** The seed that saw it; `undefined` when none did. */
  readonly seed: number | undefined;
  /** What it saw. */
  readonly message: string;
  /** What the same seed sees without the bug: nothing may be wrong then. */
  readonly without: string | undefined;
}

/**
 * Plants each bug in the engine, one at a time, and lets the simulator look for it, with the same seeds
 * each time: that it is missed says that something has changed. The seed that sees it is one that goes
 * the way to it, and is run as things are, too. Each processor takes one bug after the other.
 */
export async function huntPlantedBugs(onCatch: (found: Catch) => void): Promise<void> {
  const nextBug = new Int32Array(new SharedArrayBuffer(4));
  const hunts = Array.from({ length: availableParallelism() }, async () => {
    const worker = new Worker(new URL('./hunter.ts', import.meta.url), {
      workerData: nextBug,
      resourceLimits: { maxYoungGenerationSizeMb: 96 },
    });
    worker.on('message', onCatch);
    const [status] = (await once(worker, 'exit')) as [number];
    if (status !== 0) throw new Error(`a hunter ended with status ${status}`);
  });
  await Promise.all(hunts);
}
