import { segmentDataBytes } from '../format/geometry.ts';
import type { SegmentBuffer } from './segment-buffer.ts';

/**
 * Memory for the data of segments, 8 MiB each. A segment keeps its memory after the journal has
 * everything, so that what was just written is read from it, until a younger one needs it; then
 * `onRetire` is told to keep what is still of use.
 */
export class SegmentMemory {
  private readonly maximumCount: number;
  private readonly onRetire: (segment: SegmentBuffer, data: Uint8Array) => void;
  /** Segments that have memory, oldest first. */
  private readonly holders = new Map<number, SegmentBuffer>();

  constructor(maximumCount: number, onRetire: (segment: SegmentBuffer, data: Uint8Array) => void) {
    this.maximumCount = maximumCount;
    this.onRetire = onRetire;
  }

  get memoryBytes(): number {
    return this.holders.size * segmentDataBytes;
  }

  /** Memory for one more segment, or `undefined` while all of it holds what the journal has not. */
  take(): Uint8Array | undefined {
    if (this.holders.size < this.maximumCount) return new Uint8Array(segmentDataBytes);
    for (const oldest of this.holders.values()) {
      if (!oldest.sealed || !oldest.isJournaled) return undefined;
      this.holders.delete(oldest.number);
      const data = oldest.releaseData();
      this.onRetire(oldest, data);
      return data;
    }
    return undefined;
  }

  /** The segment has the memory that was taken last. */
  hold(segment: SegmentBuffer): void {
    this.holders.set(segment.number, segment);
  }

  /** The data of a segment that is in memory. */
  find(segment: number): Uint8Array | undefined {
    return this.holders.get(segment)?.data;
  }
}
