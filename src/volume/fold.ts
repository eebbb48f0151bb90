import { checksum, viewOf } from '../format/binary.ts';
import { decodeEntries, entryBytes, entryKind, entryTimeMs } from '../format/entry.ts';
import { pageBlocks } from '../format/geometry.ts';
import { decodePage, encodePage, nowhere } from '../format/map-page.ts';
import { MapPage } from './map-page.ts';

/** What becomes of one page. */
export interface PageChange {
  readonly pageIndex: number;
  /** The page as stored now; `undefined` when it is one hole, or nothing of it stays. */
  readonly stored: Uint8Array | undefined;
  /** In order, four numbers each: start, count, segment, index. */
  readonly assignments: readonly Uint32Array<ArrayBuffer>[];
}

export interface FoldJob {
  readonly pages: readonly PageChange[];
}

export interface FoldedPage {
  readonly pageIndex: number;
  /** The page to store; `undefined` when it is one hole. */
  readonly stored: Uint8Array | undefined;
  readonly checksum: number;
  readonly liveBlocks: number;
}

/** Applies what the log says to stored pages. */
export function foldPages(job: FoldJob): FoldedPage[] {
  return job.pages.map((change) => {
    const page =
      change.stored === undefined
        ? new MapPage(nowhere.hole)
        : MapPage.fromRuns(decodePage(change.stored));
    assignAll(page, change.assignments);
    return storedForm(change.pageIndex, page);
  });
}

/** Makes the assignments of `PageChange`. */
export function assignAll(page: MapPage, assignments: PageChange['assignments']): void {
  for (const part of assignments) {
    for (let at = 0; at < part.length; at += 4) {
      page.assign(
        part[at] as number,
        part[at + 1] as number,
        part[at + 2] as number,
        part[at + 3] as number,
      );
    }
  }
}

/** A page as it is to be stored. */
export function storedForm(pageIndex: number, page: MapPage): FoldedPage {
  let liveBlocks = 0;
  let isHole = true;
  page.forEachRun((_start, count, segment, index) => {
    if (segment !== nowhere.segment) liveBlocks += count;
    if (segment !== nowhere.segment || index !== nowhere.hole) isHole = false;
  });
  if (isHole) return { pageIndex, stored: undefined, checksum: 0, liveBlocks: 0 };
  const stored = encodePage(page.toRuns());
  return { pageIndex, stored, checksum: checksum(stored), liveBlocks };
}

/** A segment's entries as the checkpointer keeps them: the table of `entryBytes` each. */
export interface SegmentEntries {
  readonly segment: number;
  readonly epoch: number;
  readonly entries: Uint8Array;
}

/** With the times of the entries. */
export interface TimedEntries extends SegmentEntries {
  /** What they count from; 0: they are not known. */
  readonly openedMs: number;
}

/** When the last entry was written, since 1970; 0 when that is not known. */
export function lastTimeMs({ entries, openedMs }: TimedEntries): number {
  if (openedMs === 0) return 0;
  return openedMs + entryTimeMs(viewOf(entries), entries.byteLength - entryBytes);
}

/** Numbers in the smallest and in the largest part of the assignments of one page. */
const firstPartNumbers = 4 * 8;
const lastPartNumbers = 4 * 2048;

/**
 * What becomes of one page: whether its stored form still counts, and the assignments over it. A
 * long log of scattered writes has a million of them: 16 bytes each, and nothing copied as they grow.
 */
export class PageAssignments {
  keepsStored = true;
  private full: Uint32Array<ArrayBuffer>[] = [];
  private last = new Uint32Array(0);
  private used = 0;

  add(start: number, count: number, segment: number, index: number): void {
    if (this.used === this.last.length) this.grow();
    const { last, used } = this;
    last[used] = start;
    last[used + 1] = count;
    last[used + 2] = segment;
    last[used + 3] = index;
    this.used = used + 4;
  }

