import { LentBytes } from './lent-bytes.ts';

/** A size of memory, in bytes, and how many pieces of it are kept while nobody uses them. */
export interface PoolSize {
  readonly bytes: number;
  readonly kept: number;
}

/**
 * Memory that is used again. What is taken and dropped instead is gigabytes of garbage a second, and
 * V8 collects its whole heap for each 64 MiB of that.
 */
export class MemoryPool {
  private readonly sizes: readonly (PoolSize & { readonly unused: Uint8Array[] })[];

  /** `sizes` from small to large. */
  constructor(sizes: readonly PoolSize[]) {
    this.sizes = sizes.map((size) => ({ ...size, unused: [] }));
  }

  /** Memory of the smallest size that is enough, with whatever it held; above all sizes, its own. */
  take(lengthBytes: number): LentBytes {
    const size = this.sizes.find(({ bytes }) => lengthBytes <= bytes);
    if (size === undefined) return new LentBytes(unfilled(lengthBytes));
    const memory = size.unused.pop() ?? unfilled(size.bytes);
    return new LentBytes(memory.subarray(0, lengthBytes), () => {
      if (size.unused.length < size.kept) size.unused.push(memory);
    });
  }
}

/** Memory with whatever it held: for bytes that are all written before they are read. */
export function unfilled(lengthBytes: number): Uint8Array {
  return new Uint8Array(Buffer.allocUnsafeSlow(lengthBytes).buffer);
}
