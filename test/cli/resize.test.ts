/** `elasticdrive volume resize` as a user runs it, with clients that are connected meanwhile. */
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import {
  createVolume,
  Daemon,
  directoryStore,
  elasticdrive,
  type TestStore,
} from '../support/daemon.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { type ProgramResult, run, Server, TemporaryDirectory } from '../support/programs.ts';

const command = resolve('bin/elasticdrive.js');
const gibibyte = 2 ** 30;
const block = Buffer.alloc(4096, 'x');
/** What the protocol says of reads and of writes past the end. */
const [invalid, noSpace] = [22, 28];

interface Machine {
  readonly store: TestStore;
  /** Resizes from here; with `elsewhere`, from a machine that shares nothing but the store. */
  resize(...args: readonly string[]): Promise<ProgramResult>;
  resizeElsewhere(...args: readonly string[]): Promise<ProgramResult>;
  start(): Promise<Daemon>;
}

async function machineAt(root: TemporaryDirectory): Promise<Machine> {
  const store = directoryStore(root.join('store'));
  await createVolume(store, 'data', '1GiB');
  const resizeFrom =
    (host: string) =>
    (...args: readonly string[]) => {
      const where = ['--store', store.url, '--state-dir', join(root.join(host), 'state')];
      const statuses = [0, 1, 2, 10, 11];
      return run(process.execPath, [command, 'volume', 'resize', ...args, ...where], { statuses });
    };
  return {
    store,
    resize: resizeFrom('here'),
    resizeElsewhere: resizeFrom('elsewhere'),
    start: () => Daemon.start({ store, directory: root.join('here') }),
  };
}

it('grows a volume under its clients, for good', async () => {
  await using root = await TemporaryDirectory.make();
  const machine = await machineAt(root);
  let daemon = await machine.start();
  await using _last = { [Symbol.asyncDispose]: () => daemon[Symbol.asyncDispose]() };
  const client = await NbdClient.connect(daemon.socketPath, 'data');
  await client.write(0, block);
  await expect(client.write(gibibyte, block)).rejects.toMatchObject({ number: noSpace });
  const { status, stdout } = await machine.resize('data', '3GiB');
  expect({ status, stdout: stdout.split('\n')[0] }).toEqual({
    status: 0,
    stdout: 'data is of 3GiB now, it was of 1GiB',
  });
  // The connection that was open before, as a kernel has it that was told the new size.
  await client.write(3 * gibibyte - 4096, block);
  await expect(client.write(3 * gibibyte, block)).rejects.toMatchObject({ number: noSpace });
  await expect(client.read(3 * gibibyte - 512, 4096)).rejects.toMatchObject({ number: invalid });
  const another = await NbdClient.connect(daemon.socketPath, 'data');
  expect(another.sizeBytes).toBe(3 * gibibyte);
  expect(await daemon.status()).toMatchObject({ volumes: [{ sizeBytes: 3 * gibibyte }] });
  const listed = await elasticdrive(machine.store, [
    ...['volume', 'list', '--json', '--store', machine.store.url],
  ]);
  expect(JSON.parse(listed.stdout)).toMatchObject([{ name: 'data', sizeBytes: 3 * gibibyte }]);
  await client.flush();
  await daemon.crash();
  daemon = await machine.start();
  const back = await NbdClient.connect(daemon.socketPath, 'data');
  expect(back.sizeBytes).toBe(3 * gibibyte);
  expect(Buffer.compare(await back.read(3 * gibibyte - 4096, 4096), block)).toBe(0);
  back.destroy();
});

it('is seen through a proxy, by who connects anew and by who was there before', async () => {
  await using root = await TemporaryDirectory.make();
  const machine = await machineAt(root);
  await using daemon = await machine.start();
  const uri = daemon.uri('data');
  await using proxy = new Server(process.execPath, [
    ...[command, 'proxy', uri, '--at', 'nbd://127.0.0.1:0'],
  ]);
  const port = Number(await proxy.until(() => /nbd:\/\/127\.0\.0\.1:(\d+)/.exec(proxy.log)?.[1]));
  const before = await NbdClient.connect(port, 'data');
  expect(before.sizeBytes).toBe(gibibyte);
  await expect(before.write(gibibyte, block)).rejects.toMatchObject({ number: noSpace });
  await machine.resize('data', '2GiB');
  await before.write(2 * gibibyte - 4096, block);
  await machine.resize('data', '3GiB');
  const after = await NbdClient.connect(port, 'data');
  expect(after.sizeBytes).toBe(3 * gibibyte);
  expect(Buffer.compare(await after.read(2 * gibibyte - 4096, 4096), block)).toBe(0);
  await after.flush();
  before.destroy();
  after.destroy();
  expect(await proxy.stop()).toBe(0);
});

it('does it in the store where there is no daemon, and cuts off only what nobody has', async () => {
  await using root = await TemporaryDirectory.make();
  const machine = await machineAt(root);
  const said = async (...args: readonly string[]): Promise<readonly [number, string]> => {
    const { status, stdout, stderr } = await machine.resize(...args);
    return [status, stdout + stderr];
  };
  const shrink = ['--shrink', '--confirm', 'data'];
  expect(await said('data', '2GiB', '--json')).toEqual([
    0,
    `${JSON.stringify({ resized: 'data', beforeBytes: gibibyte, sizeBytes: 2 * gibibyte })}\n`,
  ]);
  expect(await said('data', '2GiB')).toEqual([0, 'data is of 2GiB already\n']);
  expect(await said('nothing', '2GiB')).toEqual([10, expect.stringContaining('no volume')]);
  expect(await said('data', '1GiB')).toEqual([2, expect.stringContaining('--shrink')]);
  expect(await said('data', '1GiB', '--shrink')).toEqual([
    2,
    expect.stringContaining('--confirm data'),
  ]);
  expect(await said('data', '65TiB')).toEqual([2, expect.stringContaining('up to 64 TiB')]);
  expect(await said('data', 'much')).toEqual([2, expect.stringContaining('"much" is no size')]);
  await using daemon = await machine.start();
  const client = await NbdClient.connect(daemon.socketPath, 'data');
  await client.write(2 * gibibyte - 4096, block);
  await client.write(0, block);
  const attached = await said('data', '1GiB', ...shrink);
  expect(attached).toEqual([11, expect.stringContaining('volume detach data')]);
  const elsewhere = await machine.resizeElsewhere('data', '4GiB');
  expect(elsewhere.status).toBe(11);
  expect(elsewhere.stderr).toMatch(/is attached on \S+ \(epoch 1\)/);
  await daemon.command('volume', 'detach', 'data');
  expect(await said('data', '1GiB', ...shrink)).toEqual([
    0,
    'data is of 1GiB now, it was of 2GiB\n',
  ]);
  await daemon.command('volume', 'attach', 'data');
  expect((await said('data', '2GiB'))[0]).toBe(0);
  const back = await NbdClient.connect(daemon.socketPath, 'data');
  expect(back.sizeBytes).toBe(2 * gibibyte);
  expect(Buffer.compare(await back.read(0, 4096), block)).toBe(0);
  const cut = await back.read(2 * gibibyte - 4096, 4096);
  expect(Buffer.compare(cut, Buffer.alloc(4096))).toBe(0);
  back.destroy();
});
