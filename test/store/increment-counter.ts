/**
 * One of several processes that count in one register of a directory store, until standard input
 * ends; then prints how often it counted. The value remembers the last step of each process, so that
 * a swap of unknown outcome can be looked up.
 */
import { systemClock } from '../../src/base/clock.ts';
import { isStorageError } from '../../src/base/errors.ts';
import { systemRandom } from '../../src/base/random.ts';
import { createFileStore } from '../../src/store/file-store.ts';

interface Counter {
  count: number;
  steps: Record<string, number>;
}

const [directory = '', name = ''] = process.argv.slice(2);
const store = createFileStore({ directory, clock: systemClock, random: systemRandom });
const key = 'shared/counter';
process.stdin.resume();

async function increment(step: number): Promise<'won' | 'lost' | 'unknown'> {
  const present = await store.load(key);
  const counter: Counter =
    present === undefined
      ? { count: 0, steps: {} }
      : (JSON.parse(new TextDecoder().decode(present.value)) as Counter);
  if (counter.steps[name] === step) return 'won';
  const next = { count: counter.count + 1, steps: { ...counter.steps, [name]: step } };
  try {
    const value = new TextEncoder().encode(JSON.stringify(next));
    return (await store.swap(key, present?.version, value)) === undefined ? 'lost' : 'won';
  } catch (error) {
    if (isStorageError(error, 'store-unavailable')) return 'unknown';
    throw error;
  }
}

let steps = 0;
let losses = 0;
let unknowns = 0;
for (let settled = true; !process.stdin.readableEnded || !settled; ) {
  const outcome = await increment(steps + 1);
  settled = outcome !== 'unknown';
  if (outcome === 'won') steps += 1;
  if (outcome === 'lost') losses += 1;
  if (outcome === 'unknown') unknowns += 1;
}
process.stdout.write(JSON.stringify({ steps, losses, unknowns }));
