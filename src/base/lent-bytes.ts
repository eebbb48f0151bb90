import { assert } from './assert.ts';

/** Bytes whose memory is used again when nobody holds them any more. */
export class LentBytes {
  readonly bytes: Uint8Array;
  private holders = 1;
  private readonly free: (() => void) | undefined;

  /** `free` is called when whoever was given them, and all who hold them, have let go. */
  constructor(bytes: Uint8Array, free?: () => void) {
    this.bytes = bytes;
    this.free = free;
  }

  hold(): void {
    assert(this.holders > 0, 'bytes are held while they are still somebody’s');
    this.holders += 1;
  }

  release(): void {
    assert(this.holders > 0, 'bytes are let go once for each time they were held');
    this.holders -= 1;
    if (this.holders === 0) this.free?.();
  }
}
