import { assert } from '../base/assert.ts';

const nothing = new Uint8Array(0);

/** The bytes of one received chunk that a parser has not consumed yet. */
export class ByteIntake {
  chunk: Uint8Array = nothing;
  position = 0;

  get availableBytes(): number {
    return this.chunk.length - this.position;
  }

  /** Only when the chunk before was consumed whole: a parser never queues. */
  push(chunk: Uint8Array): void {
    assert(this.availableBytes === 0, 'a chunk was pushed before the one before it was consumed');
    this.chunk = chunk;
    this.position = 0;
  }

  /** Copies into `target` from `have` on, as much as there is; returns the new `have`. */
  fill(target: Uint8Array, have: number, wantedBytes = target.length): number {
    const count = Math.min(wantedBytes - have, this.availableBytes);
    target.set(this.chunk.subarray(this.position, this.position + count), have);
    this.position += count;
    return have + count;
  }

  /** Discards up to `count` bytes; returns how many there were. */
  skip(count: number): number {
    const skipped = Math.min(count, this.availableBytes);
    this.position += skipped;
    return skipped;
  }

  /** A view of the next `count` bytes, which must be there. */
  take(count: number): Uint8Array {
    const taken = this.chunk.subarray(this.position, this.position + count);
    this.position += count;
    return taken;
  }

  /** What is left, for the next parser. */
  takeRest(): Uint8Array {
    return this.take(this.availableBytes);
  }
}
