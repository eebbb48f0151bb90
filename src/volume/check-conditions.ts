import { frameBlocks } from '../format/geometry.ts';
import type { SegmentCondition } from './check-segment.ts';

/** What a check remembers of every segment: 2 bytes each, and more only of those that are damaged. */
export class SegmentConditions {
  private blockCounts = new Uint16Array(1024);
  private readonly damagedFrames = new Map<number, ReadonlySet<number>>();
  /** The last segment up to the checkpoint of whose entries nothing is known; 0 for none. */
  newestUnknown = 0;

  note(condition: SegmentCondition, isInCheckpoint: boolean): void {
    const { blockCount, damagedFrames, entries } = condition;
    const { segment } = condition.at;
    if (segment >= this.blockCounts.length) {
      const grown = new Uint16Array(Math.max(segment + 1, this.blockCounts.length * 2));
      grown.set(this.blockCounts);
      this.blockCounts = grown;
    }
    this.blockCounts[segment] = blockCount;
    if (damagedFrames.length > 0) this.damagedFrames.set(segment, new Set(damagedFrames));
    if (entries === undefined && isInCheckpoint)
      this.newestUnknown = Math.max(this.newestUnknown, segment);
  }

  /** Calls `visit` for the parts of blocks `index …` of a segment that cannot be read. */
  eachUnreadable(
    segment: number,
    index: number,
    count: number,
    visit: (from: number, count: number) => void,
  ): void {
    const readable = Math.min(index + count, this.blockCounts[segment] ?? 0);
    const frames = this.damagedFrames.get(segment);
    if (frames !== undefined) {
      for (let at = index; at < readable; ) {
        const frame = Math.floor(at / frameBlocks);
        const end = Math.min(readable, (frame + 1) * frameBlocks);
        if (frames.has(frame)) visit(at - index, end - at);
        at = end;
      }
    }
    const from = Math.max(index, readable);
    if (from < index + count) visit(from - index, index + count - from);
  }
}
