import { assert } from '../base/assert.ts';

const empty = 0;
/** 2^32 divided by the golden ratio: spreads keys that follow each other (Knuth, TAOCP 6.4). */
const spread = 0x9e3779b1;

/**
 * Which slot a key is in: a hash table with linear probing over a typed array, for keys that the
 * slots themselves hold. A `Map` of as many entries takes several times the memory and must be
 * walked by the garbage collector.
 */
export class SlotIndex {
  /** By slot, a whole number below 2^53. */
  readonly keys: Float64Array;
  /** Slot + 1, or `empty`. At most half are taken. */
  private readonly table: Uint32Array;
  private readonly mask: number;

  constructor(slotCount: number) {
    const size = 2 ** Math.ceil(Math.log2(2 * slotCount));
    this.keys = new Float64Array(slotCount);
    this.table = new Uint32Array(size);
    this.mask = size - 1;
  }

  /** The slot of `key`, or -1. */
  find(key: number): number {
    const { table, keys, mask } = this;
    for (let at = this.homeOf(key); ; at = (at + 1) & mask) {
      const slot = (table[at] as number) - 1;
      if (slot < 0) return -1;
      if (keys[slot] === key) return slot;
    }
  }

  /** Puts a key that is in no slot into `slot`, which holds none. */
  add(key: number, slot: number): void {
    const { table, mask } = this;
    let at = this.homeOf(key);
    while (table[at] !== empty) at = (at + 1) & mask;
    table[at] = slot + 1;
    this.keys[slot] = key;
  }

  /** Empties `slot`, which holds a key. */
  remove(slot: number): void {
    const { table, mask } = this;
    let at = this.homeOf(this.keys[slot] as number);
    while (table[at] !== slot + 1) {
      assert(table[at] !== empty, 'only a slot that holds a key is emptied');
      at = (at + 1) & mask;
    }
    // What was pushed on by this one moves back, so that no search ends too early.
    for (let next = (at + 1) & mask; table[next] !== empty; next = (next + 1) & mask) {
      const home = this.homeOf(this.keys[(table[next] as number) - 1] as number);
      if (((next - home) & mask) >= ((next - at) & mask)) {
        table[at] = table[next] as number;
        at = next;
      }
    }
    table[at] = empty;
  }

  private homeOf(key: number): number {
    const high = Math.floor(key / 2 ** 32);
    const mixed = Math.imul((key ^ Math.imul(high, spread)) | 0, spread);
    return (mixed ^ (mixed >>> 15)) & this.mask;
  }
}
