import { pageBlocks } from '../format/geometry.ts';
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

type Shelf = (MapPage | undefined)[];

/**
 * The map in memory: which (segment, index) each block of the volume holds now. Pages are made when
 * first touched. `isStored` says whether the checkpoint that the volume was opened from has a page.
 */
export class BlockMap {
  private readonly shelves: (Shelf | undefined)[] = [];
  private readonly isStored: (pageIndex: number) => boolean;

  constructor(isStored: (pageIndex: number) => boolean) {
    this.isStored = isStored;
  }

  private pageAt(pageIndex: number): MapPage | undefined {
    return this.shelves[Math.floor(pageIndex / shelfPages)]?.[pageIndex % shelfPages];
  }

  private putPage(pageIndex: number, page: MapPage): void {
    const shelfIndex = Math.floor(pageIndex / shelfPages);
    while (this.shelves.length <= shelfIndex) this.shelves.push(undefined);
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

  /** `changedIn`: the segment whose entry says so, where that is not the one that has the data. */
  assign(block: number, count: number, segment: number, index: number, changedIn = segment): void {
    const step = segment === nowhere.segment ? 0 : 1;
    let done = 0;
    while (done < count) {
      const pageIndex = Math.floor((block + done) / pageBlocks);
      const inPage = block + done - pageIndex * pageBlocks;
      const part = Math.min(count - done, pageBlocks - inPage);
      const page = this.pageToAssign(pageIndex, segment, index);
      page?.assign(inPage, part, segment, index + step * done);
      if (page !== undefined) page.changedIn = changedIn;
      done += part;
    }
  }

  /** `undefined` when what is assigned is so already: a hole where there is nothing else. */
  private pageToAssign(pageIndex: number, segment: number, index: number): MapPage | undefined {
    const page = this.pageAt(pageIndex);
    if (page !== undefined) return page;
    const stored = this.isStored(pageIndex);
    const isHole = segment === nowhere.segment && index === nowhere.hole;
    if (isHole && !stored) return undefined;
    const made = new MapPage(stored ? unknownIndex : nowhere.hole);
    this.putPage(pageIndex, made);
    return made;
  }

  /** Fills in what was unknown of a page from its stored form; what was written since stays. */
  fillUnknown(pageIndex: number, stored: MapPage): void {
    const written = this.pageAt(pageIndex);
    written?.forEachRun((start, count, segment, index) => {
      if (segment === nowhere.segment && index === unknownIndex) return;
      stored.assign(start, count, segment, index);
    });
    stored.changedIn = written?.changedIn ?? 0;
    this.putPage(pageIndex, stored);
  }

  /** The segment of the last change that was made to a page since the map was opened; 0 for none. */
  changedIn(pageIndex: number): number {
    return this.pageAt(pageIndex)?.changedIn ?? 0;
  }

  /** The pages that were changed by segments after this one. */
  changedPages(segment: number): number[] {
    return this.shelves.flatMap((shelf, shelfIndex) =>
      (shelf ?? []).flatMap((page, at) =>
        page !== undefined && page.changedIn > segment ? [shelfIndex * shelfPages + at] : [],
      ),
    );
  }

  /** A page of which nothing is unknown; not to be changed. */
  wholePage(pageIndex: number): MapPage | undefined {
    const page = this.pageAt(pageIndex);
    if (page !== undefined) return page.hasNowhere(unknownIndex) ? undefined : page;
    return this.isStored(pageIndex) ? undefined : new MapPage(nowhere.hole);
  }

  get memoryBytes(): number {
    let bytes = 0;
    for (const shelf of this.shelves) {
      for (const page of shelf ?? []) bytes += page?.memoryBytes ?? 0;
    }
    return bytes;
  }
}
