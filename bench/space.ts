/**
 * What clients notice of space that is given back: random writes and reads while compaction runs all the
 * time, beside a daemon that compacts nothing. `npm run bench -- --only=space` prints it.
 */
import type { TemporaryDirectory } from '../test/support/programs.ts';
import { FilledDaemon, type FilledSettings } from './filled-daemon.ts';
import { median } from './measure.ts';
import type { Limit } from './report.ts';

const mebibyte = 2 ** 20;
/** With compaction it is at least 0.8 of what it is without. */
const slowdownAtMost = 100 / 0.8;

export interface SpaceBenchSettings extends FilledSettings {
  readonly rounds: number;
}

interface Status {
  readonly volumes: readonly { readonly space: { readonly compactedBytes: number } }[];
}

export async function measureSpace(
  root: TemporaryDirectory,
  settings: SpaceBenchSettings,
  say: (line: string) => void,
): Promise<Limit[]> {
  const never = { flags: ['--compaction-rate=0B'] };
  const always = { flags: ['--compaction-grace=0s'] };
  await using idle = await FilledDaemon.start(root, 'idle', settings, never);
  await using busy = await FilledDaemon.start(root, 'busy', settings, always);
  const limits: Limit[] = [];
  for (const kind of ['randwrite', 'randread'] as const) {
    say(`space: 4K ${kind} with and without compaction`);
    const ratios: number[] = [];
    for (let round = 0; round < settings.rounds; round += 1) {
      // So that there is something to be compacted.
      await busy.load('randwrite');
      const without = await idle.load(kind);
      const stop = new AbortController();
      const compacting = compactAllTheTime(busy, stop.signal);
      const withIt = await busy.load(kind);
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

/** One pass after the other, as fast as `compaction.rate` lets it. */
async function compactAllTheTime(busy: FilledDaemon, stop: AbortSignal): Promise<void> {
  while (!stop.aborted) await busy.ask('compact');
}
