/**
 * A small NBD client for tests that count on the exact moment of each answer: many requests under
 * way at once, each with a promise, compact requests and simple replies. When the server dies, every
 * request without an answer is refused with `ConnectionLost`.
 */
import { connect, type Socket } from 'node:net';
import {
  command,
  commandFlag,
  option,
  requestHeader,
  setUint64,
  viewOf,
} from '../../src/nbd/wire.ts';

/** The server is gone, or never let us in. */
export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
}

/** The server answered with an error number of the protocol. */
export class NbdError extends Error {
  override readonly name = 'NbdError';
  readonly number: number;

  constructor(number: number) {
    super(`the server answered with error ${number}`);
    this.number = number;
  }
}

interface Pending {
  readonly into: Uint8Array | undefined;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

const greetingBytes = 18;
const exportAnswerBytes = 10;
const replyBytes = 16;

/** A Unix socket's path, or a port of 127.0.0.1. */
export type NbdAddress = string | number;

export class NbdClient {
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  #received: Buffer[] = [];
  #receivedBytes = 0;
  #nextCookie = 1;
  #lost: ConnectionLost | undefined;
  /** A wait of the handshake for that many bytes. */
  #wanted: { bytes: number; give: (bytes: Buffer) => void; fail: (e: Error) => void } | undefined;
  sizeBytes = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('error', (error) => this.#lose(error.message));
    socket.on('close', () => this.#lose('the connection was closed'));
  }

  static async connect(address: NbdAddress, exportName: string): Promise<NbdClient> {
    const client = new NbdClient(
      typeof address === 'number' ? connect(address, '127.0.0.1') : connect(address),
    );
    try {
      await client.#receive(greetingBytes);
      const name = Buffer.from(exportName);
      const hello = Buffer.alloc(20 + name.length);
      hello.writeUInt32BE(3, 0);
      hello.write('IHAVEOPT', 4, 'latin1');
      hello.writeUInt32BE(option.exportName, 12);
      hello.writeUInt32BE(name.length, 16);
      name.copy(hello, 20);
      client.#socket.write(hello);
      const answer = await client.#receive(exportAnswerBytes);
      client.sizeBytes = Number(answer.readBigUInt64BE(0));
      return client;
    } catch (error) {
      client.destroy();
      throw error;
    }
  }

  async read(offset: number, lengthBytes: number): Promise<Uint8Array> {
    const into = new Uint8Array(lengthBytes);
    await this.#request(command.read, 0, offset, lengthBytes, undefined, into);
    return into;
  }

  /** All of the export. */
  async readAll(): Promise<Uint8Array> {
    const image = new Uint8Array(this.sizeBytes);
    const step = 2 ** 20;
    for (let at = 0; at < image.length; at += step) {
      image.set(await this.read(at, Math.min(step, image.length - at)), at);
    }
    return image;
  }

  write(offset: number, data: Uint8Array, fua = false): Promise<void> {
    const flags = fua ? commandFlag.fua : 0;
    return this.#request(command.write, flags, offset, data.byteLength, data);
  }

  trim(offset: number, lengthBytes: number): Promise<void> {
    return this.#request(command.trim, 0, offset, lengthBytes);
  }

  writeZeroes(offset: number, lengthBytes: number): Promise<void> {
    return this.#request(command.writeZeroes, 0, offset, lengthBytes);
  }

  flush(): Promise<void> {
    return this.#request(command.flush, 0, 0, 0);
  }

  /** Closes without a word, as a client that dies does. */
  destroy(): void {
    this.#socket.destroy();
    this.#lose('closed by the client');
  }

  #request(
    number: number,
    flags: number,
    offset: number,
    lengthBytes: number,
    payload?: Uint8Array,
    into?: Uint8Array,
  ): Promise<void> {
    if (this.#lost !== undefined) return Promise.reject(this.#lost);
    const cookie = this.#nextCookie;
    this.#nextCookie += 1;
    const header = new Uint8Array(requestHeader.compactBytes);
    const view = viewOf(header);
    view.setUint32(requestHeader.magic, 0x2560_9513);
    view.setUint16(requestHeader.flags, flags);
    view.setUint16(requestHeader.command, number);
    setUint64(view, requestHeader.cookie, cookie);
    setUint64(view, requestHeader.offset, offset);
    view.setUint32(requestHeader.length, lengthBytes);
    return new Promise((resolve, reject) => {
      this.#pending.set(cookie, { into, resolve, reject });
      this.#socket.cork();
      this.#socket.write(header);
      if (payload !== undefined) this.#socket.write(payload);
      this.#socket.uncork();
    });
  }

  #receive(bytes: number): Promise<Buffer> {
    return new Promise((give, fail) => {
      if (this.#lost !== undefined) fail(this.#lost);
      this.#wanted = { bytes, give, fail };
      this.#digest();
    });
  }

  #take(chunk: Buffer): void {
    this.#received.push(chunk);
    this.#receivedBytes += chunk.length;
    this.#digest();
  }

  #digest(): void {
    const wanted = this.#wanted;
    if (wanted !== undefined) {
      if (this.#receivedBytes < wanted.bytes) return;
      this.#wanted = undefined;
      wanted.give(this.#consume(wanted.bytes));
      return;
    }
    while (this.#receivedBytes >= replyBytes && this.#answer());
  }

  /** Handles one reply; false when it is not all here yet. */
  #answer(): boolean {
    const start = this.#peek(replyBytes);
    const cookie = Number(start.readBigUInt64BE(8));
    const pending = this.#pending.get(cookie);
    if (start.readUInt32BE(0) !== 0x6744_6698 || pending === undefined) {
      this.#socket.destroy(new Error('the server said what is no reply of ours'));
      return false;
    }
    const error = start.readUInt32BE(4);
    const dataBytes = error === 0 ? (pending.into?.byteLength ?? 0) : 0;
    if (this.#receivedBytes < replyBytes + dataBytes) return false;
    const whole = this.#consume(replyBytes + dataBytes);
    this.#pending.delete(cookie);
    if (error !== 0) pending.reject(new NbdError(error));
    else {
      pending.into?.set(whole.subarray(replyBytes));
      pending.resolve();
    }
    return true;
  }

  /** The next bytes, which stay where they are. */
  #peek(bytes: number): Buffer {
    const [first] = this.#received;
    if (first === undefined || first.length < bytes)
      this.#received = [Buffer.concat(this.#received)];
    return this.#received[0] as Buffer;
  }

  #consume(bytes: number): Buffer {
    const first = this.#peek(bytes);
    if (first.length === bytes) this.#received.shift();
    else this.#received[0] = first.subarray(bytes);
    this.#receivedBytes -= bytes;
    return first.subarray(0, bytes);
  }

  #lose(reason: string): void {
    if (this.#lost !== undefined) return;
    this.#lost = new ConnectionLost(reason);
    this.#wanted?.fail(this.#lost);
    for (const { reject } of this.#pending.values()) reject(this.#lost);
    this.#pending.clear();
  }
}
