import type { Random } from '../../src/base/random.ts';
import { blockBytes } from '../../src/format/geometry.ts';

export { blockBytes };

const stampEveryBytes = 512;

/**
 * What clients write: no two blocks alike, and each sector says which write it is of, so that bytes
 * of two writes in one block are seen.
 */
export class Contents {
  private stamp = 0;
  private readonly pattern: Uint8Array;

  constructor(random: Random) {
    this.pattern = new Uint8Array(blockBytes);
    // Half of a block can be compressed.
    this.pattern.set(random.bytes(64), blockBytes / 2);
  }

  /** Fills one block. */
  fillBlock(into: Uint8Array, at: number): void {
    into.set(this.pattern, at);
    this.stampFrom(into, at, at + blockBytes);
  }

  /** Fills any bytes. */
  fillAny(into: Uint8Array): void {
    into.fill(0xa5);
    this.stampFrom(into, 0, into.byteLength);
  }

  private stampFrom(into: Uint8Array, from: number, end: number): void {
    this.stamp += 1;
    for (let at = from; at + 4 <= end; at += stampEveryBytes) {
      into[at] = this.stamp;
      into[at + 1] = this.stamp >> 8;
      into[at + 2] = this.stamp >> 16;
      into[at + 3] = 1;
    }
  }
}

/** A block with the part of `bytes` that lies in it; `start` and `blockStart` are bytes of the volume. */
export function patched(
  block: Uint8Array,
  blockStart: number,
  bytes: Uint8Array,
  start: number,
): Uint8Array {
  const from = Math.max(start, blockStart);
  const end = Math.min(start + bytes.byteLength, blockStart + blockBytes);
  const copy = block.slice();
  copy.set(bytes.subarray(from - start, end - start), from - blockStart);
  return copy;
}
