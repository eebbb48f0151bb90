import { describe, expect, it } from 'vitest';
import { HeldDevice, MemoryDevice } from '../../test/support/memory-device.ts';
import { memoryCatalog } from '../../test/support/memory-catalog.ts';
import type { Done, WriteOptions, ZeroOptions } from '../base/block-device.ts';
import { StorageError } from '../base/errors.ts';
import { ByteBudget } from './byte-budget.ts';
import { Conversation, hex } from './testing/conversation.ts';
import { ManualClock } from './testing/manual-clock.ts';
import { enter, request, simpleReply } from './testing/sessions.ts';

const read = 0;
const write = 1;
const disconnect = 2;
const flush = 3;
const trim = 4;
const writeZeroes = 6;

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** A device that only notes how it was called. */
class OptionsDevice extends MemoryDevice {
  readonly calls: [string, WriteOptions][] = [];

  override write(_offset: number, _from: Uint8Array, options: WriteOptions): Done {
    this.calls.push(['write', options]);
    return undefined;
  }

  override trim(_offset: number, _lengthBytes: number, options: WriteOptions): Done {
    this.calls.push(['trim', options]);
    return undefined;
  }

  override zero(_offset: number, _lengthBytes: number, options: ZeroOptions): Done {
    this.calls.push(['zero', options]);
    return undefined;
  }
}

/** Lets the waiting call go on whose description begins so. */
function release(device: HeldDevice, what: string, error?: StorageError): void {
  const index = device.waiting.findIndex((call) => call.what.startsWith(what));
  const [call] = device.waiting.splice(index, 1);
  if (index < 0 || call === undefined) throw new Error(`nothing waits for ${what}`);
  call.go(error);
}

