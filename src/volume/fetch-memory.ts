import { LentBytes } from '../base/lent-bytes.ts';
import { frameBytes } from '../format/geometry.ts';
import { maximumObjectBytes } from '../format/segment-object.ts';

/** Sizes of memory, in bytes, and how much of each is kept while nobody uses it. */
const sizes = [
  { bytes: frameBytes, kept: 64 },
  { bytes: 16 * frameBytes, kept: 4 },
  { bytes: maximumObjectBytes, kept: 2 },
] as const;

/**
 * Memory for what is fetched, used again: frames that are read at random would else be gigabytes of
 * garbage a second, and V8 collects its whole heap for each 64 MiB of that.
 */
export class FetchMemory {
  private readonly unused = new Map<number, Uint8Array[]>(sizes.map(({ bytes }) => [bytes, []]));

  take(lengthBytes: number): LentBytes {
    const size = sizes.find(({ bytes }) => lengthBytes <= bytes);
    if (size === undefined) return new LentBytes(new Uint8Array(lengthBytes));
    const unused = this.unused.get(size.bytes) as Uint8Array[];
    const memory = unused.pop() ?? new Uint8Array(size.bytes);
    return new LentBytes(memory.subarray(0, lengthBytes), () => {
      if (unused.length < size.kept) unused.push(memory);
    });
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
