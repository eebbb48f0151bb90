/** `elasticdrive volume flatten` as a user runs it, with a daemon and without. */
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

/** Noise, the same for the same number. */
const fill = (seed: number) => `
import random
r = random.Random(${seed})
for at in range(0, 8 << 20, 1 << 20): h.pwrite(r.randbytes(1 << 20), at)
h.shutdown()
`;

async function sumOf(daemon: Daemon, name: string): Promise<string> {
  const code = `
import hashlib
sum = hashlib.sha256()
for at in range(0, 8 << 20, 1 << 20): sum.update(h.pread(1 << 20, at))
print(sum.hexdigest())
h.shutdown()
`;
  return (await nbdsh(daemon.uri(name), code)).stdout;
}

it('makes a served clone independent, whose ancestor is deleted then', async ({ skip }) => {
  skip(missing !== undefined, missing);
  await using daemon = await Daemon.start({ store, directory: root.join('here') });
  await nbdsh(daemon.uri('data'), fill(1));
  expect((await volume('here', 'clone', 'data', 'dev')).status).toBe(0);
  const sum = await sumOf(daemon, 'dev');
  expect((await volume('here', 'clone', 'dev', 'test')).status).toBe(0);
  const refused = await volume('here', 'flatten', 'dev');
  expect(refused.status).toBe(1);
  expect(refused.stderr).toContain(
    'volume dev cannot be flattened: test is a clone of it. Flatten or delete that first',
  );
  const flattened = await volume('here', 'flatten', 'test');
  expect(flattened).toMatchObject({ status: 0, stderr: '' });
  expect(flattened.stdout).toMatch(
    /^test needs no other volume any more; \S+ were stored for that\n$/,
  );
  const { stdout } = await volume('here', 'flatten', 'dev', '--json');
  expect(JSON.parse(stdout)).toMatchObject({ flattened: 'dev', wasClone: true });
  expect((await volume('here', 'flatten', 'data')).stdout).toBe(
    'data is no clone: there is nothing to do\n',
  );
  const listed = JSON.parse((await storeOnly('list', '--json')).stdout) as unknown;
  expect(listed).toMatchObject([
    { name: 'data', cloneOf: null },
    { name: 'dev', cloneOf: null },
    { name: 'test', cloneOf: null },
  ]);
  expect((await storeOnly('show', 'data')).stdout).not.toMatch(/\nclones/);
  // The snapshot that was made for the clone went with its last one.
  const shown = JSON.parse((await storeOnly('show', 'data', '--json')).stdout) as {
    snapshots: unknown[];
  };
  expect(shown.snapshots).toEqual([]);
  expect((await volume('here', 'detach', 'data')).status).toBe(0);
  expect((await storeOnly('delete', 'data', '--confirm', 'data')).status).toBe(0);
  expect(await sumOf(daemon, 'dev')).toBe(sum);
  expect(await sumOf(daemon, 'test')).toBe(sum);
  await daemon.stop();
  for (const name of ['dev', 'test']) {
    const checked = await storeOnly('check', name, '--read-data');
    expect(checked).toMatchObject({ status: 0, stderr: '' });
  }
});

it('flattens a clone that nobody has, and asks before it gives up the past', async ({ skip }) => {
  skip(missing !== undefined, missing);
  const here = { store, directory: root.join('here') };
  let sum: string;
  {
    await using daemon = await Daemon.start(here);
    await nbdsh(daemon.uri('data'), fill(2));
    sum = await sumOf(daemon, 'data');
    await daemon.stop();
  }
  expect((await storeOnly('clone', 'data', 'dev')).status).toBe(0);
  expect((await storeOnly('set', 'dev', '--retain', '24h')).status).toBe(0);
  {
    await using daemon = await Daemon.start(here);
    expect(await sumOf(daemon, 'dev')).toBe(sum);
    await daemon.stop();
  }
  const refused = await volume('here', 'flatten', 'dev');
  expect(refused.status).toBe(2);
  expect(refused.stderr).toMatch(
    /volume dev can be had as of any time since 20\S+Z, and after flattening only as of later times: --confirm dev says that this may be/,
  );
  expect((await volume('here', 'flatten', 'dev', '--confirm', 'data')).status).toBe(2);
  expect(await volume('here', 'flatten', 'dev', '--confirm', 'dev')).toMatchObject({
    status: 0,
    stderr: '',
  });
  expect((await storeOnly('delete', 'data', '--confirm', 'data')).status).toBe(0);
  expect((await volume('here', 'flatten', 'nothing')).status).toBe(10);
  await using daemon = await Daemon.start(here);
  expect(await sumOf(daemon, 'dev')).toBe(sum);
});
