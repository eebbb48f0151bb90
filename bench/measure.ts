/** Runs loads with fio and reduces what they gave to medians. */
import { readFile } from 'node:fs/promises';
import { run } from '../test/support/programs.ts';

const mebibyte = 2 ** 20;
/** For so long a load that is limited by time goes on before it is measured. */
export const rampMs = 500;

/** Where a load goes: an NBD export, or a file for peers that only have a mount. */
export type Target = { readonly uri: string } | { readonly file: string };

interface TimeLimit {
  readonly seconds: number;
  /** Ends earlier when each block of the range was touched once; each job has its own part then. */
  readonly once?: boolean;
}

export interface Load {
  readonly name: string;
  readonly kind: 'read' | 'randread' | 'write' | 'randwrite';
  readonly blockBytes: number;
  /** Requests in flight in each job. */
  readonly depth: number;
  /** Clients, each with a connection of its own. */
  readonly jobs?: number;
  /** A flush after each write. */
  readonly flush?: boolean;
  /** The range of the device that the load touches. */
  readonly rangeBytes: number;
  /** How long it goes on; or, for a load that has an end, how many bytes it moves. */
  readonly limit: TimeLimit | { readonly bytes: number };
}

export interface Measurement {
  readonly operationsPerSecond: number;
  readonly bytesPerSecond: number;
  /** From the submission of a request to its answer, on average. */
  readonly latencyUs: number;
  readonly seconds: number;
}

interface FioDirection {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly lat_ns: { readonly mean: number };
  readonly runtime: number;
}

/**
 * Runs one load. The data cannot be compressed and never repeat: `refill_buffers`. fio's own work is
 * part of every figure, the same for each server.
 */
export async function measure(target: Target, load: Load): Promise<Measurement> {
  const { kind, blockBytes, depth, jobs = 1, flush = false, rangeBytes, limit } = load;
  const engine =
    'uri' in target
      ? ['--ioengine=nbd', `--uri=${target.uri}`]
      : ['--ioengine=psync', `--filename=${target.file}`];
  const once = 'seconds' in limit && limit.once === true;
  const part = once ? Math.floor(rangeBytes / jobs) : rangeBytes;
  const range = [`--size=${part}`, ...(once ? [`--offset_increment=${part}`] : ['--norandommap'])];
  const { stdout } = await run(
    'fio',
    [
      ...['--name=load', '--output-format=json', '--thread', '--group_reporting'],
      ...['--randrepeat=0', '--refill_buffers', '--invalidate=0'],
      ...[`--rw=${kind}`, `--bs=${blockBytes}`, `--iodepth=${depth}`, `--numjobs=${jobs}`],
      ...[...range, ...(flush ? ['--fsync=1'] : []), ...engine, ...extentOf(limit)],
    ],
    { timeoutMs: 600_000 },
  );
  const report = JSON.parse(stdout.slice(stdout.indexOf('{'))) as {
    jobs: { error: number; read: FioDirection; write: FioDirection }[];
  };
  const [job] = report.jobs;
  if (job === undefined || job.error !== 0)
    throw new Error(`fio failed on ${load.name}: ${stdout}`);
  const direction = kind === 'read' || kind === 'randread' ? job.read : job.write;
  return {
    operationsPerSecond: direction.iops,
    bytesPerSecond: direction.bw_bytes,
    latencyUs: direction.lat_ns.mean / 1_000,
    seconds: direction.runtime / 1_000,
  };
}

function extentOf(limit: Load['limit']): string[] {
  if (!('seconds' in limit)) return [`--io_size=${limit.bytes}`];
  const runtime = `--runtime=${limit.seconds}`;
  return limit.once === true ? [runtime] : [runtime, '--time_based', `--ramp_time=${rampMs}ms`];
}

/** Processor time that a process has used so far, that of threads that have ended too; Linux only. */
export async function processorMs(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1');
  // After the name in brackets; user and system time are fields 14 and 15, in hundredths of a second.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Writes the range once, from its beginning, so that there is something to read. */
export async function fill(target: Target, rangeBytes: number): Promise<void> {
  const limit = { bytes: rangeBytes };
  await measure(target, {
    name: 'fill',
    kind: 'write',
    blockBytes: mebibyte,
    depth: 4,
    rangeBytes,
    limit,
  });
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  if (low === undefined || high === undefined) throw new Error('the median of nothing');
  return (low + high) / 2;
}
