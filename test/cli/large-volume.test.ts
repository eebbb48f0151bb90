/** A volume of 16 TiB, made in an instant, used at both ends, grown to the most there can be. */
import { expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore, elasticdrive } from '../support/daemon.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { TemporaryDirectory } from '../support/programs.ts';

const tebibyte = 2 ** 40;
const mebibyte = 2 ** 20;

interface Status {
  readonly residentBytes: number;
  readonly volumes: readonly { readonly sizeBytes: number; readonly mapBytes: number }[];
}

async function statusOf(daemon: Daemon): Promise<Status> {
  return (await daemon.status()) as Status;
}

/** Everything between two places where something was written. */
async function expectHole(client: NbdClient, offset: number): Promise<void> {
  const bytes = await client.read(offset, mebibyte);
  expect(Buffer.compare(bytes, Buffer.alloc(mebibyte))).toBe(0);
}

it('uses both ends of 16 TiB, then of 64 TiB, in the memory of what is used', async () => {
  await using root = await TemporaryDirectory.make();
  const store = directoryStore(root.join('store'));
  await createVolume(store, 'large', '16TiB');
  const start = (): Promise<Daemon> => Daemon.start({ store, directory: root.path });
  const check = (): Promise<unknown> =>
    elasticdrive(store, ['volume', 'check', 'large', '--read-data', '--store', store.url]);
  let daemon = await start();
  await using _last = { [Symbol.asyncDispose]: () => daemon[Symbol.asyncDispose]() };
  let client = await NbdClient.connect(daemon.socketPath, 'large');
  expect(client.sizeBytes).toBe(16 * tebibyte);
  const data = Buffer.alloc(mebibyte, 'end');
  const places = [0, 16 * tebibyte - mebibyte, 64 * tebibyte - mebibyte];
  for (const place of places.slice(0, 2)) await client.write(place, data);
  await client.flush();
  await daemon.stop();
  await check();
  daemon = await start();
  client = await NbdClient.connect(daemon.socketPath, 'large');
  await daemon.command('volume', 'resize', 'large', '64TiB');
  await client.write(64 * tebibyte - mebibyte, data);
  await client.flush();
  await expect(client.write(64 * tebibyte, data)).rejects.toMatchObject({ number: 28 });
  await daemon.crash();
  daemon = await start();
  client = await NbdClient.connect(daemon.socketPath, 'large');
  expect(client.sizeBytes).toBe(64 * tebibyte);
  for (const place of places) {
    expect(Buffer.compare(await client.read(place, mebibyte), data)).toBe(0);
  }
  for (const place of [mebibyte, 16 * tebibyte, 40 * tebibyte]) await expectHole(client, place);
  await expect(daemon.command('volume', 'resize', 'large', '65TiB')).rejects.toThrow('64 TiB');
  const { residentBytes, volumes } = await statusOf(daemon);
  expect(volumes).toMatchObject([{ sizeBytes: 64 * tebibyte }]);
  expect(volumes[0]?.mapBytes).toBeLessThan(64 * 1024);
  expect(residentBytes).toBeLessThan(400 * mebibyte);
  client.destroy();
  await daemon.stop();
  await check();
});
