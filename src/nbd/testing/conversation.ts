import { type Duplex, duplexPair } from 'node:stream';
import { MemoryDevice } from '../../../test/support/memory-device.ts';
import { memoryCatalog } from '../../../test/support/memory-catalog.ts';
import type { BlockDevice } from '../../base/block-device.ts';
import { silentLog } from '../../base/log.ts';
import { ByteBudget } from '../byte-budget.ts';
import { Connection } from '../connection.ts';
import { LentBytes } from '../../base/lent-bytes.ts';
import type { ExportCatalog } from '../export-catalog.ts';
import { type NbdLimits, nbdLimits } from '../limits.ts';
import { BatchPool } from '../reply-writer.ts';
import type { TlsPolicy, TlsUpgrade } from '../tls.ts';
import { ManualClock } from './manual-clock.ts';

/** Bytes from hex digits; white space, and what follows a semicolon in a line, is for the reader. */
export function hex(text: string): Buffer {
  const digits = text.replaceAll(/;.*$/gm, '').replaceAll(/\s+/g, '');
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new Error(`not hex: ${digits}`);
  return Buffer.from(digits, 'hex');
}

/** What the server says first: both magics, fixed newstyle and no zeroes. */
export const greeting = '4e42444d41474943 49484156454f5054 0003';

export interface ConversationOptions {
  readonly devices?: Readonly<Record<string, BlockDevice>>;
  readonly descriptions?: Readonly<Record<string, string>>;
  readonly catalog?: ExportCatalog;
  readonly limits?: Partial<NbdLimits>;
  readonly tls?: TlsPolicy;
  readonly upgrade?: TlsUpgrade;
  readonly clock?: ManualClock;
  readonly budget?: ByteBudget;
  readonly isShuttingDown?: () => boolean;
}

/** One client of a server, in memory: a test says bytes and sees the answer's bytes. */
export class Conversation {
  readonly connection: Connection;
  readonly catalog: ExportCatalog & { readonly openHandles?: () => number };
  readonly clock: ManualClock;
  readonly budget: ByteBudget;
  private readonly client: Duplex;
  private readonly server: Duplex;
  private chunks: Buffer[] = [];
  private bytesSeen = 0;

  constructor(options: ConversationOptions = {}) {
    const limits = nbdLimits(options.limits);
    this.clock = options.clock ?? new ManualClock();
    this.catalog =
      options.catalog ??
      memoryCatalog(options.devices ?? { disk: new MemoryDevice(65_536) }, options.descriptions);
    this.budget = options.budget ?? new ByteBudget(this.clock, limits.inFlightBytesTotal);
    [this.client, this.server] = duplexPair();
    // A kernel copies what it takes; this pair would go on pointing into the server's buffers.
    const write = this.server._write.bind(this.server);
    this.server._write = (chunk: Buffer, encoding, taken) => {
      write(Buffer.from(chunk), encoding, taken);
    };
    this.client.on('data', (chunk: Buffer) => {
      this.chunks.push(chunk);
      this.bytesSeen += chunk.length;
    });
    // What is let go is overwritten at once, as the next thing received would do.
    const incoming = { stream: this.server, receive: (chunk: LentBytes) => chunk.release() };
    this.server.on('data', (bytes: Buffer) => {
      const memory = Buffer.from(bytes);
      incoming.receive(new LentBytes(memory, () => memory.fill(0xee)));
    });
    this.connection = new Connection(incoming, 'test', {
      catalog: this.catalog,
      clock: this.clock,
      log: silentLog,
      limits,
      budget: this.budget,
      pool: new BatchPool(),
      tls: options.tls ?? 'unsupported',
      upgrade: options.upgrade,
      maximumRequestBytes: limits.maximumRequestBytes,
      maximumContexts: limits.metaContexts,
      isShuttingDown: options.isShuttingDown ?? (() => false),
    });
  }

  /** Says bytes, or hex digits. */
  send(bytes: Uint8Array | string): void {
    if (!this.server.destroyed) this.client.write(typeof bytes === 'string' ? hex(bytes) : bytes);
  }

  /** Says that nothing more will come. */
  finish(): void {
    this.client.end();
  }

  /** The client is gone, without a word. */
  vanish(): void {
    this.server.destroy();
  }

  /** Stops taking what the server sends. */
  deafen(): void {
    this.client.pause();
  }

  listen(): void {
    this.client.resume();
  }

  /** Waits until both sides have nothing more to do; what waits for a clock or a device, waits. */
  async quiet(): Promise<void> {
    for (let idle = 0, seen = -1; idle < 4; idle += 1) {
      if (seen !== this.bytesSeen) idle = 0;
      seen = this.bytesSeen;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Waits until the connection has let go of everything; fails when it comes to rest before. */
  async releasedSoon(): Promise<void> {
    const released = this.connection.released.then(() => true);
    for (let turn = 0; turn < 50; turn += 1) {
      const rested = new Promise<false>((resolve) => setImmediate(() => resolve(false)));
      if (await Promise.race([released, rested])) return;
    }
    throw new Error('the connection never let go of what it held');
  }

  /** All that the server has said since the last call. */
  async said(): Promise<Buffer> {
    await this.quiet();
    const bytes = Buffer.concat(this.chunks);
    this.chunks = [];
    return bytes;
  }

  /** The same without the greeting. */
  async answer(): Promise<Buffer> {
    const bytes = await this.said();
    const first = hex(greeting);
    return bytes.subarray(0, first.length).equals(first) ? bytes.subarray(first.length) : bytes;
  }

  /** How the server's bytes since the last call were divided into writes. */
  chunkSizes(): number[] {
    const sizes = this.chunks.map((chunk) => chunk.length);
    this.chunks = [];
    return sizes;
  }

  /** Whether the server is done with the socket. */
  closed(): boolean {
    return this.server.destroyed;
  }

  /** `cut` is a close without the end that a client can wait for. */
  get state(): 'open' | 'ended' | 'cut' {
    if (this.server.writableEnded) return 'ended';
    return this.server.destroyed ? 'cut' : 'open';
  }
}

/** What the server answers to `bytes` when they come in two parts, the first of `cutAt` bytes. */
export async function answerTo(
  bytes: Uint8Array,
  cutAt: number,
  options: ConversationOptions = {},
): Promise<{ readonly answer: string; readonly state: 'open' | 'ended' | 'cut' }> {
  const conversation = new Conversation(options);
  conversation.send(bytes.subarray(0, cutAt));
  if (cutAt < bytes.length) {
    await conversation.quiet();
    conversation.send(bytes.subarray(cutAt));
  }
  const answer = await conversation.answer();
  const { state } = conversation;
  conversation.vanish();
  await conversation.connection.released;
  return { answer: answer.toString('hex'), state };
}
