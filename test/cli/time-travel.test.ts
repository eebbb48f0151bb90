/** Going back to a moment of a volume, as a user does it while clients write. */
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore, elasticdrive } from '../support/daemon.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { type ProgramResult, run, TemporaryDirectory } from '../support/programs.ts';

const command = resolve('bin/elasticdrive.js');

function blockOf(letter: string): Buffer {
  return Buffer.alloc(4096, letter);
}

/** The time now, once a millisecond has passed: what was answered before it is before it. */
async function soon(): Promise<string> {
  const startMs = Date.now();
  while (Date.now() <= startMs) await new Promise((resolve) => setImmediate(resolve));
  return new Date().toISOString();
}

async function firstBlock(daemon: Daemon, name: string): Promise<string> {
  const client = await NbdClient.connect(daemon.socketPath, name);
  const bytes = await client.read(0, 4096);
  client.destroy();
  return Buffer.from(bytes).toString('latin1', 0, 1);
}

it('gives a volume as of a moment as an export, and a clone of it, while it is written', async () => {
  await using root = await TemporaryDirectory.make();
  const store = directoryStore(root.join('store'));
  const where = ['--store', store.url, '--state-dir', join(root.join('here'), 'state')];
  const volume = (...args: readonly string[]): Promise<ProgramResult> =>
    run(process.execPath, [command, 'volume', ...args, ...where], { statuses: [0, 1, 2, 10, 11] });
  await createVolume(store, 'data', '1GiB');
  await elasticdrive(store, ['volume', 'set', 'data', '--retain', '1h', '--store', store.url]);
  const early = await soon();
  await using daemon = await Daemon.start({ store, directory: root.join('here') });
  const client = await NbdClient.connect(daemon.socketPath, 'data');
  await client.write(0, blockOf('a'));
  const first = await soon();
  await client.write(0, blockOf('b'));
  const second = await soon();
  await client.write(0, blockOf('c'));
  // Nothing of that is in the store yet.
  expect(await firstBlock(daemon, `data@${first}`)).toBe('a');
  expect(await firstBlock(daemon, `data@${second}`)).toBe('b');
  expect(await firstBlock(daemon, 'data')).toBe('c');
  const cloned = await volume('clone', 'data', 'then', '--at', first);
  expect(cloned.stderr + cloned.stdout).toContain('created then, 1GiB, a clone of data');
  expect((await volume('clone', `data@${second}`, 'later')).status).toBe(0);
  await client.write(0, blockOf('d'));
  expect(await firstBlock(daemon, 'then')).toBe('a');
  expect(await firstBlock(daemon, 'later')).toBe('b');
  const tooEarly = await volume('clone', 'data', 'none', '--at', early);
  expect([tooEarly.status, tooEarly.stderr]).toEqual([2, expect.stringContaining('or later')]);
  const future = await volume('clone', 'data', 'none', '--at', '2999-01-01T00:00:00Z');
  expect([future.status, future.stderr]).toEqual([2, expect.stringContaining('in the future')]);
  const nonsense = await volume('clone', 'data', 'none', '--at', 'yesterday');
  expect([nonsense.status, nonsense.stderr]).toEqual([2, expect.stringContaining('2026-11-20T')]);
  client.destroy();
});
