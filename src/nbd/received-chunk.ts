import { assert } from '../base/assert.ts';

/** Bytes that a socket received. Their memory is used again when nobody holds them any more. */
export class ReceivedChunk {
  readonly bytes: Uint8Array;
  private holders = 1;
  private readonly free: (() => void) | undefined;

  /** `free` is called when whoever was given the chunk, and all who hold it, have let go. */
  constructor(bytes: Uint8Array, free?: () => void) {
    this.bytes = bytes;
    this.free = free;
  }

  hold(): void {
    assert(this.holders > 0, 'a chunk is held while it is still somebody’s');
    this.holders += 1;
  }

  release(): void {
    assert(this.holders > 0, 'a chunk is let go once for each time it was held');
    this.holders -= 1;
    if (this.holders === 0) this.free?.();
  }
}

/** What an idle connection receives into, and what one does that sends much. */
export const receiveBytes = { little: 16 * 1024, much: 256 * 1024 } as const;

export type ReceiveSize = keyof typeof receiveBytes;

/** Memory to receive into that no connection is using. */
export class ReceivePool {
  private readonly unused: Record<ReceiveSize, Uint8Array[]> = { little: [], much: [] };
  private readonly maximumUnused: number;

  /** So many of either size are kept. */
  constructor(maximumUnused = 16) {
    this.maximumUnused = maximumUnused;
  }

  take(size: ReceiveSize): Uint8Array {
    return this.unused[size].pop() ?? Buffer.allocUnsafeSlow(receiveBytes[size]);
  }

  give(memory: Uint8Array): void {
    const unused = this.unused[memory.byteLength === receiveBytes.much ? 'much' : 'little'];
    if (unused.length < this.maximumUnused) unused.push(memory);
  }
}
