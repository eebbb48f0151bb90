import type { PageReference } from '../format/checkpoint-object.ts';
import { nowhere } from '../format/map-page.ts';
import { MapPage } from './map-page.ts';
import type { PageTable } from './page-table.ts';

/** What a page takes beside its columns. */
const pageOverheadBytes = 512;
/** However little memory there is: one reader must not push out the page that it waits for. */
const pagesMinimum = 16;

interface CachedPage {
  readonly page: MapPage;
  isUsed: boolean;
}

/**
 * Stored map pages in RAM, for whoever reads older versions of volumes: within a bound, which all of
 * them share, for what is given up can be read again. Nobody changes a page that is here.
 */
export class PageCache {
  private readonly pages = new Map<PageReference, CachedPage>();
  private readonly loads = new Map<PageReference, Promise<MapPage>>();
  private readonly maximumBytes: number;
  private bytes = 0;

  constructor(maximumBytes: number) {
    this.maximumBytes = maximumBytes;
  }

  get memoryBytes(): number {
    return this.bytes;
  }

  find(reference: PageReference): MapPage | undefined {
    const cached = this.pages.get(reference);
    if (cached === undefined) return undefined;
    cached.isUsed = true;
    return cached.page;
  }

  /** A page of that table; one that is not in it is one hole. */
  load(table: PageTable, pageIndex: number): Promise<MapPage> {
    const reference = table.find(pageIndex);
    if (reference === undefined) return Promise.resolve(new MapPage(nowhere.hole));
    const cached = this.find(reference);
    if (cached !== undefined) return Promise.resolve(cached);
    const loading = this.loads.get(reference);
    if (loading !== undefined) return loading;
    const load = table
      .readPage(pageIndex)
      .then((page) => this.add(reference, page ?? new MapPage(nowhere.hole)))
      .finally(() => this.loads.delete(reference));
    this.loads.set(reference, load);
    return load;
  }

  private add(reference: PageReference, page: MapPage): MapPage {
    this.pages.set(reference, { page, isUsed: false });
    this.bytes += page.memoryBytes + pageOverheadBytes;
    for (const [oldest, cached] of this.pages) {
      if (this.bytes <= this.maximumBytes || this.pages.size <= pagesMinimum) break;
      this.pages.delete(oldest);
      // What was used since it came here last gets another round.
      if (cached.isUsed) this.pages.set(oldest, { ...cached, isUsed: false });
      else this.bytes -= cached.page.memoryBytes + pageOverheadBytes;
    }
    return page;
  }
}
