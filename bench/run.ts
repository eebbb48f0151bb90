/**
 * `npm run bench [-- --quick] [--json] [--only=limits|local|store|clones|space|snapshots|encryption]`: starts the peers beside us, takes
 * turns, repeats, and prints medians and ratios. Absolute figures are of this machine at this hour;
 * the ratios are what to look at.
 */
import { rm } from 'node:fs/promises';
import { cpus, release } from 'node:os';
import { parseArgs } from 'node:util';
import { benchPackages, installMissing, testPackages } from '../scripts/prerequisites.ts';
import { run, TemporaryDirectory } from '../test/support/programs.ts';
import { measureClones } from './clones.ts';
import { goals } from './goals.ts';
import { measureLimits } from './limits.ts';
import { measureSnapshotLoad } from './snapshot-load.ts';
import { measureEncryption } from './encryption.ts';
import { measureSpace } from './space.ts';
import { measureLocal } from './local.ts';
import { measureObjectStore } from './object-store.ts';
import { daemonFlags } from './peers.ts';
import {
  judge,
  type Limit,
  limitTable,
  rowsOf,
  type Sheet,
  table,
  verdictTable,
} from './report.ts';

const mebibyte = 2 ** 20;
const gibibyte = 2 ** 30;
const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    only: { type: 'string' },
  },
});
const parts = ['limits', 'local', 'store', 'clones', 'space', 'snapshots', 'encryption'];
if (values.only !== undefined && !parts.includes(values.only))
  throw new Error(`--only takes one of ${parts.join(', ')}`);

const settings = values.quick
  ? {
      touchedBytes: 2 * gibibyte,
      limitSeconds: 1,
      local: { rounds: 3, secondsEach: 1, workingSetBytes: 128 * mebibyte },
      clones: { rounds: 1, secondsEach: 1, workingSetBytes: 64 * mebibyte },
      space: { rounds: 3, secondsEach: 3, workingSetBytes: 256 * mebibyte },
      snapshots: { rounds: 3, secondsEach: 20, workingSetBytes: 256 * mebibyte },
      encryption: { rounds: 5, secondsEach: 2, workingSetBytes: 256 * mebibyte },
      store: {
        rounds: 1,
        secondsEach: 2,
        sequentialBytes: 256 * mebibyte,
        randomBytes: 64 * mebibyte,
        slowRandomBytes: 2 * mebibyte,
      },
    }
  : {
      touchedBytes: 8 * gibibyte,
      limitSeconds: 4,
      local: { rounds: 3, secondsEach: 2, workingSetBytes: 192 * mebibyte },
      clones: { rounds: 3, secondsEach: 3, workingSetBytes: 128 * mebibyte },
      space: { rounds: 5, secondsEach: 5, workingSetBytes: 512 * mebibyte },
      snapshots: { rounds: 30, secondsEach: 60, workingSetBytes: 512 * mebibyte },
      encryption: { rounds: 7, secondsEach: 5, workingSetBytes: 512 * mebibyte },
      store: {
        rounds: 3,
        secondsEach: 5,
        sequentialBytes: 1_024 * mebibyte,
        randomBytes: 512 * mebibyte,
        slowRandomBytes: 8 * mebibyte,
      },
    };

const say = (line: string): void => console.error(line);
await installMissing({ ...testPackages, ...benchPackages }, say);
const sheets: Sheet[] = [];
let limits: Limit[] = [];
await using root = await TemporaryDirectory.make();
process.env['NODE_COMPILE_CACHE'] = root.join('compile-cache');
say('touching memory');
await touchMemory(root, settings.touchedBytes);
if (values.only === undefined || values.only === 'limits') {
  limits = await measureLimits(root, settings.limitSeconds, say);
}
if (values.only === undefined || values.only === 'local')
  sheets.push(await measureLocal(root, settings.local, say));
if (values.only === undefined || values.only === 'store') {
  sheets.push(await measureObjectStore(settings.store, say));
}
if (values.only === undefined || values.only === 'clones') {
  const { limits: ofClones, sheet } = await measureClones(root, settings.clones, say);
  limits = [...limits, ...ofClones];
  sheets.push(sheet);
}
if (values.only === undefined || values.only === 'space')
  limits = [...limits, ...(await measureSpace(root, settings.space, say))];
if (values.only === undefined || values.only === 'snapshots')
  limits = [...limits, ...(await measureSnapshotLoad(root, settings.snapshots, say))];
if (values.only === undefined || values.only === 'encryption')
  limits = [...limits, ...(await measureEncryption(root, settings.encryption, say))];

const machine = {
  processors: cpus().map(({ model }) => model),
  kernel: release(),
  node: process.version,
};
const verdicts = judge(goals, sheets);
if (values.json) {
  const measured = sheets.map((sheet) => ({ ...sheet, rows: rowsOf(sheet) }));
  console.log(
    JSON.stringify({ machine, settings, daemonFlags, measured, verdicts, limits }, undefined, 2),
  );
} else {
  const megabytes = (bytes: number): string => `${bytes / mebibyte} MiB`;
  console.log(
    `${machine.processors.length} × ${machine.processors[0] ?? '?'}, Linux ${machine.kernel}`,
  );
  console.log(`Node ${machine.node}; our daemon runs with ${daemonFlags.join(' ')}`);
  console.log(
    `Medians of ${settings.local.rounds} rounds (store: ${settings.store.rounds}); in brackets ` +
      `ours divided by theirs. Data that cannot be compressed. Working set: locally ` +
      `${megabytes(settings.local.workingSetBytes)}; in the store ` +
      `${megabytes(settings.store.sequentialBytes)} written and read in order, ` +
      `${megabytes(settings.store.randomBytes)} of random writes over 2 GiB.\n`,
  );
  for (const sheet of sheets) console.log(table(sheet));
  if (sheets.length > 0) console.log(verdictTable(verdicts));
  if (limits.length > 0) console.log(limitTable(limits));
}

/**
 * A virtual machine may get its memory only when it first touches it, at a fifth of the speed. Who
 * writes new files pays for that, who writes one file again does not: so all is touched before.
 */
async function touchMemory(directory: TemporaryDirectory, bytes: number): Promise<void> {
  const path = directory.join('touch');
  const count = String(bytes / mebibyte);
  await run('dd', ['if=/dev/zero', `of=${path}`, 'bs=1M', `count=${count}`, 'status=none']);
  await rm(path);
}
