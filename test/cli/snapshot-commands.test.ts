/** `elasticdrive snapshot create`, `list`, `show`, `delete` as a user runs them, with a daemon and without. */
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

const snapshot = (...args: readonly string[]): Promise<ProgramResult> =>
  machines.storeOnly('snapshot', ...args);

async function fill(daemon: Daemon, value: string, mebibytes = 1): Promise<void> {
  const code = `h.pwrite(b"${value}" * ${mebibytes * 2 ** 20}, 0)\nh.shutdown()`;
  await nbdsh(daemon.uri('data'), code);
}

async function firstByte(daemon: Daemon, name: string): Promise<string> {
  return (
    await nbdsh(daemon.uri(name), 'print(chr(h.pread(1, 0)[0]))\nh.shutdown()')
  ).stdout.trim();
}

it('makes one of a volume that clients write; it is listed, shown, read and deleted', async ({
  skip,
}) => {
  skip(missing !== undefined, missing);
  await using daemon = await Daemon.start({ store, directory: root.join('here') });
  await fill(daemon, 'a', 2);
  const flags = ['--description', 'after the batch', '--tag', 'team=billing', '--wait'];
  const made = await on('here', 'snapshot', 'create', 'data', 'first', ...flags);
  expect(made).toMatchObject({ status: 0, stdout: 'created data@first\n', stderr: '' });
  await fill(daemon, 'b');
  const second = await on('here', 'snapshot', 'create', 'data@second', '--json', '--wait');
  expect(JSON.parse(second.stdout)).toMatchObject({
    ...{ volume: 'data', name: 'second', state: 'completed', sizeBytes: 64 * 2 ** 20 },
    ...{ store: store.url, description: '', tags: {}, clones: [] },
  });
  await fill(daemon, 'c');
  expect(await firstByte(daemon, 'data@first')).toBe('a');
  expect(await firstByte(daemon, 'data@second')).toBe('b');

  const listed = (await snapshot('list', 'data')).stdout;
  expect(listed).toMatch(/^SNAPSHOT +SIZE +CREATED +STATE +CLONES +DESCRIPTION\n/);
  expect(listed).toMatch(/\ndata@first +64MiB +\S+Z +completed +0 +after the batch\n/);
  expect(JSON.parse((await snapshot('list', '--json')).stdout)).toMatchObject([
    { name: 'first', tags: { team: 'billing' } },
    { name: 'second' },
  ]);
  // Its second MiB is in the later ones, too.
  const shown = (await snapshot('show', 'data@first')).stdout;
  expect(shown).toMatch(/\nstate +completed\n/);
  expect(shown).toMatch(/\nonly here +1MiB of data\n/);
  expect(shown).toMatch(/\ntag +team=billing\n/);
  const { id } = JSON.parse((await snapshot('show', 'data@second', '--json')).stdout) as {
    id: string;
  };
  expect((await snapshot('show', `data@${id}`)).stdout).toMatch(/^name +second\n/);
  expect((await on('there', 'volume', 'show', 'data')).stdout).toMatch(
    /\nsnapshot +first, of \S+Z, completed\nsnapshot +second, /,
  );

  expect(await snapshot('delete', 'data@first')).toMatchObject({
    status: 0,
    stdout: `deleted data@first from ${store.url}\n`,
  });
  expect((await snapshot('list', 'data')).stdout).not.toContain('first');
  expect((await snapshot('delete', 'data@first')).status).toBe(10);
  // The daemon goes on over a manifest that another has changed.
  expect((await on('here', 'snapshot', 'create', 'data', 'third', '--wait')).status).toBe(0);
  expect(await firstByte(daemon, 'data@second')).toBe('b');
});

it('makes one where no daemon has the volume, and not where another host has it', async ({
  skip,
}) => {
  skip(missing !== undefined, missing);
  expect((await snapshot('list')).stdout).toBe('no snapshot of any volume\n');
  const empty = await on('there', 'snapshot', 'create', 'data');
  expect(empty.stdout).toMatch(/^created data@\d{4}-\d\d-\d\dT\d{6}Z\n$/);
  const daemon = await Daemon.start({ store, directory: root.join('here') });
  await fill(daemon, 'a');
  const refused = await on('there', 'snapshot', 'create', 'data', 'foreign');
  expect(refused.status).toBe(11);
  expect(refused.stderr).toContain('is attached on');
  await daemon.crash();
  // Where its journal is, what was answered is in it.
  const after = await on('here', 'snapshot', 'create', 'data', 'after', '--json');
  expect(JSON.parse(after.stdout)).toMatchObject({ state: 'completed', name: 'after' });
  expect((await snapshot('show', 'data@after')).stdout).toMatch(/\nonly here +0B of data\n/);
});

it('refuses what cannot be, and says what to do', async () => {
  await on('here', 'snapshot', 'create', 'data', 'one');
  const twice = await on('here', 'snapshot', 'create', 'data', 'one');
  expect(twice).toMatchObject({ status: 1, stdout: '' });
  expect(twice.stderr).toContain('there is a snapshot data@one already');
  for (const [status, ...args] of [
    [2, 'create', 'data', 'a:b'],
    [2, 'create', 'data@one', 'two'],
    [2, 'create', 'data', '--tag', 'novalue'],
    [2, 'show', 'data'],
    [2, 'delete', 'data'],
    [10, 'create', 'nothing'],
    [10, 'show', 'data@nothing'],
    [10, 'list', 'nothing'],
  ] as const) {
    const ran = await (args[0] === 'create'
      ? on('here', 'snapshot', ...args.map(String))
      : snapshot(...args.map(String)));
    expect(ran, args.join(' ')).toMatchObject({
      status,
      stdout: '',
    });
  }
  await on('here', 'volume', 'clone', 'data@one', 'copy');
  const cloned = await snapshot('delete', 'data@one');
  expect(cloned).toMatchObject({ status: 1, stdout: '' });
  expect(cloned.stderr).toContain('copy is a clone of it');
  expect((await snapshot('show', 'data@one')).stdout).toMatch(/\nclones +copy\n/);
});
