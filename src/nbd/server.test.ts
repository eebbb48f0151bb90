import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HeldDevice, MemoryDevice } from '../../test/support/memory-device.ts';
import { memoryCatalog } from '../../test/support/memory-catalog.ts';
import type { BlockDevice } from '../base/block-device.ts';
import { systemClock } from '../base/clock.ts';
import { silentLog } from '../base/log.ts';
import type { NbdLimits } from './limits.ts';
import { createNbdServer, type ListenAddress, type NbdServer } from './server.ts';
import { hex } from './testing/conversation.ts';
import { viewOf } from './wire.ts';
import { entrances, request, simpleReply } from './testing/sessions.ts';

const flush = 3;
const write = 1;

let directory = '';
const servers: NbdServer[] = [];
const clients: Client[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'elasticdrive-'));
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.socket.destroy();
  await Promise.all(servers.splice(0).map((server) => server.close()));
  await rm(directory, { recursive: true });
});

function serve(device: BlockDevice, limits: Partial<NbdLimits> = {}) {
  const catalog = memoryCatalog({ disk: device });
  const server = createNbdServer({ catalog, clock: systemClock, log: silentLog, limits });
  servers.push(server);
  return { server, catalog };
}

/** A client on a real socket. */
class Client {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  private received = Buffer.alloc(0);
  private arrived = Promise.withResolvers<void>();

  constructor(address: ListenAddress) {
    this.socket = connect(address);
    this.closed = new Promise((resolve) => this.socket.on('close', () => resolve()));
    this.socket.on('error', () => undefined);
    this.socket.on('data', (chunk: Buffer) => {
      this.received = Buffer.concat([this.received, chunk]);
      this.arrived.resolve();
      this.arrived = Promise.withResolvers();
    });
    clients.push(this);
  }

  send(digits: string): void {
    this.socket.write(hex(digits));
  }

  /** The next `count` bytes, as hex digits. */
  async take(count: number): Promise<string> {
    while (this.received.length < count) await this.arrived.promise;
    const taken = this.received.toString('hex', 0, count);
    this.received = this.received.subarray(count);
    return taken;
  }

