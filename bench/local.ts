/** Over Unix sockets, everything on one local disk: our volume beside the common NBD servers. */
import { directoryStore } from '../test/support/daemon.ts';
import type { TemporaryDirectory } from '../test/support/programs.ts';
import { fill, type Load, measure, processorMs, rampMs } from './measure.ts';
import { type Contender, elasticDrive, nbdPeers, nodeFloor, ours } from './peers.ts';
import type { Sample, Sheet } from './report.ts';

const mebibyte = 2 ** 20;

export interface LocalSettings {
  readonly rounds: number;
  readonly secondsEach: number;
  /** What each load touches; in memory on every server. */
  readonly workingSetBytes: number;
}

function loads({ secondsEach, workingSetBytes }: LocalSettings): Load[] {
  const common = { rangeBytes: workingSetBytes, limit: { seconds: secondsEach } };
  const small = { ...common, blockBytes: 4_096 };
  const large = { ...common, blockBytes: 131_072, depth: 16 };
  const at = (name: string, kind: Load['kind'], depth: number): Load => {
    return { ...small, name: `4K ${name}, depth ${depth}`, kind, depth };
  };
  // What was written in order is read first; what random writes leave behind is a load of its own.
  return [
    { ...large, name: '128K sequential write, depth 16', kind: 'write' },
    { ...large, name: '128K sequential read, depth 16', kind: 'read' },
    ...[1, 32, 128].map((depth) => at('random read', 'randread', depth)),
    ...[1, 32, 128].map((depth) => at('random write', 'randwrite', depth)),
    // fio waits for each flush, so several at once are several clients.
    ...[1, 16].map(
      (jobs): Load => ({
        ...small,
        name: `4K write + flush, ${jobs} at once`,
        kind: 'randwrite',
        depth: 1,
        jobs,
        flush: true,
      }),
    ),
    { ...large, name: '128K sequential read after random writes', kind: 'read' },
  ];
}

export async function measureLocal(
  root: TemporaryDirectory,
  settings: LocalSettings,
  say: (line: string) => void,
): Promise<Sheet> {
  const sizeBytes = 1_024 * mebibyte;
  await using stack = new AsyncDisposableStack();
  const contenders = [
    await elasticDrive(directoryStore(root.join('store')), root.join('ours'), sizeBytes),
    ...(await nbdPeers(root, sizeBytes)),
  ];
  const floor = await nodeFloor(root, sizeBytes);
  for (const contender of [...contenders, floor]) stack.use(contender);
  for (const { target, settle } of [...contenders, floor]) {
    await fill(target, settings.workingSetBytes);
    await settle();
  }
  const samples: Sample[] = [];
  for (const load of loads(settings)) {
    for (let round = 0; round < settings.rounds; round += 1) {
      const taking = isLatency(load) ? [...contenders, floor] : contenders;
      for (const contender of taking) samples.push(...(await sample(contender, load, settings)));
    }
    say(`measured ${load.name}`);
  }
  return { title: 'NBD over Unix sockets, one local disk', ours, samples };
}

/** One client that waits for each answer. */
function isLatency(load: Load): boolean {
  return load.depth === 1 && load.flush !== true;
}

async function sample(
  { name, target, settle, pid }: Contender,
  load: Load,
  { secondsEach }: LocalSettings,
): Promise<Sample[]> {
  const startMs = await processorMs(pid);
  const measured = await measure(target, load);
  const usedMs = (await processorMs(pid)) - startMs;
  await settle();
  const small = load.blockBytes === 4_096;
  const samples: Sample[] = [
    {
      row: load.name,
      unit: small ? 'IOPS' : 'bytes/s',
      column: name,
      value: small ? measured.operationsPerSecond : measured.bytesPerSecond,
    },
  ];
  if (!isLatency(load)) return samples;
  const requests = measured.operationsPerSecond * (secondsEach + rampMs / 1_000);
  const column = { unit: 'µs', column: name } as const;
  return [
    ...samples,
    { row: `${load.name}: latency`, ...column, value: measured.latencyUs },
    {
      row: `${load.name}: processor time of the server`,
      ...column,
      value: (usedMs * 1_000) / requests,
    },
  ];
}
