/** The commands that move a volume from one host to another, as an operator uses them. */
import { expect, test } from 'vitest';
import { createVolume, Daemon, directoryStore, elasticdrive } from '../support/daemon.ts';
import { ConnectionLost, NbdClient } from '../support/nbd-client.ts';
import { TemporaryDirectory } from '../support/programs.ts';

const block = (value: number): Uint8Array => new Uint8Array(4096).fill(value);

test('a volume moves to another host and back, by detaching and by force', async () => {
  await using root = await TemporaryDirectory.make();
  const store = directoryStore(root.join('store'));
  const where = ['--store', store.url];
  await createVolume(store, 'data', '1MiB');
  const flags = ['--lease-time', '1s', '--upload-interval', '1m'];
  await using a = await Daemon.start({ store, directory: root.join('a'), flags });
  await using b = await Daemon.start({ store, directory: root.join('b'), flags });

  const client = await NbdClient.connect(a.socketPath, 'data');
  await client.write(0, block(1));
  await expect(NbdClient.connect(b.socketPath, 'data')).rejects.toThrow(ConnectionLost);
  expect(b.log).toMatch(/Volume data is attached on .* \(epoch 1\)\. Give it up there with/);
  const foreign = await elasticdrive(store, ['volume', 'detach', 'data', ...where], [11]);
  expect(foreign.stderr).toContain('volume data is attached on');

  expect((await a.command('volume', 'detach', 'data')).stdout).toBe('detached data\n');
  await expect(client.read(0, 4096)).rejects.toThrow(ConnectionLost);
  await expect(NbdClient.connect(a.socketPath, 'data')).rejects.toThrow(ConnectionLost);
  const free = await elasticdrive(store, ['volume', 'detach', 'data', ...where]);
  expect(free.stdout).toBe('data is attached nowhere\n');

  const there = await NbdClient.connect(b.socketPath, 'data');
  expect(await there.read(0, 4096)).toEqual(block(1));
  await there.write(0, block(2), true);
  const state = ['--state-dir', root.join('a', 'state')];
  await a.command('volume', 'attach', 'data', '--force');
  const back = await NbdClient.connect(a.socketPath, 'data');
  // It was flushed to the local disk of a host that lives, and not uploaded yet.
  expect(await back.read(0, 4096)).toEqual(block(1));
  await expect.poll(() => there.read(0, 4096).catch(String)).toContain('error 108');
  there.destroy();
  back.destroy();
  await a.command('volume', 'detach', 'data');
  await b.command('volume', 'attach', 'data');

  const showB = ['volume', 'show', 'data', ...where, '--state-dir', root.join('b', 'state')];
  expect((await elasticdrive(store, showB)).stdout).toMatch(
    /set aside +4KiB in 1 segments of epoch 2/,
  );
  const discard = ['volume', 'discard', 'data', '--confirm', 'data', ...where];
  const stateB = ['--state-dir', root.join('b', 'state')];
  expect((await elasticdrive(store, [...discard, ...stateB])).stdout).toContain('discarded 4KiB');
  expect((await elasticdrive(store, [...discard, ...state])).stdout).toContain('nothing of data');
  expect((await elasticdrive(store, showB)).stdout).not.toContain('set aside');
});

test('a host takes over what a lost one had, and deletes it', async () => {
  await using root = await TemporaryDirectory.make();
  const store = directoryStore(root.join('store'));
  await createVolume(store, 'data', '1MiB', '--durability', 'store');
  const flags = ['--lease-time', '1s'];
  const lost = await Daemon.start({ store, directory: root.join('a'), flags });
  const client = await NbdClient.connect(lost.socketPath, 'data');
  await client.write(0, block(1), true);
  await lost.crash();
  const takeOver = [...flags, '--take-over', 'data'];
  const next = await Daemon.start({ store, directory: root.join('b'), flags: takeOver });
  const there = await NbdClient.connect(next.socketPath, 'data');
  expect(await there.read(0, 4096)).toEqual(block(1));
  expect(next.log).toContain('volume taken over');
  await next.crash();
  const remove = ['volume', 'delete', 'data', '--confirm', 'data', '--store', store.url];
  expect((await elasticdrive(store, remove, [11])).stderr).toContain('--take-over');
  await elasticdrive(store, [...remove, '--take-over']);
  const none = await elasticdrive(store, ['volume', 'list', '--store', store.url]);
  expect(none.stdout).toContain('no volume in');
});
