import type { PageReference } from '../format/checkpoint-object.ts';
import { type Lineage, volumeOfCheckpoint } from '../format/lineage.ts';
import type { BlockMap } from './block-map.ts';
import type { MapPage } from './map-page.ts';
import type { PageCache } from './page-cache.ts';
import type { PageTable } from './page-table.ts';

/** The map of a volume as of some moment, or as it is now, to be compared with another. */
export interface MapVersion {
  readonly lineage: Lineage;
  readonly sizeBytes: number;
  /** Pages that may be something else than one hole. */
  pageIndices(): Iterable<number>;
  /**
   * Where a page is stored: nowhere when it is one hole. `changed`: it is no stored page as it is.
   * This costs nothing, and says of most pages that they are those of another version.
   */
  storedPage(pageIndex: number): PageReference | 'hole' | 'changed';
  /** The page, not to be changed. It is right until whoever waits for this waits for anything else. */
  load(pageIndex: number): Promise<MapPage>;
}

/** The version that a checkpoint holds. */
export class StoredVersion implements MapVersion {
  readonly sizeBytes: number;
  private readonly table: PageTable;
  private readonly cache: PageCache;

  constructor(table: PageTable, sizeBytes: number, cache: PageCache) {
    this.table = table;
    this.sizeBytes = sizeBytes;
    this.cache = cache;
  }

  get lineage(): Lineage {
    return this.table.lineage;
  }

  pageIndices(): Iterable<number> {
    return this.table.indices();
  }

  storedPage(pageIndex: number): PageReference | 'hole' {
    return this.table.find(pageIndex) ?? 'hole';
  }

  load(pageIndex: number): Promise<MapPage> {
    return this.cache.load(this.table, pageIndex);
  }
}

export interface PresentVersionContext {
  readonly map: BlockMap;
  readonly cache: PageCache;
  readonly sizeBytes: () => number;
  /** The checkpoint that the map goes on from. It may move on, and the map with it. */
  readonly table: () => PageTable;
  /** Fills in what is unknown of a page of the map. */
  loadPage(pageIndex: number): Promise<void>;
}

/** The map that is in RAM, with all that was written since the checkpoint. */
export class PresentVersion implements MapVersion {
  private readonly context: PresentVersionContext;

  constructor(context: PresentVersionContext) {
    this.context = context;
  }

  get lineage(): Lineage {
    return this.context.table().lineage;
  }

  get sizeBytes(): number {
    return this.context.sizeBytes();
  }

  pageIndices(): Iterable<number> {
    const { map, table } = this.context;
    return new Set([...table().indices(), ...map.changedPages(table().segment)]);
  }

  storedPage(pageIndex: number): PageReference | 'hole' | 'changed' {
    const table = this.context.table();
    if (this.context.map.changedIn(pageIndex) > table.segment) return 'changed';
    return table.find(pageIndex) ?? 'hole';
  }

  async load(pageIndex: number): Promise<MapPage> {
    const { map, cache, table } = this.context;
    for (;;) {
      const page = map.wholePage(pageIndex);
      if (page !== undefined) return page;
      const checkpoint = table();
      if (map.changedIn(pageIndex) > checkpoint.segment) {
        await this.context.loadPage(pageIndex);
        continue;
      }
      const stored = await cache.load(checkpoint, pageIndex);
      // Nothing was written to it meanwhile: it is what the map would say.
      if (map.changedIn(pageIndex) <= checkpoint.segment) return stored;
    }
  }
}

/** Whether a page of both is the same one, by where it is stored alone. */
export function isSamePage(a: MapVersion, b: MapVersion, pageIndex: number): boolean {
  const [inA, inB] = [a.storedPage(pageIndex), b.storedPage(pageIndex)];
  if (inA === 'hole' || inB === 'hole') return inA === inB;
  if (inA === 'changed' || inB === 'changed') return false;
  return (
    inA.segment === inB.segment &&
    inA.epoch === inB.epoch &&
    inA.part === inB.part &&
    inA.offset === inB.offset &&
    // Two clones number their checkpoints alike.
    volumeOfCheckpoint(a.lineage, inA) === volumeOfCheckpoint(b.lineage, inB)
  );
}