  private grow(): void {
    const { length } = this.last;
    if (length > 0) this.full.push(this.last);
    this.last = new Uint32Array(Math.min(lastPartNumbers, Math.max(firstPartNumbers, 2 * length)));
    this.used = 0;
  }

  /** Nothing of the page counts any more, stored or assigned. */
  clear(): void {
    this.keepsStored = false;
    this.full = [];
    this.used = 0;
  }

  /** As `PageChange.assignments`. */
  parts(): Uint32Array<ArrayBuffer>[] {
    return [...this.full, this.last.subarray(0, this.used)];
  }
}

/** The pages that a segment changes, but for those that it makes whole holes. */
export function touchedPages(entries: Uint8Array, touched: Set<number>): void {
  for (const { kind, firstBlock, count } of decodeEntries(entries)) {
    const first = Math.floor(firstBlock / pageBlocks);
    const last = Math.floor((firstBlock + count - 1) / pageBlocks);
    touched.add(first);
    touched.add(last);
    if (kind === entryKind.hole) continue;
    for (let pageIndex = first + 1; pageIndex < last; pageIndex += 1) touched.add(pageIndex);
  }
}

/**
 * Sorts the entries of segments, added in order, by the page that they touch. A hole over whole
 * pages costs only where something is stored (`storedPages`) or was assigned before.
 */
export class PageGrouping {
  readonly pages = new Map<number, PageAssignments>();
  private readonly storedPages: () => Iterable<number>;

  constructor(storedPages: () => Iterable<number>) {
    this.storedPages = storedPages;
  }

  add({ segment, entries }: SegmentEntries): void {
    for (const entry of decodeEntries(entries)) {
      const end = entry.firstBlock + entry.count;
      if (entry.kind === entryKind.data) {
        assignRange(this.pages, entry.firstBlock, end, segment, entry.firstIndex);
      } else if (entry.kind === entryKind.zeroed) {
        assignRange(this.pages, entry.firstBlock, end, nowhere.segment, nowhere.zeroed);
      } else {
        punch(this.pages, entry.firstBlock, end, this.storedPages);
      }
    }
  }
}

function pageOf(pages: Map<number, PageAssignments>, pageIndex: number): PageAssignments {
  let page = pages.get(pageIndex);
  if (page === undefined) {
    page = new PageAssignments();
    pages.set(pageIndex, page);
  }
  return page;
}

function assignRange(
  pages: Map<number, PageAssignments>,
  start: number,
  end: number,
  segment: number,
  index: number,
): void {
  for (let block = start; block < end; ) {
    const pageIndex = Math.floor(block / pageBlocks);
    const pageStart = pageIndex * pageBlocks;
    const stop = Math.min(end, pageStart + pageBlocks);
    const at = segment === nowhere.segment ? index : index + block - start;
    const page = pageOf(pages, pageIndex);
    if (stop - block === pageBlocks) page.clear();
    page.add(block - pageStart, stop - block, segment, at);
    block = stop;
  }
}

/** A hole: its whole pages matter only where something is stored or was assigned. */
function punch(
  pages: Map<number, PageAssignments>,
  start: number,
  end: number,
  storedPages: () => Iterable<number>,
): void {
  const firstWhole = Math.ceil(start / pageBlocks);
  const endWhole = Math.floor(end / pageBlocks);
  if (firstWhole >= endWhole) {
    assignRange(pages, start, end, nowhere.segment, nowhere.hole);
    return;
  }
  const clear = (pageIndex: number): void => {
    if (pageIndex < firstWhole || pageIndex >= endWhole) return;
    pageOf(pages, pageIndex).clear();
  };
  for (const pageIndex of [...pages.keys()]) clear(pageIndex);
  for (const pageIndex of storedPages()) clear(pageIndex);
  const headEnd = firstWhole * pageBlocks;
  const tailStart = endWhole * pageBlocks;
  if (start < headEnd) assignRange(pages, start, headEnd, nowhere.segment, nowhere.hole);
  if (tailStart < end) assignRange(pages, tailStart, end, nowhere.segment, nowhere.hole);
}
