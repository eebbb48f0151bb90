import { checksum, viewOf } from '../format/binary.ts';
import { decodeEntries, entryBytes, entryKind, entryTimeMs } from '../format/entry.ts';
import { pageBlocks } from '../format/geometry.ts';
import { decodePage, encodePage, nowhere } from '../format/map-page.ts';
import { MapPage } from './map-page.ts';

/** Assignments to one page, in order, four numbers each: start, count, segment, index. */
export interface PageChange {
  readonly pageIndex: number;
  /** The page as stored now; `undefined` when it is one hole, or nothing of it stays. */
  readonly stored: Uint8Array | undefined;
  readonly assignments: Uint32Array;
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
    const list = change.assignments;
    for (let at = 0; at < list.length; at += 4) {
      page.assign(
        list[at] as number,
        list[at + 1] as number,
        list[at + 2] as number,
        list[at + 3] as number,
      );
    }
    return storedForm(change.pageIndex, page);
  });
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

/** What becomes of one page: whether its stored form still counts, and the assignments over it. */
export interface PageAssignments {
  keepsStored: boolean;
  readonly list: number[];
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
    page = { keepsStored: true, list: [] };
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
    if (stop - block === pageBlocks) {
      page.keepsStored = false;
      page.list.length = 0;
    }
    page.list.push(block - pageStart, stop - block, segment, at);
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
    const page = pageOf(pages, pageIndex);
    page.keepsStored = false;
    page.list.length = 0;
  };
  for (const pageIndex of [...pages.keys()]) clear(pageIndex);
  for (const pageIndex of storedPages()) clear(pageIndex);
  const headEnd = firstWhole * pageBlocks;
  const tailStart = endWhole * pageBlocks;
  if (start < headEnd) assignRange(pages, start, headEnd, nowhere.segment, nowhere.hole);
  if (tailStart < end) assignRange(pages, tailStart, end, nowhere.segment, nowhere.hole);
}
