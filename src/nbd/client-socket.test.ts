import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { MemoryPool } from '../base/memory-pool.ts';
import {
  type ClientSocket,
  createReceivePool,
  pooledClient,
  receiveBytes,
} from './client-socket.ts';
import type { LentBytes } from '../base/lent-bytes.ts';

let directory: string;
let server: ReturnType<typeof createServer>;
let sender: Socket;
let client: ClientSocket;
let chunks: LentBytes[];
let pool: MemoryPool;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'client-socket-'));
  const path = join(directory, 'socket');
  server = createServer({ pauseOnConnect: true, allowHalfOpen: true }).listen(path);
  await once(server, 'listening');
  sender = connect(path);
  const [accepted] = (await once(server, 'connection')) as [Socket];
  chunks = [];
  pool = createReceivePool();
  client = pooledClient(accepted, pool);
  client.receive = (chunk) => chunks.push(chunk);
});

afterEach(async () => {
  client.stream.destroy();
  sender.destroy();
  server.close();
  await rm(directory, { recursive: true });
});

/** Sends bytes and waits until all of them have come. */
async function send(bytes: Uint8Array): Promise<LentBytes[]> {
  chunks = [];
  sender.write(bytes);
  while (chunks.reduce((sum, chunk) => sum + chunk.bytes.length, 0) < bytes.length) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  return chunks;
}

const textOf = (received: readonly LentBytes[]): string =>
  Buffer.concat(received.map((chunk) => chunk.bytes)).toString();

test('what is held stays as it came, whatever comes after it', async () => {
  client.stream.resume();
  const first = await send(Buffer.alloc(1000, 'a'));
  const second = await send(Buffer.alloc(receiveBytes.much, 'b'));
  await send(Buffer.alloc(receiveBytes.much, 'c'));
  expect(textOf(first)).toBe('a'.repeat(1000));
  expect(textOf(second)).toBe('b'.repeat(receiveBytes.much));
});

test('what was let go is received into again', async () => {
  client.stream.resume();
  const memories = new Set<ArrayBufferLike>();
  client.receive = (chunk) => {
    memories.add(chunk.bytes.buffer);
    chunks.push(chunk);
    chunk.release();
  };
  for (let round = 0; round < 50; round += 1) await send(Buffer.alloc(100, 'x'));
  expect(memories.size).toBe(1);
});

test('a pause holds back what comes, and the end is told', async () => {
  client.stream.resume();
  await send(Buffer.from('one'));
  client.stream.pause();
  chunks = [];
  sender.end('two');
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(chunks).toHaveLength(0);
  const ended = once(client.stream, 'end');
  client.stream.resume();
  await ended;
  expect(textOf(chunks)).toBe('two');
});

test('closing gives the memory back', async () => {
  client.stream.resume();
  const [chunk] = await send(Buffer.from('last'));
  const closed = once(client.stream, 'close');
  client.stream.destroy();
  await closed;
  chunk?.release();
  const take = (): ArrayBufferLike => pool.take(receiveBytes.little).bytes.buffer;
  const given = new Set([take(), take()]);
  expect(given.has(chunk?.bytes.buffer as ArrayBufferLike)).toBe(true);
});
