import { decodeEntries, entryKind } from '../format/entry.ts';
import { pageBlocks } from '../format/geometry.ts';
import { nowhere } from '../format/map-page.ts';
import type { SegmentEntries } from './fold.ts';
import { MapPage } from './map-page.ts';

/** What a page takes beside its columns. */
const pageOverheadBytes = 1024;
/** Segments folded between two looks at the memory. */
const looksEvery = 16;

/**
 * The fold of the log over as many pages of the map as memory allows, from `firstPage` on: when the
 * pages grow past the limit, the last of them are given up, and `endPage` says from where another
 * pass has to begin. A page that is not there is one hole.
 */
export class FoldWindow {
  readonly pages = new Map<number, MapPage>();
  readonly firstPage: number;
  endPage: number;
  private readonly maximumBytes: number;
  private readonly only: ReadonlySet<number> | undefined;
  private segments = 0;

  /** With `only`, no other page of the range is folded. */
  constructor(
    firstPage: number,
    endPage: number,
    maximumBytes: number,
    only?: ReadonlySet<number>,
  ) {
    this.only = only;
    this.firstPage = firstPage;
    this.endPage = endPage;
    this.maximumBytes = maximumBytes;
  }

  /** Does what the entries of one segment say; segments come in order. */
  add({ segment, entries }: SegmentEntries): void {
    for (const { kind, firstBlock, count, firstIndex } of decodeEntries(entries)) {
      if (kind === entryKind.data) this.assign(firstBlock, count, segment, firstIndex);
      else if (kind === entryKind.zeroed)
        this.assign(firstBlock, count, nowhere.segment, nowhere.zeroed);
      else this.punch(firstBlock, count);
    }
    this.segments += 1;
    if (this.segments % looksEvery === 0) this.shrink();
  }

  private assign(firstBlock: number, count: number, segment: number, index: number): void {
    const step = segment === nowhere.segment ? 0 : 1;
    this.eachPart(firstBlock, count, (pageIndex, start, length, done) => {
      let page = this.pages.get(pageIndex);
      if (page === undefined) {
        page = new MapPage(nowhere.hole);
        this.pages.set(pageIndex, page);
        // One entry may touch every page of the volume.
        if (this.pages.size * pageOverheadBytes > this.maximumBytes) this.shrink();
      }
      page.assign(start, length, segment, index + step * done);
    });
  }

  private punch(firstBlock: number, count: number): void {
    const end = firstBlock + count;
    if (count / pageBlocks < this.pages.size) {
      this.eachPart(firstBlock, count, (pageIndex, start, length) =>
        this.punchIn(pageIndex, start, length),
      );
      return;
    }
    for (const pageIndex of [...this.pages.keys()]) {
      const pageStart = pageIndex * pageBlocks;
      const from = Math.max(firstBlock, pageStart);
      const to = Math.min(end, pageStart + pageBlocks);
      if (from < to) this.punchIn(pageIndex, from - pageStart, to - from);
    }
  }

  private punchIn(pageIndex: number, start: number, length: number): void {
    if (length === pageBlocks) this.pages.delete(pageIndex);
    else this.pages.get(pageIndex)?.assign(start, length, nowhere.segment, nowhere.hole);
  }

  /** The parts of a range that lie in pages of the window, and how much of the range is before each. */
  private eachPart(
    firstBlock: number,
    count: number,
    visit: (pageIndex: number, start: number, length: number, done: number) => void,
  ): void {
    const end = Math.min(firstBlock + count, this.endPage * pageBlocks);
    let block = Math.max(firstBlock, this.firstPage * pageBlocks);
    while (block < end) {
      const pageIndex = Math.floor(block / pageBlocks);
      if (pageIndex >= this.endPage) return;
      const start = block - pageIndex * pageBlocks;
      const length = Math.min(end - block, pageBlocks - start);
      if (this.only?.has(pageIndex) !== false) visit(pageIndex, start, length, block - firstBlock);
      block += length;
    }
  }

  private shrink(): void {
    let bytes = 0;
    for (const page of this.pages.values()) bytes += page.memoryBytes + pageOverheadBytes;
    if (bytes <= this.maximumBytes) return;
    const order = [...this.pages.keys()].sort((a, b) => b - a);
    for (const pageIndex of order) {
      if (bytes <= this.maximumBytes / 2 || pageIndex === this.firstPage) return;
      const page = this.pages.get(pageIndex) as MapPage;
      bytes -= page.memoryBytes + pageOverheadBytes;
      this.pages.delete(pageIndex);
      this.endPage = pageIndex;
    }
  }
}
