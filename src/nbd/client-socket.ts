import { Socket, type SocketConstructorOpts } from 'node:net';
import type { Duplex } from 'node:stream';
import { LentBytes } from '../base/lent-bytes.ts';
import { MemoryPool } from '../base/memory-pool.ts';

/** What an idle connection receives into, and what one does that sends much. */
export const receiveBytes = { little: 16 * 1024, much: 256 * 1024 } as const;

/** Memory to receive into that no connection is using. */
export function createReceivePool(): MemoryPool {
  return new MemoryPool([
    { bytes: receiveBytes.little, kept: 16 },
    { bytes: receiveBytes.much, kept: 16 },
  ]);
}

/** A client's socket, and who takes what comes from it. */
export interface ClientSocket {
  readonly stream: Duplex;
  /** To be set by whoever takes what comes; at first it is thrown away. */
  receive: (chunk: LentBytes) => void;
  /** Stops taking what comes, so that somebody else reads the stream. */
  detach?(): void;
}

/** Any stream: what comes is in memory of its own. */
export function streamClient(stream: Duplex): ClientSocket {
  const take = (bytes: Buffer): void => client.receive(new LentBytes(bytes));
  const detach = (): void => void stream.off('data', take);
  const client: ClientSocket = { stream, receive: drop, detach };
  stream.on('data', take);
  return client;
}

/**
 * An accepted socket whose incoming bytes lie in memory from the pool. Node gives every accepted
 * socket fresh memory for every read, and collects its whole heap for each 64 MiB of that; sockets
 * that it connects itself may bring their own (`onread`). So a second socket is made over the
 * accepted one's handle. Where Node should no longer allow that, the accepted one is used as it is.
 * The server must have been made with `pauseOnConnect`.
 */
export function pooledClient(accepted: Socket, pool: MemoryPool): ClientSocket {
  const handle = takeHandle(accepted);
  if (handle === undefined) return streamClient(accepted);
  const memory = new ReceiveMemory(pool);
  const options: SocketConstructorOpts = {
    // Its type names only sockets that were bound by hand; any of Node's handles will do.
    handle: handle as NonNullable<SocketConstructorOpts['handle']>,
    allowHalfOpen: true,
    readable: true,
    writable: true,
    onread: {
      buffer: () => memory.next(),
      callback: (count) => {
        client.receive(memory.received(count));
        return true;
      },
    },
  };
  const client: ClientSocket = { stream: new Socket(options), receive: drop };
  client.stream.on('close', () => memory.close());
  return client;
}

/** What one socket receives into: little while little comes, more as soon as that was filled. */
class ReceiveMemory {
  private readonly pool: MemoryPool;
  private current: LentBytes | undefined;
  private bytes: number = receiveBytes.little;

  constructor(pool: MemoryPool) {
    this.pool = pool;
  }

  /** Called by Node before the first read and after each. */
  next(): Uint8Array {
    // What was let go at once is what the pool gives again.
    this.current ??= this.pool.take(this.bytes);
    return this.current.bytes;
  }

  received(count: number): LentBytes {
    const memory = this.current as LentBytes;
    this.current = undefined;
    this.bytes = count < receiveBytes.little ? receiveBytes.little : receiveBytes.much;
    return new LentBytes(memory.bytes.subarray(0, count), () => memory.release());
  }

  close(): void {
    this.current?.release();
    this.current = undefined;
  }
}

function drop(chunk: LentBytes): void {
  chunk.release();
}

/** Leaves the accepted socket without its handle, so that only one socket reads and closes it. */
function takeHandle(accepted: Socket): object | undefined {
  const owner = accepted as Socket & { _handle?: object | null };
  const handle = owner._handle;
  if (typeof handle !== 'object' || handle === null || !('useUserBuffer' in handle))
    return undefined;
  owner._handle = null;
  return handle;
}
