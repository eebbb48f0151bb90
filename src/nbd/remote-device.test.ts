import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { HeldDevice, MemoryDevice } from '../../test/support/memory-device.ts';
import { memoryCatalog } from '../../test/support/memory-catalog.ts';
import { NbdClient } from '../../test/support/nbd-client.ts';
import type { BlockDevice, Done } from '../base/block-device.ts';
import { sleep, systemClock } from '../base/clock.ts';
import { silentLog } from '../base/log.ts';
import { seededRandom } from '../base/random.ts';
import { RemoteDevice } from './remote-device.ts';
import { createNbdServer, type NbdServer } from './server.ts';

const plain = { fua: false };
const sizeBytes = 256 * 1024;
let directory = '';
let server: NbdServer | undefined;
let remote: RemoteDevice | undefined;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'elasticdrive-'));
});

afterEach(async () => {
  remote?.close();
  await server?.close();
  await rm(directory, { recursive: true });
});

const path = (): string => join(directory, 'nbd.sock');

async function serve(device: BlockDevice): Promise<void> {
  server = createNbdServer({
    catalog: memoryCatalog({ disk: device }),
    clock: systemClock,
    log: silentLog,
  });
  await server.listen({ path: path() });
}

async function crash(): Promise<void> {
  await server?.close();
  server = undefined;
}

function dial(): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path());
    socket.once('error', reject);
    socket.once('connect', () => resolve(socket));
  });
}

async function open(unflushedBytes = 2 ** 20): Promise<RemoteDevice> {
  const options = { exportName: 'disk', clock: systemClock, log: silentLog, unflushedBytes };
  remote = await RemoteDevice.open({ ...options, connect: dial });
  return remote;
}

function fill(lengthBytes: number, value: number): Uint8Array {
  return new Uint8Array(lengthBytes).fill(value);
}

async function readAll(device: BlockDevice): Promise<Buffer> {
  const into = Buffer.alloc(device.sizeBytes);
  await device.read(0, into);
  return into;
}

/** A disk with a volatile cache: what was not flushed is gone after `losePower`. */
class VolatileDevice extends MemoryDevice {
  private durable = Buffer.alloc(sizeBytes);

  constructor() {
    super(sizeBytes);
  }

  override flush(): Done {
    this.durable = Buffer.from(this.raw());
    return super.flush();
  }

  losePower(): void {
    this.raw().set(this.durable);
  }
}

it('says what the server says of its export, and does what it is asked', async () => {
  const device = new MemoryDevice(sizeBytes);
  await serve(device);
  const there = await open();
  expect(there.sizeBytes).toBe(sizeBytes);
  expect(there.readOnly).toBe(false);
  await there.write(4096, fill(8192, 7), plain);
  await there.zero(4096, 4096, { fua: true, mayPunchHole: true });
  await there.trim(0, 4096, plain);
  await there.flush();
  const expected = Buffer.alloc(sizeBytes);
  expected.fill(7, 8192, 12_288);
  expect((await readAll(there)).equals(expected)).toBe(true);
  expect(expected.equals(device.raw())).toBe(true);
  await expect(there.read(sizeBytes, new Uint8Array(1))).rejects.toMatchObject({
    code: 'out-of-range',
  });
});

it('cannot be opened where nobody serves, or not this export', async () => {
  await expect(open()).rejects.toMatchObject({ code: 'ENOENT' });
  await serve(new MemoryDevice(sizeBytes));
  const options = { clock: systemClock, log: silentLog, unflushedBytes: 0, connect: dial };
  await expect(RemoteDevice.open({ ...options, exportName: 'tape' })).rejects.toThrow(
    'there is no export tape',
  );
});

it('asks again what a server that went down had not answered', async () => {
  const device = new MemoryDevice(sizeBytes);
  const held = new HeldDevice(sizeBytes);
  await serve(held);
  const there = await open();
  const into = new Uint8Array(4096);
  const requests = [
    there.write(0, fill(4096, 1), plain),
    there.read(8192, into),
    there.flush(),
    there.trim(4096, 4096, plain),
  ];
  device.raw().fill(9);
  await crash();
  requests.push(there.write(12_288, fill(4096, 2), { fua: true }));
  await serve(device);
  for (const request of requests) await request;
  expect([...into.subarray(0, 2)]).toEqual([9, 9]);
  expect([0, 4096, 8192, 12_288].map((at) => device.raw()[at])).toEqual([1, 0, 9, 2]);
  expect(device.flushes).toBeGreaterThan(0);
});

