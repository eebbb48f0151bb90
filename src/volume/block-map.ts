import { blockBytes, maximumVolumeBytes, pageBlocks } from '../format/geometry.ts';
import { nowhere } from '../format/map-page.ts';
import { MapPage, type Run } from './map-page.ts';

/**
 * Index, beside those of the format, of blocks whose place is still only in the stored page: writes
 * go over them without waiting for it, reads ask for it.
 */
export const unknownIndex = 2;

/**
 * Pages are found in two steps, because volumes are large and mostly empty: one list of them all
 * would be a hash table to the machine, slow to look into and very slow to walk.
 */
const shelfPages = 1024;
const shelfCount = maximumVolumeBytes / blockBytes / pageBlocks / shelfPages;

type Shelf = (MapPage | undefined)[];

/**
 * The map in memory: which (segment, index) each block of the volume holds now. Pages are made when
 * first touched. `isStored` says whether the checkpoint that the volume was opened from has a page.
 */
export class BlockMap {
  private readonly shelves = new Array<Shelf | undefined>(shelfCount).fill(undefined);
  private readonly isStored: (pageIndex: number) => boolean;

  constructor(isStored: (pageIndex: number) => boolean) {
    this.isStored = isStored;
  }

  private pageAt(pageIndex: number): MapPage | undefined {
    return this.shelves[Math.floor(pageIndex / shelfPages)]?.[pageIndex % shelfPages];
  }

  private putPage(pageIndex: number, page: MapPage): void {
    const shelfIndex = Math.floor(pageIndex / shelfPages);
    const shelf = (this.shelves[shelfIndex] ??= new Array<MapPage | undefined>(shelfPages).fill(
      undefined,
    ));
    shelf[pageIndex % shelfPages] = page;
  }

  /** As `MapPage.find`, for blocks of the volume; a run ends where its page does. */
  find(block: number, limit: number, run: Run): void {
    const pageIndex = Math.floor(block / pageBlocks);
    const inPage = block - pageIndex * pageBlocks;
    const page = this.pageAt(pageIndex);
    if (page !== undefined) {
      page.find(inPage, limit, run);
      return;
    }
    run.segment = nowhere.segment;
    run.index = this.isStored(pageIndex) ? unknownIndex : nowhere.hole;
    run.count = Math.min(limit, pageBlocks - inPage);
  }

  assign(block: number, count: number, segment: number, index: number): void {
    const step = segment === nowhere.segment ? 0 : 1;
    let done = 0;
    while (done < count) {
      const pageIndex = Math.floor((block + done) / pageBlocks);
      const inPage = block + done - pageIndex * pageBlocks;
      const part = Math.min(count - done, pageBlocks - inPage);
      this.assignInPage(pageIndex, inPage, part, segment, index + step * done);
      done += part;
    }
  }

  private assignInPage(
    pageIndex: number,
    inPage: number,
    count: number,
    segment: number,
    index: number,
  ): void {
    const page = this.pageAt(pageIndex);
    if (page !== undefined) {
      page.assign(inPage, count, segment, index);
      return;
    }
    const stored = this.isStored(pageIndex);
    const isHole = segment === nowhere.segment && index === nowhere.hole;
    if (isHole && !stored) return;
    const made = new MapPage(stored ? unknownIndex : nowhere.hole);
    made.assign(inPage, count, segment, index);
    this.putPage(pageIndex, made);
  }

  /** Fills in what was unknown of a page from its stored form; what was written since stays. */
  fillUnknown(pageIndex: number, stored: MapPage): void {
    const written = this.pageAt(pageIndex);
    written?.forEachRun((start, count, segment, index) => {
      if (segment === nowhere.segment && index === unknownIndex) return;
      stored.assign(start, count, segment, index);
    });
    this.putPage(pageIndex, stored);
  }

  get memoryBytes(): number {
    let bytes = 0;
    for (const shelf of this.shelves) {
      for (const page of shelf ?? []) bytes += page?.memoryBytes ?? 0;
    }
    return bytes;
  }
}