describe('requests on one connection', () => {
  it('run together and are answered as they finish', async () => {
    const device = new HeldDevice(8192);
    device.raw().fill(0x61);
    const session = await enter('simple', { devices: { disk: device } });
    session.send(request(read, 1, 0, 2) + request(read, 2, 4, 2) + request(flush, 3, 0, 0));
    session.send(`${request(write, 4, 8, 2)} 7878`);
    await session.quiet();
    expect(device.waiting.map((call) => call.what)).toEqual([
      'read 0+2',
      'read 4+2',
      'flush',
      'write 8+2',
    ]);
    release(device, 'write');
    expect(text(await session.answer())).toBe(simpleReply(4));
    release(device, 'read 4');
    expect(text(await session.answer())).toBe(`${simpleReply(2)}6161`);
    release(device, 'read 0', new StorageError('corrupt', 'a frame fails its checksum'));
    release(device, 'flush');
    expect(text(await session.answer())).toBe(simpleReply(1, 5) + simpleReply(3));
    expect(session.budget.heldBytes).toBe(0);
    session.vanish();
  });

  it('that finish in one turn are answered in one write', async () => {
    const device = new HeldDevice(8192);
    const session = await enter('simple', { devices: { disk: device } });
    for (let cookie = 1; cookie <= 8; cookie += 1) session.send(request(writeZeroes, cookie, 0, 1));
    await session.quiet();
    await session.answer();
    for (const call of device.waiting) call.go();
    await session.quiet();
    expect(session.chunkSizes()).toEqual([8 * 16]);
    session.vanish();
  });

  it('write bytes that stay as they were until the write is done', async () => {
    const device = new HeldDevice(65_536);
    const session = await enter('simple', { devices: { disk: device } });
    // The first comes whole, the second in two parts, the third while both are still waiting.
    session.send(`${request(write, 1, 0, 4)} 61616161 ${request(write, 2, 4, 4)} 6262`);
    await session.quiet();
    session.send(`6262 ${request(write, 3, 8, 4)} 6363`);
    await session.quiet();
    session.send('6363');
    await session.quiet();
    for (const what of ['write 8', 'write 4', 'write 0']) release(device, what);
    expect(text(await session.answer())).toBe(simpleReply(3) + simpleReply(2) + simpleReply(1));
    expect(Buffer.from(device.raw().subarray(0, 12)).toString()).toBe('aaaabbbbcccc');
    session.vanish();
  });

  it('read into memory that no other reply uses, however the reads are mixed', async () => {
    const device = new HeldDevice(65_536);
    device.raw().forEach((_, index, bytes) => {
      bytes[index] = index >> 8;
    });
    const session = await enter('simple', { devices: { disk: device } });
    const cookies = Array.from({ length: 200 }, (_, index) => index + 1);
    for (const cookie of cookies) session.send(request(read, cookie, cookie * 256, 256));
    await session.quiet();
    const order = cookies.toSorted((a, b) => ((a * 37) % 211) - ((b * 37) % 211));
    for (const cookie of order) release(device, `read ${cookie * 256}+`);
    const answer = await session.answer();
    const expected = order.map((cookie) => simpleReply(cookie) + hexByte(cookie).repeat(256));
    expect(text(answer)).toBe(expected.join(''));
    session.vanish();
  });

  it('tell the device about FUA and holes', async () => {
    const device = new OptionsDevice(8192);
    const session = await enter('simple', { devices: { disk: device } });
    const fua = 1;
    const noHole = 2;
    for (const flags of [0, fua]) {
      session.send(`${request(write, 1, 0, 1, flags)} 61`);
      session.send(request(trim, 1, 0, 1, flags));
      session.send(request(writeZeroes, 1, 0, 1, flags));
      session.send(request(writeZeroes, 1, 0, 1, flags | noHole));
    }
    expect(text(await session.answer())).toBe(simpleReply(1).repeat(8));
    const expected = [false, true].flatMap((forced) => [
      ['write', { fua: forced }],
      ['trim', { fua: forced }],
      ['zero', { fua: forced, mayPunchHole: true }],
      ['zero', { fua: forced, mayPunchHole: false }],
    ]);
    expect(device.calls).toEqual(expected);
    session.vanish();
  });

  it('see the size that the device has now', async () => {
    const device = new MemoryDevice(4096);
    const session = await enter('simple', { devices: { disk: device } });
    session.send(request(read, 1, 4096, 1));
    expect(text(await session.answer())).toBe(simpleReply(1, 22));
    device.grow(8192);
    session.send(request(read, 2, 4096, 1));
    expect(text(await session.answer())).toBe(`${simpleReply(2)}00`);
    session.vanish();
  });
});

const hexByte = (value: number): string => value.toString(16).padStart(2, '0');

