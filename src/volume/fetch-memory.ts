import { LentBytes } from '../base/lent-bytes.ts';
import { MemoryPool } from '../base/memory-pool.ts';
import { frameBytes } from '../format/geometry.ts';
import { maximumStoredBytes } from '../format/sealed-object.ts';

/** Memory for what is fetched: a frame, a part of an object, an object. */
export class FetchMemory extends MemoryPool {
  constructor() {
    super([
      { bytes: frameBytes, kept: 64 },
      { bytes: 16 * frameBytes, kept: 4 },
      { bytes: maximumStoredBytes, kept: 4 },
    ]);
  }

  /**
   * For one read, which may ask for memory several times. What it asked for and did not return is
   * not used again: something may still be writing to it.
   */
  loan(): Loan {
    let last: LentBytes | undefined;
    return {
      allocate: (lengthBytes) => {
        last = this.take(lengthBytes);
        return last.bytes;
      },
      lent: (bytes) => {
        const lent = last;
        if (lent?.bytes.buffer !== bytes.buffer) return new LentBytes(bytes);
        return new LentBytes(bytes, () => lent.release());
      },
    };
  }
}

export interface Loan {
  readonly allocate: (lengthBytes: number) => Uint8Array;
  /** What was read, with the memory that it lies in. */
  readonly lent: (bytes: Uint8Array) => LentBytes;
}
