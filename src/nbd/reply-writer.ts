import type { LentBytes } from '../base/lent-bytes.ts';
import { MemoryPool, unfilled } from '../base/memory-pool.ts';
import { viewOf } from './wire.ts';

/** The part of a socket that replies go to. */
export interface ByteSink {
  /** `taken` is called when the kernel has these bytes, or the socket has failed. */
  write(bytes: Uint8Array, taken: () => void): boolean;
  cork(): void;
  uncork(): void;
  /** Bytes that were written and that the kernel has not taken yet. */
  readonly writableLength: number;
}

export interface Batch {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** A reply of up to this size can be made in a batch. */
export const batchBytes = 512 * 1024;

/** The data of usual requests, each with the longest header before it. */
const ownSizes = [
  { bytes: 4096 + 64, kept: 256 },
  { bytes: 32 * 1024 + 64, kept: 32 },
  { bytes: 256 * 1024 + 64, kept: 8 },
];

/** Batches that no connection is using; an idle connection holds none. */
export class BatchPool {
  private readonly free: Batch[] = [];
  private readonly maximumFree: number;
  /** For replies that are made in memory of their own. */
  readonly own = new MemoryPool(ownSizes);

  constructor(maximumFree = 16) {
    this.maximumFree = maximumFree;
  }

  take(): Batch {
    const batch = this.free.pop();
    if (batch !== undefined) return batch;
    const bytes = unfilled(batchBytes);
    return { bytes, view: viewOf(bytes) };
  }

  give(batch: Batch): void {
    if (this.free.length < this.maximumFree) this.free.push(batch);
  }
}

/**
 * Gathers replies so that many leave in one write. A reply is made in place: `reserve` room in the
 * batch, write the bytes there, `commit` them. What is already in memory of its own is `push`ed.
 */
export class ReplyWriter {
  private readonly sink: ByteSink;
  private readonly pool: BatchPool;
  private batch: Batch | undefined;
  /** First byte of the batch that was not handed over yet. */
  private start = 0;
  private end = 0;
  /** What leaves before the batch's [start, end). */
  private queue: Uint8Array[] = [];
  private queuedBytes = 0;
  /** Memory that was handed over, and what must have been taken before it can be filled again. */
  private readonly retired: { readonly release: () => void; readonly untilBytes: number }[] = [];
  /** What the sink held after the last hand-over. */
  private sinkBytes = 0;
  private handedBytes = 0;

  /** Called when the kernel has taken what it had not at the last flush. */
  private readonly onTaken: () => void;

  constructor(sink: ByteSink, pool: BatchPool, onTaken: () => void) {
    this.sink = sink;
    this.pool = pool;
    this.onTaken = onTaken;
  }

  /** Bytes of replies that the kernel has not taken, as far as known. */
  get unsentBytes(): number {
    return this.sinkBytes + this.queuedBytes;
  }

  /** Bytes of replies that the kernel has taken, as far as known. */
  get takenBytes(): number {
    return this.handedBytes - this.sinkBytes;
  }

  /** Makes room for `count` ≤ `batchBytes` bytes in the batch; returns where they begin. */
  reserve(count: number): number {
    if (this.batch !== undefined && this.end + count > batchBytes) {
      this.flush();
      if (this.batch !== undefined) {
        const { batch } = this;
        this.retire(() => this.pool.give(batch), this.handedBytes);
        this.batch = undefined;
      }
    }
    if (this.batch === undefined) {
      this.batch = this.pool.take();
      this.start = 0;
      this.end = 0;
    }
    return this.end;
  }

  /** The batch in which `reserve` made room. */
  get reserved(): Batch {
    return this.batch as Batch;
  }

  commit(count: number): void {
    this.end += count;
  }

  /**
   * Gives up the batch because somebody will go on writing to what was reserved: it is left to him,
   * and to the garbage collector after him.
   */
  abandon(): void {
    this.queueBatch();
    this.batch = undefined;
  }

  /** Memory of its own for a reply of `count` bytes, to be `pushLent` or left to the collector. */
  lend(count: number): LentBytes {
    return this.pool.own.take(count);
  }

  /** Adds bytes that nobody will change. */
  push(bytes: Uint8Array): void {
    this.queueBatch();
    this.queue.push(bytes);
    this.queuedBytes += bytes.length;
  }

  /** Adds bytes that are let go when the kernel has them. */
  pushLent(lent: LentBytes): void {
    this.push(lent.bytes);
    this.retire(() => lent.release(), this.handedBytes + this.queuedBytes);
  }

  private retire(release: () => void, untilBytes: number): void {
    this.retired.push({ release, untilBytes });
  }

  flush(): void {
    const tail = this.start < this.end ? this.takeTail() : undefined;
    if (this.queue.length === 0) {
      if (tail === undefined) return;
      this.sink.write(tail, this.taken);
    } else {
      this.sink.cork();
      for (const bytes of this.queue) this.sink.write(bytes, this.taken);
      if (tail !== undefined) this.sink.write(tail, this.taken);
      this.sink.uncork();
      this.handedBytes += this.queuedBytes;
      this.queue = [];
      this.queuedBytes = 0;
    }
    this.handedBytes += tail?.length ?? 0;
    this.recycle();
  }

  private readonly taken = (): void => {
    if (this.sinkBytes === 0) return;
    this.recycle();
    this.onTaken();
  };

  private recycle(): void {
    this.sinkBytes = this.sink.writableLength;
    for (let oldest = this.retired[0]; oldest !== undefined; oldest = this.retired[0]) {
      if (oldest.untilBytes > this.takenBytes) return;
      oldest.release();
      this.retired.shift();
    }
    const unused = this.start === this.end && this.queue.length === 0 && this.sinkBytes === 0;
    if (this.batch !== undefined && unused) {
      this.pool.give(this.batch);
      this.batch = undefined;
    }
  }

  private queueBatch(): void {
    if (this.start === this.end) return;
    const tail = this.takeTail();
    this.queue.push(tail);
    this.queuedBytes += tail.length;
  }

  private takeTail(): Uint8Array {
    const tail = this.reserved.bytes.subarray(this.start, this.end);
    this.start = this.end;
    return tail;
  }
}