describe('the end of a connection', () => {
  it('DISC waits for the requests under way and answers them', async () => {
    const device = new HeldDevice(4096);
    const catalog = memoryCatalog({ disk: device });
    const session = await enter('simple', { catalog });
    session.send(request(flush, 1, 0, 0) + request(disconnect, 2, 0, 0) + request(flush, 3, 0, 0));
    await session.quiet();
    expect(session.state).toBe('open');
    expect(device.waiting.length).toBe(1);
    release(device, 'flush');
    expect(text(await session.answer())).toBe(simpleReply(1));
    expect(session.state).toBe('ended');
    session.finish();
    await session.connection.released;
    expect(catalog.openHandles()).toBe(0);
  });

  it('a half-closed client is answered before the session ends', async () => {
    const device = new HeldDevice(4096);
    const session = await enter('simple', { devices: { disk: device } });
    session.send(request(flush, 1, 0, 0));
    session.finish();
    await session.quiet();
    expect(session.state).toBe('open');
    release(device, 'flush');
    expect(text(await session.answer())).toBe(simpleReply(1));
    expect(session.state).toBe('ended');
  });

  it('a client that leaves in mid-payload has written nothing', async () => {
    const device = new MemoryDevice(4096);
    const catalog = memoryCatalog({ disk: device });
    const session = await enter('simple', { catalog });
    session.send(`${request(write, 1, 0, 8)} 61616161`);
    await session.quiet();
    expect(session.budget.heldBytes).toBe(8);
    session.finish();
    expect(text(await session.answer())).toBe('');
    expect(session.state).toBe('ended');
    await session.connection.released;
    expect(session.budget.heldBytes).toBe(0);
    expect(text(device.raw().subarray(0, 8))).toBe('00'.repeat(8));
    expect(catalog.openHandles()).toBe(0);
  });

  it('a client that vanishes leaves its export when its requests have settled', async () => {
    const device = new HeldDevice(4096);
    const catalog = memoryCatalog({ disk: device });
    const session = await enter('simple', { catalog });
    session.send(request(read, 1, 0, 16) + request(flush, 2, 0, 0));
    session.send(`${request(write, 3, 0, 8)} 6161`);
    await session.quiet();
    session.vanish();
    await session.quiet();
    expect(catalog.openHandles()).toBe(1);
    release(device, 'flush');
    release(device, 'read', new StorageError('local-io', 'the disk is gone'));
    await session.connection.released;
    expect(catalog.openHandles()).toBe(0);
    expect(session.budget.heldBytes).toBe(0);
    expect(session.clock.pending).toBe(0);
  });

  it('a client that does not close after the end is left after the linger time', async () => {
    const session = await enter('simple', { limits: { lingerMs: 700 } });
    session.deafen();
    session.send(request(disconnect, 1, 0, 0));
    await session.quiet();
    session.clock.advance(699);
    expect(session.closed()).toBe(false);
    session.clock.advance(1);
    await session.quiet();
    expect(session.closed()).toBe(true);
    await session.connection.released;
    expect(session.clock.pending).toBe(0);
  });

  it('draining answers what is under way, takes nothing more and lets go', async () => {
    const device = new HeldDevice(4096);
    const catalog = memoryCatalog({ disk: device });
    const session = await enter('simple', { catalog });
    session.send(request(flush, 1, 0, 0));
    await session.quiet();
    session.connection.drain();
    session.send(request(flush, 2, 0, 0));
    await session.quiet();
    expect(device.waiting.length).toBe(1);
    release(device, 'flush');
    expect(text(await session.answer())).toBe(simpleReply(1));
    session.finish();
    await session.connection.released;
    expect(catalog.openHandles()).toBe(0);
  });
});

