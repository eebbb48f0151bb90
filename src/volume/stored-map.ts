import { pageBlocks } from '../format/geometry.ts';
import { nowhere } from '../format/map-page.ts';
import { unknownIndex } from './block-map.ts';
import type { Run } from './map-page.ts';
import type { PageCache } from './page-cache.ts';
import type { PageTable } from './page-table.ts';

/** A map that nobody changes: that of a checkpoint, its pages in a cache that is bounded. */
export class StoredMap {
  private readonly table: PageTable;
  private readonly cache: PageCache;

  constructor(table: PageTable, cache: PageCache) {
    this.table = table;
    this.cache = cache;
  }

  /** As `BlockMap.find`. */
  find(block: number, limit: number, run: Run): void {
    const pageIndex = Math.floor(block / pageBlocks);
    const inPage = block - pageIndex * pageBlocks;
    const reference = this.table.find(pageIndex);
    const page = reference && this.cache.find(reference);
    if (page !== undefined) {
      page.find(inPage, limit, run);
      return;
    }
    run.segment = nowhere.segment;
    run.index = reference === undefined ? nowhere.hole : unknownIndex;
    run.count = Math.min(limit, pageBlocks - inPage);
  }

  fillUnknown(): void {
    // What was loaded is in the cache, for as long as there is room.
  }
}
