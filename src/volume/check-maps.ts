import type { Clock } from '../base/clock.ts';
import { isStorageError, type StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { blockBytes, pageBlocks } from '../format/geometry.ts';
import { volumeOfCheckpoint } from '../format/lineage.ts';
import type { Manifest } from '../format/manifest.ts';
import { nowhere } from '../format/map-page.ts';
import { type CheckpointPosition, checkpointKey } from '../format/names.ts';
import type { ReferenceWindow } from './check-references.ts';
import type { Findings } from './check-report.ts';
import { assignAll, PageGrouping, type SegmentEntries } from './fold.ts';
import { MapPage } from './map-page.ts';
import { eachSharedRun, MapUnion, type ReadPage, type SharedPage } from './map-union.ts';
import { isMissingObject } from './object-errors.ts';
import { PageTable } from './page-table.ts';
import { isSameCheckpoint, rootsOf } from './roots.ts';

export interface MapsCheckContext {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly manifest: Manifest;
  readonly findings: Findings;
  /** Whether all but what is missing was said before. */
  readonly isAgain: boolean;
  /** Told of what is missing, and how to say so: the volume may have gone on without it. */
  readonly onMissing: (tell: () => void) => void;
}

/**
 * Reads the maps that count, the head's and those of the snapshots, and says where each leads. What
 * the log says after the head's checkpoint is added to that.
 */
export class MapsCheck {
  private readonly context: MapsCheckContext;
  private readonly union = new MapUnion();
  /** Which of the maps is the head's; `undefined` when there is none, or it cannot be had. */
  private head: number | undefined;
  private tail = new PageGrouping(() => []);
  private readonly checkpoints: readonly CheckpointPosition[];
  private readonly pastEnd: (() => void)[] = [];
  /** The segments that any of the maps leads to; of all of them after the first walk. */
  readonly live = new Set<number>();

  constructor(context: MapsCheckContext) {
    this.context = context;
    this.checkpoints = rootsOf(context.manifest).checkpoints;
  }

  async load(): Promise<void> {
    const { manifest, findings, isAgain } = this.context;
    let headTable: PageTable | undefined;
    for (const [holder, position] of this.checkpoints.entries()) {
      const table = await this.loadTable(position);
      if (table === undefined) continue;
      this.union.add(table, holder);
      this.notePastEnd(table, position);
      if (!isHead(manifest, position)) continue;
      this.head = holder;
      headTable = table;
    }
    this.tail = new PageGrouping(() => headTable?.indices() ?? []);
    if (!isAgain) findings.pages = this.union.pageCount;
  }

  /** The table of a checkpoint; `undefined` when it cannot be had. */
  private async loadTable(position: CheckpointPosition): Promise<PageTable | undefined> {
    const { store, manifest, findings } = this.context;
    try {
      return await PageTable.load(store, manifest, position);
    } catch (error) {
      if (!isStorageError(error, 'corrupt')) throw error;
      const key = checkpointKey(volumeOfCheckpoint(manifest, position), position);
      const without = isHead(manifest, position)
        ? 'the volume cannot be attached without this page table'
        : `${this.nameOf(position)} cannot be read without this page table`;
      this.tell(error, key, `${error.message.replace(/\.$/, '')}; ${without}.`, () => {
        if (isHead(manifest, position)) findings.pageTableUnreadable = true;
      });
      return undefined;
    }
  }

  private nameOf(position: CheckpointPosition): string {
    const snapshot = this.context.manifest.snapshots.find(
      ({ checkpoint }) => checkpoint !== undefined && isSameCheckpoint(checkpoint, position),
    );
    return snapshot === undefined ? 'what is kept of the past' : `snapshot ${snapshot.name}`;
  }

  /** Rows of a page table that are of no page of the volume, for the end of the first walk. */
  private notePastEnd(table: PageTable, position: CheckpointPosition): void {
    const { manifest, findings } = this.context;
    const former = manifest.retention?.formerSizes ?? [];
    const sizes = [manifest, ...manifest.snapshots, ...former].map(({ sizeBytes }) => sizeBytes);
    const largest = isHead(manifest, position) ? manifest.sizeBytes : Math.max(...sizes);
    const pageCount = Math.ceil(largest / blockBytes / pageBlocks);
    const key = checkpointKey(volumeOfCheckpoint(manifest, position), position);
    for (const pageIndex of table.indices()) {
      if (pageIndex < pageCount) continue;
      const message = `it has a page ${pageIndex}, past the end of the volume`;
      this.pastEnd.push(() => findings.damage('disagrees', key, message));
    }
  }

  /** Whatever the head's last page says of blocks past the end would be there when the volume grows. */
  private requireEnd({ reference, key, page, holders }: ReadPage): void {
    const { manifest, findings } = this.context;
    if (page === undefined || this.head === undefined || !holders.includes(this.head)) return;
    const end = manifest.sizeBytes / blockBytes - reference.pageIndex * pageBlocks;
    if (end >= pageBlocks || end <= 0) return;
    let blocks = 0;
    page.forEachRun((start, count, segment, index) => {
      if (segment === nowhere.segment && index === nowhere.hole) return;
      blocks += Math.max(0, start + count - Math.max(start, end));
    });
    if (blocks === 0) return;
    const message = `map page ${reference.pageIndex} has ${blocks} blocks past the end of the volume`;
    findings.damage('disagrees', key, message);
  }

  /** The entries of a segment after the head's checkpoint; segments come in order. */
  addTail(segment: SegmentEntries): void {
    this.tail.add(segment);
  }

  /** The keys of the objects that hold pages of any of the maps. */
  pageKeys(): Set<string> {
    return this.union.keys();
  }

  /** Puts into the window where the maps lead; the first walk also says what is wrong with pages. */
  async walk(window: ReferenceWindow, isFirst: boolean): Promise<void> {
    const { store, clock } = this.context;
    const onDamage = (page: SharedPage, error: StorageError): void => {
      if (isFirst) this.noteDamage(page, error);
    };
    const seen = new Set<number>();
    for await (const { pageIndex, pages } of this.union.read(store, clock, onDamage)) {
      seen.add(pageIndex);
      if (isFirst && !this.context.isAgain) {
        for (const page of pages) {
          this.requireLiveBlocks(page);
          this.requireEnd(page);
        }
      }
      await this.walkPage(pageIndex, pages, window);
    }
    for (const pageIndex of this.tail.pages.keys()) {
      if (!seen.has(pageIndex)) await this.walkPage(pageIndex, [], window);
    }
    if (isFirst && !this.context.isAgain) for (const tell of this.pastEnd) tell();
  }

  private async walkPage(
    pageIndex: number,
    pages: readonly ReadPage[],
    window: ReferenceWindow,
  ): Promise<void> {
    const { head } = this;
    const ofHead = pages.find(({ holders }) => head !== undefined && holders.includes(head));
    const present = this.present(pageIndex, ofHead);
    const versions: MapPage[] = [];
    const isRead: boolean[] = [];
    for (const { page, holders } of pages) {
      if (page === undefined) continue;
      versions.push(page);
      // Of the head's page, what was written since counts.
      const isOnlyHeads = head !== undefined && holders.every((holder) => holder === head);
      isRead.push(!isOnlyHeads || present === undefined);
    }
    if (present !== undefined) {
      versions.push(present);
      isRead.push(true);
    }
    const firstBlock = pageIndex * pageBlocks;
    await eachSharedRun(versions, this.context.clock, (run) => {
      const { start, count, segment, index } = run;
      this.live.add(segment);
      window.add(segment, {
        ...{ index, count, block: firstBlock + start },
        isRead: run.versions.some((version) => isRead[version]),
      });
    });
  }

  /** The head's page as it is now; `undefined` when nothing was written to it, or it cannot be had. */
  private present(pageIndex: number, ofHead: ReadPage | undefined): MapPage | undefined {
    const since = this.tail.pages.get(pageIndex);
    if (since === undefined) return undefined;
    const stored = ofHead?.page;
    if (ofHead !== undefined && stored === undefined && since.keepsStored) return undefined;
    const page = new MapPage(nowhere.hole);
    if (since.keepsStored) stored?.forEachRun((...run) => page.assign(...run));
    assignAll(page, since.parts());
    return page;
  }

  private noteDamage({ reference, key, holders }: SharedPage, error: StorageError): void {
    const { findings, manifest } = this.context;
    const { pageIndex } = reference;
    const first = pageIndex * pageBlocks;
    const last = Math.min(first + pageBlocks, manifest.sizeBytes / blockBytes) - 1;
    const whose = this.head !== undefined && holders.includes(this.head) ? '' : ' of a snapshot';
    const message = `map page ${pageIndex} (blocks ${first} to ${last})${whose} cannot be read from it: ${error.message}`;
    this.tell(error, key, message, () => {
      if (whose === '') findings.unreadablePages.push(pageIndex);
    });
  }

  /** Says now what is damaged, and what is missing when it is sure that it should be there. */
  private tell(error: StorageError, key: string, message: string, note: () => void): void {
    const { findings, isAgain, onMissing } = this.context;
    const isMissing = isMissingObject(error);
    const tell = (): void => {
      findings.damage(isMissing ? 'missing' : 'damaged', key, message);
      note();
    };
    if (isMissing) onMissing(tell);
    else if (!isAgain) tell();
  }

  private requireLiveBlocks({ reference, key, page }: ReadPage): void {
    this.context.findings.readBytes += reference.storedBytes;
    let live = 0;
    page?.forEachRun((_start, count, segment) => {
      if (segment !== nowhere.segment) live += count;
    });
    if (page === undefined || live === reference.liveBlocks) return;
    const message = `map page ${reference.pageIndex} has ${live} blocks in segments, its row says ${reference.liveBlocks}`;
    this.context.findings.damage('disagrees', key, message);
  }
}

function isHead({ head }: Manifest, position: CheckpointPosition): boolean {
  return head !== undefined && isSameCheckpoint(head, position);
}
