import type { ObjectStore } from '../base/object-store.ts';
import { checksum, corrupt } from '../format/binary.ts';
import {
  checkpointTimeMs,
  decodeCheckpoint,
  type PageReference,
} from '../format/checkpoint-object.ts';
import { decodePage } from '../format/map-page.ts';
import { type Lineage, volumeOfCheckpoint } from '../format/lineage.ts';
import { type CheckpointPosition, checkpointKey, pagesKey } from '../format/names.ts';
import { aboutObject, isMissingObject } from './object-errors.ts';
import { MapPage } from './map-page.ts';
import { sealingIn } from './sealing-store.ts';

/** Where the pages of the map are in the store, as of one checkpoint. */
export class PageTable {
  readonly lineage: Lineage;
  /** The last segment that is in it. */
  readonly segment: number;
  private readonly store: ObjectStore;
  private readonly pages = new Map<number, PageReference>();
  /** Bytes of all pages as stored. */
  readonly storedBytes: number;
  /** When the last that is in it was written; 0 when that is not known. */
  readonly timeMs: number;
  /** Asked for a table of the same map when a page is not there: it may be stored elsewhere by now. */
  elsewhere: (() => Promise<PageTable | undefined>) | undefined;

  constructor(
    store: ObjectStore,
    lineage: Lineage,
    segment: number,
    pages: Iterable<PageReference>,
    timeMs = 0,
  ) {
    this.store = store;
    this.timeMs = timeMs;
    this.lineage = lineage;
    this.segment = segment;
    let storedBytes = 0;
    for (const page of pages) {
      this.pages.set(page.pageIndex, page);
      storedBytes += page.storedBytes;
    }
    this.storedBytes = storedBytes;
  }

  static async load(
    store: ObjectStore,
    lineage: Lineage,
    at: CheckpointPosition | undefined,
  ): Promise<PageTable> {
    // Of an encrypted volume nothing is believed, not even that it is empty, before its key is there.
    await sealingIn(store, lineage.id);
    if (at === undefined) return new PageTable(store, lineage, 0, []);
    const volumeId = volumeOfCheckpoint(lineage, at);
    const key = checkpointKey(volumeId, at);
    try {
      const object = await store.get(key);
      const pages = decodeCheckpoint(object, volumeId, at);
      return new PageTable(
        store,
        lineage,
        at.segment,
        pages,
        checkpointTimeMs(object, volumeId, at),
      );
    } catch (error) {
      throw aboutObject(error, key);
    }
  }

  get size(): number {
    return this.pages.size;
  }

  has(pageIndex: number): boolean {
    return this.pages.has(pageIndex);
  }

  /** Where a page is; `undefined` when it is one hole. */
  find(pageIndex: number): PageReference | undefined {
    return this.pages.get(pageIndex);
  }

  indices(): Iterable<number> {
    return this.pages.keys();
  }

  /** The object that holds a page. */
  keyOf(page: PageReference): string {
    return pagesKey(volumeOfCheckpoint(this.lineage, page), page, page.part);
  }

  references(): PageReference[] {
    return [...this.pages.values()].sort((a, b) => a.pageIndex - b.pageIndex);
  }

  /** The stored bytes of a page, verified; `undefined` when it is one hole. */
  async readStored(pageIndex: number): Promise<Uint8Array | undefined> {
    const page = this.pages.get(pageIndex);
    if (page === undefined) return undefined;
    const key = this.keyOf(page);
    try {
      const range = { offset: page.offset, lengthBytes: page.storedBytes };
      const bytes = await this.store.get(key, range);
      if (checksum(bytes) !== page.checksum)
        throw corrupt(`map page ${pageIndex} fails its checksum`);
      return bytes;
    } catch (error) {
      const table = isMissingObject(error) ? await this.elsewhere?.() : undefined;
      if (table === undefined) throw aboutObject(error, key);
      this.elsewhere = () => Promise.resolve(table);
      return table.readStored(pageIndex);
    }
  }

  async readPage(pageIndex: number): Promise<MapPage | undefined> {
    const stored = await this.readStored(pageIndex);
    return stored === undefined ? undefined : MapPage.fromRuns(decodePage(stored));
  }

  /** The table as of `segment`, some pages replaced (`undefined`: became one hole). */
  with(
    segment: number,
    changes: ReadonlyMap<number, PageReference | undefined>,
    timeMs = 0,
  ): PageTable {
    const pages = new Map(this.pages);
    for (const [pageIndex, page] of changes) {
      if (page === undefined) pages.delete(pageIndex);
      else pages.set(pageIndex, page);
    }
    return new PageTable(this.store, this.lineage, segment, pages.values(), timeMs);
  }
}
