/**
 * What clients notice of space that is given back: random writes and reads while compaction runs all the
 * time, beside a daemon that compacts nothing. `npm run bench -- --only=space` prints it.
 */
import { request } from 'node:http';
import { createVolume, Daemon, directoryStore } from '../test/support/daemon.ts';
import type { TemporaryDirectory } from '../test/support/programs.ts';
import { fill, type Load, measure, median } from './measure.ts';
import type { Limit } from './report.ts';

const mebibyte = 2 ** 20;
/** With compaction it is at least 0.8 of what it is without. */
const slowdownAtMost = 100 / 0.8;

export interface SpaceBenchSettings {
  readonly rounds: number;
  readonly secondsEach: number;
  readonly workingSetBytes: number;
}

interface Status {
  readonly volumes: readonly { readonly space: { readonly compactedBytes: number } }[];
}

export async function measureSpace(
  root: TemporaryDirectory,
  settings: SpaceBenchSettings,
  say: (line: string) => void,
): Promise<Limit[]> {
  const idle = await start(root, 'idle', settings, ['--compaction-rate=0B']);
  await using _idle = idle;
  const busy = await start(root, 'busy', settings, ['--compaction-grace=0s']);
  await using _busy = busy;
  const limits: Limit[] = [];
  for (const kind of ['randwrite', 'randread'] as const) {
    say(`space: 4K ${kind} with and without compaction`);
    const ratios: number[] = [];
    for (let round = 0; round < settings.rounds; round += 1) {
      // So that there is something to be compacted.
      await measure(target(busy, 'busy'), { ...load(settings, 'randwrite'), name: 'aging' });
      const without = await measure(target(idle, 'idle'), load(settings, kind));
      const stop = new AbortController();
      const compacting = compactAllTheTime(root, stop.signal);
      const withIt = await measure(target(busy, 'busy'), load(settings, kind));
      stop.abort();
      await compacting;
      ratios.push(without.operationsPerSecond / withIt.operationsPerSecond);
    }
    const says = `4K ${kind}, without compaction of with it`;
    limits.push({ says, value: 100 * median(ratios), unit: '%', atMost: slowdownAtMost });
  }
  const { volumes } = (await busy.status()) as Status;
  say(
    `space: ${Math.round((volumes[0]?.space.compactedBytes ?? 0) / mebibyte)} MiB were compacted`,
  );
  return limits;
}

function target(daemon: Daemon, name: string): { uri: string } {
  return { uri: daemon.uri(name) };
}

async function start(
  root: TemporaryDirectory,
  name: string,
  { workingSetBytes }: SpaceBenchSettings,
  flags: readonly string[],
): Promise<Daemon> {
  const store = directoryStore(root.join(`space-store-${name}`));
  await createVolume(store, name, String(workingSetBytes));
  const directory = root.join(`space-host-${name}`);
  const daemon = await Daemon.start({ store, directory, flags: [...flags], unchecked: true });
  await fill(target(daemon, name), workingSetBytes);
  return daemon;
}

function load({ secondsEach, workingSetBytes }: SpaceBenchSettings, kind: Load['kind']): Load {
  const common = { blockBytes: 4096, depth: 32, rangeBytes: workingSetBytes };
  return { ...common, name: kind, kind, limit: { seconds: secondsEach } };
}

/** One pass after the other, as fast as `compaction.rate` lets it. */
async function compactAllTheTime(root: TemporaryDirectory, stop: AbortSignal): Promise<void> {
  const socketPath = root.join('space-host-busy', 'state', 'control.sock');
  while (!stop.aborted) await compact(socketPath);
}

/** Asks the daemon itself: a command would take processor time from what is measured. */
function compact(socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { socketPath, path: '/compact?volume=busy', method: 'POST' },
      (answer) => {
        answer.resume().on('end', () => {
          if (answer.statusCode === 200) resolve();
          else reject(new Error(`the daemon answered ${answer.statusCode ?? 0}`));
        });
      },
    );
    asked.on('error', reject).end();
  });
}
