import { assert } from '../base/assert.ts';
import { blockBytes, segmentBlocks } from '../format/geometry.ts';
import { SlotIndex } from './slot-index.ts';

const chunkSlots = 2048;
/** Slots looked at for a dead block before a live one is given up. */
const maximumLookahead = 16;

/** The number under which a block of a segment is cached. It never changes, so is never stale. */
function blockNumber(segment: number, index: number): number {
  return segment * segmentBlocks + index;
}

/**
 * Blocks in RAM, by their place in the log: slots of 4 KiB. When one is needed, the clock algorithm
 * gives up first what the volume has replaced meanwhile (`isLive`), then what was not used since the
 * hand last passed: what is kept is live data, however scattered the writes. Memory is taken as it
 * is first needed.
 */
export class BlockCache {
  readonly slotCount: number;
  hits = 0;
  misses = 0;
  private readonly isLive: (block: number, segment: number, index: number) => boolean;
  private readonly chunks: Uint8Array[] = [];
  private readonly index: SlotIndex;
  /** By slot: the volume's block, and whether it was used since the hand passed. */
  private readonly blocks: Float64Array;
  private readonly used: Uint8Array;
  private takenCount = 0;
  private hand = 0;
  private lookahead = maximumLookahead;

  constructor(
    cacheBytes: number,
    isLive: (block: number, segment: number, index: number) => boolean,
  ) {
    this.slotCount = Math.floor(cacheBytes / blockBytes);
    assert(this.slotCount > 0, 'a cache holds something');
    this.isLive = isLive;
    this.index = new SlotIndex(this.slotCount);
    this.blocks = new Float64Array(this.slotCount);
    this.used = new Uint8Array(this.slotCount);
  }

  get memoryBytes(): number {
    return this.chunks.length * chunkSlots * blockBytes;
  }

  has(segment: number, index: number): boolean {
    return this.index.find(blockNumber(segment, index)) >= 0;
  }

  /** Copies part of a block to `into`; false when it is not here. */
  copy(
    segment: number,
    index: number,
    within: number,
    lengthBytes: number,
    into: Uint8Array,
    at: number,
  ): boolean {
    const slot = this.index.find(blockNumber(segment, index));
    if (slot < 0) return false;
    this.used[slot] = 1;
    const start = (slot % chunkSlots) * blockBytes + within;
    into.set(this.chunkOf(slot).subarray(start, start + lengthBytes), at);
    return true;
  }

  /** Keeps the block whose bytes begin at `from` of `bytes`, which `block` of the volume holds now. */
  insert(block: number, segment: number, index: number, bytes: Uint8Array, from: number): void {
    const number = blockNumber(segment, index);
    if (this.index.find(number) >= 0) return;
    const slot = this.takenCount < this.slotCount ? this.takenCount++ : this.evict();
    this.index.add(number, slot);
    this.blocks[slot] = block;
    this.used[slot] = 1;
    const start = (slot % chunkSlots) * blockBytes;
    this.chunkOf(slot).set(bytes.subarray(from, from + blockBytes), start);
  }

  /**
   * Frees a slot: one whose block is dead, if the hand meets one within `lookahead` steps; else the
   * first live one that was not used. Looking ahead pays where there are dead ones to be found, so it
   * goes as far as it did of late.
   */
  private evict(): number {
    let victim = -1;
    for (let step = 0; victim < 0 || step < this.lookahead; step += 1) {
      const slot = this.hand;
      this.hand = slot + 1 === this.slotCount ? 0 : slot + 1;
      if (!this.holdsLive(slot)) {
        this.lookahead = Math.min(maximumLookahead, this.lookahead + 1);
        return this.release(slot);
      }
      if (this.used[slot] === 1) this.used[slot] = 0;
      else if (victim < 0) victim = slot;
    }
    this.lookahead = Math.max(1, this.lookahead - 1);
    return this.release(victim);
  }

  private holdsLive(slot: number): boolean {
    const number = this.index.keys[slot] as number;
    const segment = Math.floor(number / segmentBlocks);
    return this.isLive(this.blocks[slot] as number, segment, number - segment * segmentBlocks);
  }

  private release(slot: number): number {
    this.index.remove(slot);
    return slot;
  }

  private chunkOf(slot: number): Uint8Array {
    const chunk = Math.floor(slot / chunkSlots);
    while (this.chunks.length <= chunk) this.chunks.push(new Uint8Array(chunkSlots * blockBytes));
    return this.chunks[chunk] as Uint8Array;
  }
}
