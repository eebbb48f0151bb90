import { pageBlocks } from '../format/geometry.ts';
import { nowhere } from '../format/map-page.ts';
import { MapPage, type Run } from './map-page.ts';

/**
 * Index, beside those of the format, of blocks whose place is still only in the stored page: writes
 * go over them without waiting for it, reads ask for it.
 */
export const unknownIndex = 2;

/**
 * The map in memory: which (segment, index) each block of the volume holds now. Pages are made when
 * first touched. `isStored` says whether the checkpoint that the volume was opened from has a page.
 */
export class BlockMap {
  private readonly pages: (MapPage | undefined)[] = [];
  private readonly isStored: (pageIndex: number) => boolean;

  constructor(isStored: (pageIndex: number) => boolean) {
    this.isStored = isStored;
  }

  /** As `MapPage.find`, for blocks of the volume; a run ends where its page does. */
  find(block: number, limit: number, run: Run): void {
    const pageIndex = Math.floor(block / pageBlocks);
    const inPage = block - pageIndex * pageBlocks;
    const page = this.pages[pageIndex];
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
    const page = this.pages[pageIndex];
    if (page !== undefined) {
      page.assign(inPage, count, segment, index);
      return;
    }
    const stored = this.isStored(pageIndex);
    const isHole = segment === nowhere.segment && index === nowhere.hole;
    if (isHole && !stored) return;
    const made = new MapPage(stored ? unknownIndex : nowhere.hole);
    made.assign(inPage, count, segment, index);
    this.pages[pageIndex] = made;
  }

  /** Fills in what was unknown of a page from its stored form; what was written since stays. */
  fillUnknown(pageIndex: number, stored: MapPage): void {
    const written = this.pages[pageIndex];
    written?.forEachRun((start, count, segment, index) => {
      if (segment === nowhere.segment && index === unknownIndex) return;
      stored.assign(start, count, segment, index);
    });
    this.pages[pageIndex] = stored;
  }

  get memoryBytes(): number {
    let bytes = 0;
    for (const page of this.pages) bytes += page?.memoryBytes ?? 0;
    return bytes;
  }
}
