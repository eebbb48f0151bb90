import { isStorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { PageReference } from '../format/checkpoint-object.ts';
import { blockBytes, pageBlocks } from '../format/geometry.ts';
import { volumeOfCheckpoint } from '../format/lineage.ts';
import type { Manifest } from '../format/manifest.ts';
import { nowhere } from '../format/map-page.ts';
import { checkpointKey } from '../format/names.ts';
import type { SegmentConditions } from './check-conditions.ts';
import type { FoldWindow } from './check-fold.ts';
import type { Findings } from './check-report.ts';
import { inOrder } from './concurrency.ts';
import { PageGrouping, type SegmentEntries } from './fold.ts';
import { differences } from './map-difference.ts';
import { MapPage } from './map-page.ts';
import type { PageTable } from './page-table.ts';

const pagesReadAhead = 16;

export interface MapCheckContext {
  readonly store: ObjectStore;
  readonly manifest: Manifest;
  readonly findings: Findings;
  readonly conditions: SegmentConditions;
  keyOf(segment: number): string;
}

/** A page as the checkpoint has it; `undefined`: it cannot be had. */
interface StoredPage {
  readonly pageIndex: number;
  readonly page: MapPage | undefined;
}

/**
 * Checks the map: that the stored pages are what the log says, that every block of the map is in a
 * segment that can be read, and which are not.
 */
export class MapCheck {
  private readonly context: MapCheckContext;
  /** `undefined`: it cannot be had, and what the log says is all there is. */
  private readonly table: PageTable | undefined;
  private readonly references: ReadonlyMap<number, PageReference>;
  private readonly tail: PageGrouping;

  constructor(context: MapCheckContext, table: PageTable | undefined) {
    this.context = context;
    this.table = table;
    const references = table?.references() ?? [];
    this.references = new Map(references.map((page) => [page.pageIndex, page]));
    this.tail = new PageGrouping(() => this.references.keys());
  }

  /** The entries of a segment after the checkpoint; segments come in order. */
  addTail(segment: SegmentEntries): void {
    this.tail.add(segment);
  }

  /** Rows of the page table that are of no page of the volume. */
  checkTable(): void {
    const { manifest, findings } = this.context;
    const pageCount = Math.ceil(manifest.sizeBytes / blockBytes / pageBlocks);
    for (const pageIndex of this.references.keys()) {
      if (pageIndex < pageCount || manifest.head === undefined) continue;
      const key = checkpointKey(volumeOfCheckpoint(manifest, manifest.head), manifest.head);
      findings.damage('disagrees', key, `it has a page ${pageIndex}, past the end of the volume`);
    }
  }

  /** Compares the pages of the window with those that are stored, and looks at where they lead. */
  async checkPages(window: FoldWindow): Promise<void> {
    const wanted = new Set<number>();
    for (const pages of [window.pages, this.references, this.tail.pages]) {
      for (const pageIndex of pages.keys()) {
        if (pageIndex >= window.firstPage && pageIndex < window.endPage) wanted.add(pageIndex);
      }
    }
    const order = [...wanted].sort((a, b) => a - b);
    const stored = inOrder(order, pagesReadAhead, (pageIndex) => this.readStored(pageIndex));
    for await (const { pageIndex, page } of stored) {
      const folded = window.pages.get(pageIndex) ?? new MapPage(nowhere.hole);
      if (page !== undefined) {
        this.compare(pageIndex, folded, page);
        this.checkEnd(pageIndex, page);
      }
      this.checkPlaces(pageIndex, this.present(pageIndex, page ?? folded));
    }
  }

  /** Whatever the last page says of blocks past the end would be there when the volume grows. */
  private checkEnd(pageIndex: number, stored: MapPage): void {
    const { manifest, findings } = this.context;
    const reference = this.references.get(pageIndex);
    const end = manifest.sizeBytes / blockBytes - pageIndex * pageBlocks;
    if (end >= pageBlocks || reference === undefined) return;
    let blocks = 0;
    stored.forEachRun((start, count, segment, index) => {
      if (segment === nowhere.segment && index === nowhere.hole) return;
      blocks += Math.max(0, start + count - Math.max(start, end));
    });
    if (blocks === 0) return;
    const key = this.table?.keyOf(reference);
    const message = `map page ${pageIndex} has ${blocks} blocks past the end of the volume`;
    findings.damage('disagrees', key, message);
  }

  private async readStored(pageIndex: number): Promise<StoredPage> {
    const { manifest, findings } = this.context;
    const reference = this.references.get(pageIndex);
    if (this.table === undefined) return { pageIndex, page: undefined };
    if (reference === undefined) return { pageIndex, page: new MapPage(nowhere.hole) };
    findings.pages += 1;
    findings.readBytes += reference.storedBytes;
    try {
      return { pageIndex, page: await this.table.readPage(pageIndex) };
    } catch (error) {
      if (!isStorageError(error, 'corrupt')) throw error;
      const isMissing = isStorageError(error.cause, 'not-found');
      const key = this.table.keyOf(reference);
      const blocks = pageRange(pageIndex, manifest);
      const message = `map page ${pageIndex} (${blocks}) cannot be read from it: ${error.message}`;
      findings.damage(isMissing ? 'missing' : 'damaged', key, message);
      findings.unreadablePages.push(pageIndex);
      return { pageIndex, page: undefined };
    }
  }

  /** Says where a stored page is not what the log says, as far as all of the log is known. */
  private compare(pageIndex: number, folded: MapPage, stored: MapPage): void {
    const { findings, conditions } = this.context;
    const reference = this.references.get(pageIndex);
    const key = reference === undefined ? undefined : this.table?.keyOf(reference);
    let blocks = 0;
    let first: string | undefined;
    for (const { start, count, a, b } of differences(folded, stored)) {
      // A segment that cannot be read may have said what the page says.
      if (conditions.newestUnknown > a.segment) continue;
      blocks += count;
      first ??= `block ${pageIndex * pageBlocks + start} is in segment ${b.segment} index ${b.index} by the page, segment ${a.segment} index ${a.index} by the log`;
    }
    if (first !== undefined) {
      const message = `map page ${pageIndex} is not what the log says, for ${blocks} blocks: ${first}`;
      findings.damage('disagrees', key, message);
    }
    const live = liveBlocksOf(stored);
    if (reference !== undefined && live !== reference.liveBlocks) {
      const message = `map page ${pageIndex} has ${live} blocks in segments, its row says ${reference.liveBlocks}`;
      findings.damage('disagrees', key, message);
    }
  }

  /** The page as it is now: with what the log says after the checkpoint. */
  private present(pageIndex: number, checkpointed: MapPage): MapPage {
    const since = this.tail.pages.get(pageIndex);
    if (since === undefined) return checkpointed;
    const page = since.keepsStored ? checkpointed : new MapPage(nowhere.hole);
    const { list } = since;
    for (let at = 0; at < list.length; at += 4) {
      const [start = 0, count = 0, segment = 0, index = 0] = list.slice(at, at + 4);
      page.assign(start, count, segment, index);
    }
    return page;
  }

  /** Takes note of the blocks of a page that are in no segment that can be read. */
  private checkPlaces(pageIndex: number, page: MapPage): void {
    const { context } = this;
    const { findings, conditions } = context;
    const pageStart = pageIndex * pageBlocks;
    page.forEachRun((start, count, segment, index) => {
      if (segment === nowhere.segment) return;
      conditions.eachUnreadable(segment, index, count, (from, length) => {
        findings.lose(pageStart + start + from, length, context.keyOf(segment));
      });
    });
  }
}

function liveBlocksOf(page: MapPage): number {
  let live = 0;
  page.forEachRun((_start, count, segment) => {
    if (segment !== nowhere.segment) live += count;
  });
  return live;
}

function pageRange(pageIndex: number, { sizeBytes }: Manifest): string {
  const first = pageIndex * pageBlocks;
  const last = Math.min(first + pageBlocks, sizeBytes / blockBytes) - 1;
  return `blocks ${first} to ${last}`;
}