describe('limits', () => {
  it('requests in flight: more wait unread, with a device that never finishes', async () => {
    const device = new HeldDevice(4096);
    const limits = { inFlightRequestsPerConnection: 3 };
    const session = await enter('simple', { devices: { disk: device }, limits });
    for (let cookie = 1; cookie <= 50; cookie += 1) session.send(request(flush, cookie, 0, 0));
    await session.quiet();
    expect(device.waiting.length).toBe(3);
    expect(session.connection.status?.counters.requestsInFlight).toBe(3);
    release(device, 'flush');
    await session.quiet();
    expect(device.waiting.length).toBe(3);
    expect(text(await session.answer())).toBe(simpleReply(1));
    session.vanish();
  });

  it('bytes in flight: reads and writes wait, and go on when others are answered', async () => {
    const device = new HeldDevice(65_536);
    const limits = { maximumRequestBytes: 8192, inFlightBytesPerConnection: 10_000 };
    const session = await enter('simple', { devices: { disk: device }, limits });
    session.send(request(read, 1, 0, 8000));
    session.send(request(write, 2, 0, 4000) + '61'.repeat(4000));
    session.send(request(flush, 3, 0, 0));
    await session.quiet();
    expect(device.waiting.map((call) => call.what)).toEqual(['read 0+8000']);
    release(device, 'read');
    await session.quiet();
    expect(device.waiting.map((call) => call.what)).toEqual(['write 0+4000', 'flush']);
    session.vanish();
  });

  it('bytes in flight over all connections: who is over waits for the others', async () => {
    const device = new HeldDevice(65_536);
    const clock = new ManualClock();
    const budget = new ByteBudget(clock, 10_000);
    const shared = { devices: { disk: device }, clock, budget };
    const one = await enter('simple', shared);
    const two = await enter('simple', shared);
    one.send(request(read, 1, 0, 8000));
    await one.quiet();
    two.send(request(read, 2, 0, 4000));
    await two.quiet();
    expect(device.waiting.map((call) => call.what)).toEqual(['read 0+8000']);
    release(device, 'read 0');
    await one.quiet();
    await two.quiet();
    expect(device.waiting.map((call) => call.what)).toEqual(['read 0+4000']);
    two.vanish();
    release(device, 'read 0');
    await two.connection.released;
    one.vanish();
    await one.connection.released;
    expect(budget.heldBytes).toBe(0);
  });

  it('a write that waits for room is not taken into memory', async () => {
    const device = new HeldDevice(65_536);
    const clock = new ManualClock();
    const budget = new ByteBudget(clock, 10_000);
    const session = await enter('simple', { devices: { disk: device }, clock, budget });
    session.send(request(read, 1, 0, 9000) + request(write, 2, 0, 9000) + '61'.repeat(4000));
    await session.quiet();
    expect(budget.heldBytes).toBe(9000);
    release(device, 'read');
    await session.quiet();
    session.send('61'.repeat(5000));
    await session.quiet();
    expect(device.waiting.map((call) => call.what)).toEqual(['write 0+9000']);
    session.vanish();
  });

  it('replies that are not taken: the requests wait, and the client is cut off in the end', async () => {
    const device = new MemoryDevice(1024 * 1024);
    const limits = { unsentReplyBytesPerConnection: 100_000, unsentReplyMs: 5_000 };
    const session = await enter('simple', { devices: { disk: device }, limits });
    session.deafen();
    for (let cookie = 1; cookie <= 100; cookie += 1) session.send(request(read, cookie, 0, 50_000));
    await session.quiet();
    const reads = session.connection.status?.counters.reads ?? 0;
    expect(reads).toBeGreaterThan(1);
    expect(reads).toBeLessThan(30);
    expect(session.budget.heldBytes).toBeLessThan(2_000_000);
    // The first time it has taken some, which counts as life.
    session.clock.advance(5_000);
    await session.quiet();
    session.clock.advance(5_000);
    expect(session.state).toBe('cut');
    await session.connection.released;
    expect(session.budget.heldBytes).toBe(0);
  });

  it('replies that are taken late: every request is answered, and nobody is cut off', async () => {
    const device = new MemoryDevice(1024 * 1024);
    const limits = { unsentReplyBytesPerConnection: 100_000, unsentReplyMs: 5_000 };
    const session = await enter('simple', { devices: { disk: device }, limits });
    session.deafen();
    for (let cookie = 1; cookie <= 100; cookie += 1) session.send(request(read, cookie, 0, 50_000));
    await session.quiet();
    session.clock.advance(4_999);
    session.listen();
    const answer = await session.answer();
    expect(answer.length).toBe(100 * (16 + 50_000));
    session.clock.advance(5_000);
    await session.quiet();
    expect(session.state).toBe('open');
    expect(session.budget.heldBytes).toBe(0);
    session.vanish();
  });

  it('the handshake holds at most one option', async () => {
    const session = new Conversation({ limits: { optionBytes: 1000 } });
    session.send('00000003 49484156454f5054 00000063 ffffffff');
    for (let part = 0; part < 20; part += 1) session.send(Buffer.alloc(100_000));
    const answer = await session.answer();
    expect(answer.length).toBe(0);
    expect(session.state).toBe('open');
    session.vanish();
  });
});

describe('literal helpers', () => {
  it('say what they say', () => {
    expect(request(read, 1, 2, 3)).toBe(
      text(hex('25609513 0000 0000 0101010101010101 0000000000000002 00000003')),
    );
    expect(simpleReply(1, 5)).toBe(text(hex('67446698 00000005 0101010101010101')));
  });
});
