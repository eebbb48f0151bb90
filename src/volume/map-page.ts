import { assert } from '../base/assert.ts';
import { pageBlocks } from '../format/geometry.ts';
import { nowhere, type PageRuns } from '../format/map-page.ts';

/** Runs above which a page is kept as one cell a block: from here a run costs more to find and move. */
const maximumRuns = 2048;

/** What a lookup gives: `count` blocks from the one asked for, at `index …` of `segment`. */
export interface Run {
  segment: number;
  index: number;
  count: number;
}

/**
 * Which (segment, index) each of 16,384 consecutive blocks holds. Kept as runs while they are few,
 * as one cell a block (6 bytes) when they are many. Blocks in no segment have segment 0 and an
 * index that says why; such an index does not count up along its run.
 */
export class MapPage {
  /** In a map that goes on changing: the segment of the last change. */
  changedIn = 0;
  private dense = false;
  private count = 1;
  private starts: Uint16Array = new Uint16Array(4);
  private segments: Uint32Array = new Uint32Array(4);
  private indices: Uint16Array = new Uint16Array(4);

  /** A page all of whose blocks are in no segment, for the reason `index`. */
  constructor(index: number) {
    this.indices[0] = index;
  }

  static fromRuns(runs: PageRuns): MapPage {
    const page = new MapPage(nowhere.hole);
    page.count = runs.count;
    page.starts = runs.starts;
    page.segments = runs.segments;
    page.indices = runs.indices;
    if (runs.count > maximumRuns) page.makeDense();
    return page;
  }

  get memoryBytes(): number {
    return this.starts.byteLength + this.segments.byteLength + this.indices.byteLength;
  }

  /** Puts into `run` what block `block` holds, and for how many blocks on, at most `limit`. */
  find(block: number, limit: number, run: Run): void {
    if (this.dense) this.findCell(block, limit, run);
    else this.findRun(block, limit, run);
  }

  private findRun(block: number, limit: number, run: Run): void {
    const at = this.runAt(block);
    const end = this.endOf(at);
    const segment = this.segments[at] as number;
    const into = block - (this.starts[at] as number);
    run.segment = segment;
    run.index = (this.indices[at] as number) + (segment === nowhere.segment ? 0 : into);
    run.count = Math.min(limit, end - block);
  }

  private findCell(block: number, limit: number, run: Run): void {
    const segment = this.segments[block] as number;
    const index = this.indices[block] as number;
    const step = segment === nowhere.segment ? 0 : 1;
    const end = Math.min(pageBlocks, block + limit);
    let at = block + 1;
    while (
      at < end &&
      this.segments[at] === segment &&
      this.indices[at] === index + step * (at - block)
    ) {
      at += 1;
    }
    run.segment = segment;
    run.index = index;
    run.count = at - block;
  }

  /** Says that blocks `start …` hold `index …` of `segment` from now on. */
  assign(start: number, count: number, segment: number, index: number): void {
    assert(count > 0 && start >= 0 && start + count <= pageBlocks, 'assignment outside its page');
    if (count === pageBlocks) this.reset(segment, index);
    else if (this.dense) this.assignCells(start, count, segment, index);
    else this.assignRun(start, count, segment, index);
  }

  private reset(segment: number, index: number): void {
    this.dense = false;
    this.count = 1;
    this.starts = new Uint16Array(4);
    this.segments = new Uint32Array(4);
    this.indices = new Uint16Array(4);
    this.segments[0] = segment;
    this.indices[0] = index;
  }

  private assignCells(start: number, count: number, segment: number, index: number): void {
    this.segments.fill(segment, start, start + count);
    if (segment === nowhere.segment) this.indices.fill(index, start, start + count);
    else for (let at = 0; at < count; at += 1) this.indices[start + at] = index + at;
  }

