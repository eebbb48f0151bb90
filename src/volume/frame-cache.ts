import { assert } from '../base/assert.ts';
import { frameBytes, segmentFrames } from '../format/geometry.ts';

const chunkSlots = 128;

/** The number under which a frame is cached. A segment's frames never change, so it is never stale. */
export function frameNumber(segment: number, frame: number): number {
  return segment * segmentFrames + frame;
}

/**
 * Frames in RAM: slots of 64 KiB, found by frame number, given up by the clock algorithm (a frame
 * used since the hand last passed stays). A pinned slot stays: it holds what exists nowhere else
 * yet, or somebody is about to copy from it. Memory is taken as it is first needed.
 */
export class FrameCache {
  readonly slotCount: number;
  private readonly chunks: Uint8Array[] = [];
  private readonly slotOf = new Map<number, number>();
  private readonly frameOf: Float64Array;
  private readonly used: Uint8Array;
  private readonly pins: Uint16Array;
  private takenCount = 0;
  private pinnedCount = 0;
  private hand = 0;
  private readonly waiters: (() => void)[] = [];
  hits = 0;
  misses = 0;

  constructor(cacheBytes: number) {
    this.slotCount = Math.floor(cacheBytes / frameBytes);
    assert(this.slotCount >= 2 * segmentFrames, 'a cache holds at least two segments');
    this.frameOf = new Float64Array(this.slotCount).fill(-1);
    this.used = new Uint8Array(this.slotCount);
    this.pins = new Uint16Array(this.slotCount);
  }

  get memoryBytes(): number {
    return this.chunks.length * chunkSlots * frameBytes;
  }

  /** Slots that could be taken for something else now or soon. */
  get unpinnedCount(): number {
    return this.slotCount - this.pinnedCount;
  }

  /** The slot of a frame, or -1. Counts as a use. */
  find(frame: number): number {
    const slot = this.slotOf.get(frame);
    if (slot === undefined) return -1;
    this.used[slot] = 1;
    return slot;
  }

  /** Whether a frame is here; does not count as a use. */
  has(frame: number): boolean {
    return this.slotOf.has(frame);
  }

  /** A pinned slot for a frame that is not here, or -1 when all are pinned. Not found until published. */
  take(): number {
    const slot = this.takenCount < this.slotCount ? this.takenCount++ : this.evict();
    if (slot < 0) return -1;
    this.pins[slot] = 1;
    this.pinnedCount += 1;
    return slot;
  }

  /** From now on the frame is found in this slot. */
  publish(slot: number, frame: number): void {
    assert(!this.slotOf.has(frame), 'a frame is cached once');
    this.slotOf.set(frame, slot);
    this.frameOf[slot] = frame;
    this.used[slot] = 1;
  }

  private evict(): number {
    for (let step = 0; step < 2 * this.slotCount; step += 1) {
      const slot = this.hand;
      this.hand = slot + 1 === this.slotCount ? 0 : slot + 1;
      if (this.pins[slot] !== 0) continue;
      if (this.used[slot] === 1) {
        this.used[slot] = 0;
        continue;
      }
      this.slotOf.delete(this.frameOf[slot] as number);
      this.frameOf[slot] = -1;
      return slot;
    }
    return -1;
  }

  pin(slot: number): void {
    if (this.pins[slot] === 0) this.pinnedCount += 1;
    this.pins[slot] = (this.pins[slot] as number) + 1;
  }

  unpin(slot: number): void {
    assert((this.pins[slot] as number) > 0, 'a slot is unpinned as often as it was pinned');
    this.pins[slot] = (this.pins[slot] as number) - 1;
    if (this.pins[slot] !== 0) return;
    this.pinnedCount -= 1;
    // All of them look again: one that no longer needs a slot would else keep another waiting.
    for (const wake of this.waiters.splice(0)) wake();
  }

  /** Resolves when a slot has been unpinned. */
  whenUnpinned(): Promise<void> {
    return new Promise((resolve) => this.waiters.push(resolve));
  }

  /** The chunk of memory that a slot lies in; its bytes begin at `offsetOf`. */
  memoryOf(slot: number): Uint8Array {
    const chunk = Math.floor(slot / chunkSlots);
    while (this.chunks.length <= chunk) {
      this.chunks.push(new Uint8Array(chunkSlots * frameBytes));
    }
    return this.chunks[chunk] as Uint8Array;
  }

  offsetOf(slot: number): number {
    return (slot % chunkSlots) * frameBytes;
  }

  /** `lengthBytes` of a slot from `from`, as a view. */
  view(slot: number, from: number, lengthBytes: number): Uint8Array {
    const start = this.offsetOf(slot) + from;
    return this.memoryOf(slot).subarray(start, start + lengthBytes);
  }
}
