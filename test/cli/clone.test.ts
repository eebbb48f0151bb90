/** `elasticdrive volume clone` as a user runs it, with a daemon and without, and what lists show of it. */
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

const volume = (machine: string, ...args: readonly string[]): Promise<ProgramResult> =>
  machines.on(machine, 'volume', ...args);
const storeOnly = (...args: readonly string[]): Promise<ProgramResult> =>
  machines.storeOnly('volume', ...args);

const fill = (value: string) => `h.pwrite(b"${value}" * 1048576, 0)\nh.shutdown()`;

/** The first byte of an export. */
async function firstByte(daemon: Daemon, name: string): Promise<string> {
  const code = 'print(chr(h.pread(4096, 1044480)[0]))\nh.shutdown()';
  return (await nbdsh(daemon.uri(name), code)).stdout.trim();
}

it('clones a volume that clients write, at once, and the daemon offers it', async ({ skip }) => {
  skip(missing !== undefined, missing);
  await using daemon = await Daemon.start({ store, directory: root.join('here') });
  await nbdsh(daemon.uri('data'), fill('a'));
  const made = await volume('here', 'clone', 'data', 'test', '--size', '1GiB');
  expect(made).toMatchObject({ status: 0, stderr: '' });
  expect(made.stdout).toBe(`created test, 1GiB, a clone of data in ${store.url}\n`);
  await nbdsh(daemon.uri('data'), fill('b'));
  expect(await firstByte(daemon, 'test')).toBe('a');
  await nbdsh(daemon.uri('test'), fill('c'));
  expect(await firstByte(daemon, 'data')).toBe('b');

  // Another machine cannot say what this one has not uploaded; a snapshot is in the store.
  const elsewhere = await volume('there', 'clone', 'data', 'other');
  expect(elsewhere.status).toBe(11);
  expect(elsewhere.stderr).toContain('data is attached on');
  const { stdout: shown } = await storeOnly('show', 'test', '--json');
  const { family } = JSON.parse(shown) as { family: { ancestors: { snapshot: string }[] } };
  const [{ snapshot } = { snapshot: '' }] = family.ancestors;
  expect((await volume('there', 'clone', `data@${snapshot}`, 'other')).status).toBe(0);
  await using there = await Daemon.start({ store, directory: root.join('there') });
  expect(await firstByte(there, 'other')).toBe('a');
});

it('clones a volume that nobody has, and one that a crashed daemon left', async ({ skip }) => {
  skip(missing !== undefined, missing);
  const here = { store, directory: root.join('here') };
  await using daemon = await Daemon.start(here);
  await nbdsh(daemon.uri('data'), fill('a'));
  await daemon.stop();
  expect((await volume('there', 'clone', 'data', 'first')).status).toBe(0);
  await using second = await Daemon.start({ ...here, flags: ['--upload-interval', '1h'] });
  await nbdsh(second.uri('data'), fill('b'));
  await second.crash();
  expect((await volume('there', 'clone', 'data', 'second')).status).toBe(11);
  // Where its journal is, what was answered is in the clone.
  expect(await volume('here', 'clone', 'data', 'second')).toMatchObject({ status: 0, stderr: '' });
  await using third = await Daemon.start(here);
  expect(await firstByte(third, 'first')).toBe('a');
  expect(await firstByte(third, 'second')).toBe('b');
});

it('shows the family, and deletes no ancestor', async () => {
  expect((await storeOnly('clone', 'data', 'dev')).status).toBe(0);
  expect((await storeOnly('clone', 'dev', 'test')).status).toBe(0);
  const { stdout } = await storeOnly('list');
  expect(stdout).toMatch(/^NAME .* CLONE OF +STORE\n/);
  expect(stdout).toMatch(/\ndata .* - +- +file:/);
  expect(stdout).toMatch(/\ndev .* data@clone-dev-[0-9a-f]{8} +file:/);
  expect(stdout).toMatch(/\ntest .* dev@clone-test-[0-9a-f]{8} +file:/);
  const listed = JSON.parse((await storeOnly('list', '--json')).stdout) as unknown;
  expect(listed).toMatchObject([
    { name: 'data', cloneOf: null },
    { name: 'dev', cloneOf: { volume: 'data' } },
    { name: 'test', cloneOf: { volume: 'dev' } },
  ]);
  const shown = (await storeOnly('show', 'test')).stdout;
  expect(shown).toMatch(/\nclone of +dev@clone-test-\w+, of data@clone-dev-\w+\n/);
  expect((await storeOnly('show', 'data')).stdout).toMatch(/\nclones +dev, test\n/);

  const refused = await storeOnly('delete', 'data', '--confirm', 'data');
  expect(refused.status).toBe(1);
  expect(refused.stderr).toBe(
    'elasticdrive: volume data cannot be deleted: dev, test are clones of it. Flatten or delete them first\n',
  );
  for (const name of ['test', 'dev', 'data']) {
    expect((await storeOnly('delete', name, '--confirm', name)).status).toBe(0);
  }
});

it.each([
  [['clone', 'data', 'data'], 1, 'there is a volume data'],
  [['clone', 'none', 'test'], 10, 'there is no volume "none"'],
  [['clone', 'data@none', 'test'], 10, 'there is no snapshot data@none'],
  [['clone', 'data@a@b', 'test'], 10, 'there is no snapshot data@a@b'],
  [['clone', 'data', 'test', '--size', '1MiB'], 2, 'a clone of data@'],
  [['clone', 'data', 'no/name'], 2, '"no/name" cannot name a volume'],
])('refuses %j with status %i', async (args, status, message) => {
  const result = await storeOnly(...args);
  expect(result.status).toBe(status);
  expect(result.stderr).toContain(message);
  const listed = JSON.parse((await storeOnly('list', '--json')).stdout) as unknown[];
  expect(listed).toHaveLength(1);
});