  /** Replaces the runs that the range touches by what is left of the outer two, and the new one. */
  private assignRun(start: number, count: number, segment: number, index: number): void {
    const end = start + count;
    const first = this.runAt(start);
    const last = this.endOf(first) >= end ? first : this.runAt(end - 1);
    const firstStart = this.starts[first] as number;
    const lastStart = this.starts[last] as number;
    const lastSegment = this.segments[last] as number;
    const lastIndex = this.indices[last] as number;
    const keepsHead = firstStart < start;
    const keepsTail = this.endOf(last) > end;
    const step = lastSegment === nowhere.segment ? 0 : 1;

    const at = keepsHead ? first + 1 : first;
    this.splice(at, last - at + 1, keepsTail ? 2 : 1);
    this.put(at, start, segment, index);
    if (keepsTail) this.put(at + 1, end, lastSegment, lastIndex + step * (end - lastStart));
    this.mergeWithNext(at);
    if (at > 0) this.mergeWithNext(at - 1);
    if (this.count > maximumRuns) this.makeDense();
  }

  /** Makes one run of run `at` and the next where the next goes on as the first would. */
  private mergeWithNext(at: number): void {
    const next = at + 1;
    if (next >= this.count) return;
    const segment = this.segments[at] as number;
    if (this.segments[next] !== segment) return;
    const length = (this.starts[next] as number) - (this.starts[at] as number);
    const step = segment === nowhere.segment ? 0 : length;
    if ((this.indices[at] as number) + step === this.indices[next]) this.splice(next, 1, 0);
  }

  private put(at: number, start: number, segment: number, index: number): void {
    this.starts[at] = start;
    this.segments[at] = segment;
    this.indices[at] = index;
  }

  /** Makes room for `added` runs at `at` in place of `removed`. */
  private splice(at: number, removed: number, added: number): void {
    const count = this.count + added - removed;
    if (count > this.starts.length) this.grow(Math.max(count, this.starts.length * 2));
    if (added !== removed) {
      this.starts.copyWithin(at + added, at + removed, this.count);
      this.segments.copyWithin(at + added, at + removed, this.count);
      this.indices.copyWithin(at + added, at + removed, this.count);
    }
    this.count = count;
  }

  private grow(capacity: number): void {
    const starts = new Uint16Array(capacity);
    const segments = new Uint32Array(capacity);
    const indices = new Uint16Array(capacity);
    starts.set(this.starts);
    segments.set(this.segments);
    indices.set(this.indices);
    this.starts = starts;
    this.segments = segments;
    this.indices = indices;
  }

  private makeDense(): void {
    const segments = new Uint32Array(pageBlocks);
    const indices = new Uint16Array(pageBlocks);
    for (let at = 0; at < this.count; at += 1) {
      const start = this.starts[at] as number;
      const end = this.endOf(at);
      const segment = this.segments[at] as number;
      const index = this.indices[at] as number;
      segments.fill(segment, start, end);
      if (segment === nowhere.segment) indices.fill(index, start, end);
      else for (let block = start; block < end; block += 1) indices[block] = index + block - start;
    }
    this.dense = true;
    this.starts = new Uint16Array(0);
    this.segments = segments;
    this.indices = indices;
  }

  /** The run that holds `block`. */
  private runAt(block: number): number {
    let low = 0;
    let high = this.count - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.starts[middle] as number) <= block) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  private endOf(at: number): number {
    return at + 1 < this.count ? (this.starts[at + 1] as number) : pageBlocks;
  }

  /** Whether there is a block in no segment for the reason `index`. */
  hasNowhere(index: number): boolean {
    const { segments, indices } = this;
    const length = this.dense ? pageBlocks : this.count;
    for (let at = 0; at < length; at += 1) {
      if (segments[at] === nowhere.segment && indices[at] === index) return true;
    }
    return false;
  }

  /** Calls `visit` for each run in order. */
  forEachRun(visit: (start: number, count: number, segment: number, index: number) => void): void {
    const run: Run = { segment: 0, index: 0, count: 0 };
    for (let block = 0; block < pageBlocks; block += run.count) {
      this.find(block, pageBlocks, run);
      visit(block, run.count, run.segment, run.index);
    }
  }

  toRuns(): PageRuns {
    if (!this.dense) {
      return {
        count: this.count,
        starts: this.starts,
        segments: this.segments,
        indices: this.indices,
      };
    }
    const starts: number[] = [];
    const segments: number[] = [];
    const indices: number[] = [];
    this.forEachRun((start, _count, segment, index) => {
      starts.push(start);
      segments.push(segment);
      indices.push(index);
    });
    return {
      count: starts.length,
      starts: Uint16Array.from(starts),
      segments: Uint32Array.from(segments),
      indices: Uint16Array.from(indices),
    };
  }
}