it('loses no answered write though the server loses all that was not flushed', async () => {
  const random = seededRandom(3);
  const below = (limit: number): number => Math.floor(random.fraction() * limit);
  const device = new VolatileDevice();
  await serve(device);
  const there = await open(64 * 1024);
  const model = Buffer.alloc(sizeBytes);
  for (let round = 0; round < 12; round += 1) {
    for (let step = 0; step < 60; step += 1) {
      const offset = below(sizeBytes / 4096 - 4) * 4096;
      const lengthBytes = (1 + below(4)) * 4096;
      const value = below(256);
      if (value < 20) {
        await there.zero(offset, lengthBytes, { fua: false, mayPunchHole: false });
        model.fill(0, offset, offset + lengthBytes);
      } else if (value < 30) {
        await there.flush();
      } else {
        // Its memory is used again at once, as a server does.
        const data = Buffer.from(fill(lengthBytes, value));
        await there.write(offset, data, { fua: value < 60 });
        data.fill(0);
        model.fill(value, offset, offset + lengthBytes);
      }
    }
    await crash();
    device.losePower();
    await serve(device);
    await there.flush();
    device.losePower();
    expect(model.equals(device.raw())).toBe(true);
    expect((await readAll(there)).equals(model)).toBe(true);
  }
});

it('flushes by itself before it keeps more copies than it may', async () => {
  const device = new MemoryDevice(sizeBytes);
  await serve(device);
  const there = await open(16 * 4096);
  for (let at = 0; at < 64; at += 1) await there.write(0, fill(4096, at), plain);
  expect(device.flushes).toBeGreaterThanOrEqual(3);
});

it('waits on while an export of the name is smaller than it was', async () => {
  await serve(new MemoryDevice(sizeBytes));
  const there = await open();
  await crash();
  await serve(new MemoryDevice(4096));
  let done = false;
  const reading = Promise.resolve(there.read(0, new Uint8Array(4096))).then(() => {
    done = true;
  });
  await expect.poll(() => server?.clients().length).toBe(0);
  expect(done).toBe(false);
  await crash();
  await serve(new MemoryDevice(2 * sizeBytes));
  await reading;
  expect(there.sizeBytes).toBe(2 * sizeBytes);
});

it('fails what waits when it is closed', async () => {
  await serve(new HeldDevice(sizeBytes));
  const there = await open();
  const waiting = there.read(0, new Uint8Array(512));
  there.close();
  await expect(waiting).rejects.toMatchObject({ code: 'shutting-down' });
});

it('sees that the export has grown when it asks, and by itself when the server comes back', async () => {
  const device = new MemoryDevice(sizeBytes);
  await serve(device);
  const there = await open();
  device.grow(2 * sizeBytes);
  expect(there.sizeBytes).toBe(sizeBytes);
  await Promise.all([there.askSize(), there.askSize()]);
  expect(there.sizeBytes).toBe(2 * sizeBytes);
  await there.write(2 * sizeBytes - 4096, fill(4096, 5), plain);
  expect(device.raw()[2 * sizeBytes - 1]).toBe(5);
  device.grow(3 * sizeBytes);
  await crash();
  const asked = there.askSize();
  await serve(device);
  await asked;
  expect(there.sizeBytes).toBe(3 * sizeBytes);
});

it('waits for no export that has become smaller under its clients', async () => {
  await serve(new MemoryDevice(2 * sizeBytes));
  const there = await open();
  await crash();
  await serve(new MemoryDevice(sizeBytes));
  const waiting = there.flush();
  const isAnswered = await Promise.race([waiting.then(() => true), sleep(systemClock, 300)]);
  expect(isAnswered).toBeUndefined();
  expect(there.sizeBytes).toBe(2 * sizeBytes);
  there.close();
  await expect(waiting).rejects.toMatchObject({ code: 'shutting-down' });
});

it('passes requests on that lie in what has been added, and refuses those past the end', async () => {
  const device = new MemoryDevice(sizeBytes);
  await serve(device);
  const there = await open();
  const proxyPath = join(directory, 'proxy.sock');
  const proxy = createNbdServer({
    catalog: memoryCatalog({ disk: there }),
    clock: systemClock,
    log: silentLog,
  });
  await proxy.listen({ path: proxyPath });
  const client = await NbdClient.connect(proxyPath, 'disk');
  device.grow(2 * sizeBytes);
  // Others are under way while the server is asked, and none is refused or lost.
  const requests = Array.from({ length: 8 }, (_, at) =>
    client.write(at % 2 === 0 ? 2 * sizeBytes - 4096 : 0, fill(4096, at)),
  );
  await Promise.all(requests);
  expect(device.raw()[2 * sizeBytes - 1]).toBe(6);
  await expect(client.write(2 * sizeBytes, fill(4096, 1))).rejects.toMatchObject({ number: 28 });
  await expect(client.read(2 * sizeBytes, 4096)).rejects.toMatchObject({ number: 22 });
  await client.flush();
  client.destroy();
  await proxy.close();
});