  /** Greeting, entrance and the answer to GO. */
  async enter(): Promise<this> {
    this.send(entrances.simple);
    await this.take(18 + 32 + 20);
    return this;
  }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

describe('the server', () => {
  it('listens on TCP and Unix sockets at once and tells where', async () => {
    const { server } = serve(new MemoryDevice(4096));
    const path = join(directory, 'nbd.sock');
    const tcp = await server.listen({ host: '127.0.0.1', port: 0 });
    expect(tcp).toMatchObject({ host: '127.0.0.1' });
    expect(await server.listen({ path })).toEqual({ path });
    const [one, two] = await Promise.all([new Client(tcp).enter(), new Client({ path }).enter()]);
    await until(() => server.clients().every((client) => client.exportName === 'disk'));
    const peers = server.clients().map(({ peer }) => peer);
    expect(peers).toHaveLength(2);
    expect(peers).toContain(`unix:${path}`);
    one.send(request(write, 1, 0, 4) + '61626364');
    expect(await one.take(16)).toBe(simpleReply(1));
    two.send(request(0, 2, 0, 4));
    expect(await two.take(20)).toBe(`${simpleReply(2)}61626364`);
    const counters = server.clients().map((client) => client.counters);
    expect(counters).toContainEqual(expect.objectContaining({ writes: 1, writtenBytes: 4 }));
    expect(counters).toContainEqual(expect.objectContaining({ reads: 1, readBytes: 4 }));
  });

  it('says when an address is taken', async () => {
    const { server } = serve(new MemoryDevice(4096));
    const path = join(directory, 'nbd.sock');
    await server.listen({ path });
    await expect(server.listen({ path })).rejects.toMatchObject({ code: 'EADDRINUSE' });
  });

  it('a flush on one connection covers the writes of another', async () => {
    const device = new HeldDevice(4096);
    const { server } = serve(device);
    const address = await server.listen({ path: join(directory, 'nbd.sock') });
    const [one, two] = await Promise.all([
      new Client(address).enter(),
      new Client(address).enter(),
    ]);
    one.send(`${request(write, 1, 0, 2)} 6161`);
    await until(() => device.waiting.length === 1);
    device.waiting.pop()?.go();
    expect(await one.take(16)).toBe(simpleReply(1));
    two.send(request(flush, 2, 0, 0));
    await until(() => device.waiting.length === 1);
    // One device serves both: what was answered before its flush began is what the flush covers.
    expect(device.waiting.map((call) => call.what)).toEqual(['flush']);
    device.waiting.pop()?.go();
    expect(await two.take(16)).toBe(simpleReply(2));
    expect(device.flushes).toBe(1);
  });

  it('refuses connections above its limit, and takes others when one has left', async () => {
    const { server } = serve(new MemoryDevice(4096), { connections: 1 });
    const address = await server.listen({ host: '127.0.0.1', port: 0 });
    const first = await new Client(address).enter();
    await new Client(address).closed;
    first.socket.destroy();
    await until(() => server.clients().length === 0);
    const third = await new Client(address).enter();
    third.send(request(flush, 3, 0, 0));
    expect(await third.take(16)).toBe(simpleReply(3));
  });

  it('drains: no new connections, requests under way answered, exports let go', async () => {
    const device = new HeldDevice(4096);
    const { server, catalog } = serve(device);
    const address = await server.listen({ path: join(directory, 'nbd.sock') });
    const busy = await new Client(address).enter();
    const greeted = new Client(address);
    await greeted.take(18);
    busy.send(request(flush, 1, 0, 0));
    await until(() => device.waiting.length === 1);
    let drained = false;
    const draining = server.drain().then(() => {
      drained = true;
    });
    await greeted.closed;
    await new Client(address).closed;
    busy.send(request(flush, 2, 0, 0));
    expect(drained).toBe(false);
    expect(catalog.openHandles()).toBe(1);
    device.waiting.pop()?.go();
    expect(await busy.take(16)).toBe(simpleReply(1));
    await Promise.all([busy.closed, draining]);
    expect(device.waiting).toEqual([]);
    expect(catalog.openHandles()).toBe(0);
    expect(server.clients()).toEqual([]);
    expect(server.inFlightBytes()).toBe(0);
  });

  it('closes at once, whatever is under way', async () => {
    const device = new HeldDevice(4096);
    const { server, catalog } = serve(device);
    const address = await server.listen({ path: join(directory, 'nbd.sock') });
    const client = await new Client(address).enter();
    client.send(request(flush, 1, 0, 0));
    await until(() => device.waiting.length === 1);
    const draining = server.drain();
    await server.close();
    await client.closed;
    expect(catalog.openHandles()).toBe(1);
    device.waiting.pop()?.go();
    await draining;
    expect(catalog.openHandles()).toBe(0);
  });

  it('answers large reads and writes whole, over a socket that takes them in parts', async () => {
    const device = new MemoryDevice(16 * 1024 * 1024);
    const words = viewOf(device.raw());
    for (let at = 0; at < device.sizeBytes; at += 4) words.setUint32(at, at);
    const { server } = serve(device, { unsentReplyBytesPerConnection: 100_000 });
    const address = await server.listen({ host: '127.0.0.1', port: 0 });
    const client = await new Client(address).enter();
    const lengths = [4096, 600_000, 3, 262_144, 1_500_001, 65_536, 500_000, 7];
    let at = 0;
    for (const [index, count] of lengths.entries()) {
      client.send(request(0, index + 1, at, count));
      at += count;
    }
    at = 0;
    for (const [index, count] of lengths.entries()) {
      expect(await client.take(16)).toBe(simpleReply(index + 1));
      const data = Buffer.from(await client.take(count), 'hex');
      expect(data.equals(device.raw().subarray(at, at + count))).toBe(true);
      at += count;
    }
    const written = Buffer.alloc(3_000_000, 'elastic');
    client.send(request(write, 9, 1_000_001, written.length));
    client.socket.write(written);
    expect(await client.take(16)).toBe(simpleReply(9));
    const found = device.raw().subarray(1_000_001, 1_000_001 + written.length);
    expect(written.equals(found)).toBe(true);
    await until(() => server.inFlightBytes() === 0);
  });
});
