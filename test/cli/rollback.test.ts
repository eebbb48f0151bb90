/** `elasticdrive volume rollback` as a user runs it, with a daemon and without. */
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { CommandMachines } from '../support/command-machine.ts';
import { Daemon, type TestStore } from '../support/daemon.ts';
import { nbdsh } from '../support/nbdsh.ts';
import type { ProgramResult, TemporaryDirectory } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';

const missing = missingPrograms({ nbdsh: 'python3-libnbd' });
let machines: CommandMachines;
let root: TemporaryDirectory;
let store: TestStore;
beforeEach(async () => {
  machines = await CommandMachines.make();
  ({ root, store } = machines);
});
afterEach(() => machines[Symbol.asyncDispose]());

const on = (machine: string, ...args: readonly string[]): Promise<ProgramResult> =>
  machines.on(machine, ...args);

function rollback(machine: string, ...args: readonly string[]): Promise<ProgramResult> {
  return on(machine, 'volume', 'rollback', 'data', ...args, '--confirm', 'data');
}

const fill = (value: string) => `h.pwrite(b"${value}" * 1048576, 0)\nh.shutdown()`;
const firstByte = 'print(chr(h.pread(1, 0)[0]))\nh.shutdown()';

it('goes back to a snapshot through the daemon, and forth again', async ({ skip }) => {
  skip(missing !== undefined, missing);
  await using daemon = await Daemon.start({ store, directory: root.join('here') });
  await nbdsh(daemon.uri('data'), fill('a'));
  await on('here', 'snapshot', 'create', 'data', 'good', '--wait');
  await nbdsh(daemon.uri('data'), fill('b'));
  const done = await rollback('here', 'good', '--json');
  expect(done.stderr).toBe('');
  const said = JSON.parse(done.stdout) as { before: { name: string } };
  expect(said).toMatchObject({ rolledBack: 'data', to: 'good', before: { isCompleted: true } });
  expect((await nbdsh(daemon.uri('data'), firstByte)).stdout).toBe('a\n');
  const before = `data@${said.before.name}`;
  expect((await nbdsh(daemon.uri(before), firstByte)).stdout).toBe('b\n');
  expect((await rollback('here', before)).stdout).toMatch(
    new RegExp(
      `^data is again what it was at ${said.before.name}, \\S+Z; what it was until now is `,
    ),
  );
  expect((await nbdsh(daemon.uri('data'), firstByte)).stdout).toBe('b\n');
  expect(daemon.log).toContain('volume rolled back');
});

it('is refused while a client has the volume, and where another host has it', async ({ skip }) => {
  skip(missing !== undefined, missing);
  await using daemon = await Daemon.start({ store, directory: root.join('here') });
  await nbdsh(daemon.uri('data'), fill('a'));
  await on('here', 'snapshot', 'create', 'data', 'good', '--wait');
  const line = [
    resolve('bin/elasticdrive.js'),
    'volume',
    'rollback',
    'data',
    'good',
    '--confirm',
    'data',
  ];
  const socket = join(root.join('here'), 'state', 'control.sock');
  const words = [process.execPath, ...line, '--store', store.url, '--control-socket', socket];
  const inside = `import subprocess\nresult = subprocess.run(${JSON.stringify(words)}, capture_output=True, text=True)\nprint(result.returncode, result.stderr)\nh.shutdown()`;
  const { stdout } = await nbdsh(daemon.uri('data'), inside);
  expect(stdout).toMatch(/^11 .*not rolled back while a client has it.*volume detach data/);
  expect((await rollback('there', 'good')).status).toBe(11);
  expect((await nbdsh(daemon.uri('data'), firstByte)).stdout).toBe('a\n');
});

it('needs no daemon, and says what is missing', async () => {
  await on('here', 'snapshot', 'create', 'data', 'empty');
  const done = await rollback('here', 'data@empty');
  expect(done.stdout).toMatch(/^data is again what it was at empty, /);
  expect((await rollback('here', 'none')).status).toBe(10);
  expect((await rollback('here', 'other@empty')).status).toBe(2);
  const unsure = await on('here', 'volume', 'rollback', 'data', 'empty', '--confirm', 'date');
  expect(unsure.status).toBe(2);
  expect(unsure.stderr).toContain('--confirm data');
});
