/**
 * How long a snapshot holds writes back, and how long it takes to be completed, on a volume of 1 TiB of
 * mapped data under 4K writes. `node bench/snapshots.ts` prints it; `npm run bench` has it among the limits.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createEngineThreads } from '../src/bin/engine-threads.ts';
import { systemClock } from '../src/base/clock.ts';
import { silentLog } from '../src/base/log.ts';
import { systemRandom } from '../src/base/random.ts';
import { createFileStore } from '../src/store/file-store.ts';
import { createLocalDisk } from '../src/store/local-disk.ts';
import { openVolume } from '../src/volume/open-volume.ts';
import { defaultVolumeSettings } from '../src/volume/settings.ts';
import type { Volume } from '../src/volume/volume.ts';
import { TemporaryDirectory } from '../test/support/programs.ts';
import { putMappedVolume } from '../test/support/synthetic-volume.ts';
import type { Limit } from './report.ts';

const gibibyte = 2 ** 30;
const writeBytes = 4096;
/** Where the writes go. */
const rangeBytes = 4 * gibibyte;
const laneCount = 4;
/** What happens in this time after a snapshot was asked for is held against it. */
const windowMs = 40;
const pauseMs = 400;
/** Blocks of one page object of the mapped volume are not there: nothing but whole blocks is written. */
const data = systemRandom.bytes(writeBytes);

/** Clients that write all the time, each one block after the other, and the longest that one waited. */
class Load {
  private readonly volume: Volume;
  private isOver = false;
  private readonly lanes: Promise<void>[];
  private longestMs = 0;
  private readonly started = new Set<number>();

  constructor(volume: Volume) {
    this.volume = volume;
    this.lanes = Array.from({ length: laneCount }, () => this.lane());
  }

  private async lane(): Promise<void> {
    while (!this.isOver) {
      const offset = Math.floor(systemRandom.fraction() * (rangeBytes / writeBytes)) * writeBytes;
      const startMs = performance.now();
      this.started.add(startMs);
      await this.volume.write(offset, data, { fua: false });
      this.started.delete(startMs);
      this.longestMs = Math.max(this.longestMs, performance.now() - startMs);
      // Whoever is served over a socket lets go of the processor, too.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** The longest that a write waited of those that end in the window, or have not by then. */
  async watch(act: () => void): Promise<number> {
    this.longestMs = 0;
    act();
    await sleep(windowMs);
    const waiting = [...this.started].map((startMs) => performance.now() - startMs);
    return Math.max(this.longestMs, ...waiting);
  }

  async end(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.lanes);
  }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

interface Measured {
  readonly withoutMs: number[];
  readonly withMs: number[];
  readonly completedMs: number[];
}

/** The same window with a snapshot and without, in turns. */
async function takeTurns(volume: Volume, rounds: number): Promise<Measured> {
  const measured: Measured = { withoutMs: [], withMs: [], completedMs: [] };
  const load = new Load(volume);
  await sleep(1000);
  for (let round = 0; round < rounds; round += 1) {
    measured.withoutMs.push(await load.watch(() => undefined));
    const askedMs = performance.now();
    let made: Promise<unknown> = Promise.resolve();
    const cut = (): void => {
      made = volume
        .createSnapshot({ name: `s${round}` })
        .then(({ id }) => volume.whenSnapshotCompleted(id))
        .then(() => measured.completedMs.push(performance.now() - askedMs));
    };
    measured.withMs.push(await load.watch(cut));
    await made;
    await sleep(pauseMs);
  }
  await load.end();
  return measured;
}

export async function measureSnapshots(root: TemporaryDirectory, rounds: number): Promise<Limit[]> {
  const store = createFileStore({ directory: root.join('snapshot-store') });
  await putMappedVolume(store, 'mapped', 1024 * gibibyte);
  const state = root.join('snapshot-state');
  const workers = createEngineThreads(state, 1);
  const volume = await openVolume({
    ...{ store, disk: createLocalDisk(state), workers, clock: systemClock, random: systemRandom },
    ...{ log: silentLog, name: 'mapped', settings: defaultVolumeSettings },
    ...{ writerId: 'bench', host: 'bench' },
  });
  const { withoutMs, withMs, completedMs } = await takeTurns(volume, rounds);
  await volume.abandon();
  await workers.close();
  await store.close();
  const heldMs = Math.max(0, median(withMs) - median(withoutMs));
  return [
    { says: 'a write held back by a snapshot', value: heldMs, unit: 'ms', atMost: 10 },
    {
      says: 'longest wait when one is made',
      value: median(withMs),
      unit: 'ms',
      atMost: 10 + median(withoutMs),
    },
    {
      says: 'snapshot completed after',
      value: median(completedMs) / 1000,
      unit: 's',
      atMost: 5,
    },
  ];
}

if (import.meta.main) {
  await using root = await TemporaryDirectory.make();
  for (const { says, value, unit, atMost } of await measureSnapshots(root, 20)) {
    process.stdout.write(`${says}: ${value.toFixed(2)} ${unit} (at most ${atMost.toFixed(2)})\n`);
  }
}
