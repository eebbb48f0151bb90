import { breathe } from '../base/clock.ts';
import type { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { encodeCheckpoint, type PageReference } from '../format/checkpoint-object.ts';
import { segmentDataBytes } from '../format/geometry.ts';
import { type CheckpointPosition, checkpointKey, pagesKey } from '../format/names.ts';
import type { EngineWorkers } from './engine-workers.ts';
import {
  type FoldedPage,
  type PageAssignments,
  lastTimeMs,
  type PageChange,
  PageGrouping,
  type TimedEntries,
  touchedPages,
} from './fold.ts';
import type { Ownership } from './ownership.ts';
import type { PageTable } from './page-table.ts';
import { PagesWriter } from './pages-writer.ts';
import { pendingSnapshots, withHead } from './snapshot-changes.ts';
import type { VolumeSettings } from './settings.ts';
import { type PatientContext, untilDone } from './until-done.ts';

/** Pages folded in one go by a worker. */
const pagesPerJob = 32;
/** Guess of a changed page's stored size before there is one. */
const typicalPageBytes = 1024;

export interface CheckpointerContext extends PatientContext {
  readonly store: ObjectStore;
  readonly workers: EngineWorkers;
  readonly volumeId: string;
  readonly ownership: Ownership;
}

export interface TailCost {
  readonly segments: number;
  /** Distinct pages that the tail changes. */
  readonly pages: number;
  readonly averagePageBytes: number;
}

/**
 * Whether a checkpoint is due: after `checkpointSegments` if rewriting the pages costs at most an
 * eighth of what the log itself did; after the maximum in any case, for that bounds opening.
 */
export function isCheckpointDue(cost: TailCost, settings: VolumeSettings): boolean {
  if (cost.segments >= settings.checkpointSegmentsMaximum) return true;
  if (cost.segments < settings.checkpointSegments) return false;
  return cost.pages * cost.averagePageBytes * 8 <= cost.segments * segmentDataBytes;
}

/**
 * Folds the log into the stored map, never looking at the live one: applies the entries of committed
 * segments to the stored pages they touch, stores those and a new page table, and only then moves
 * the manifest's head.
 */
export class Checkpointer {
  private readonly context: CheckpointerContext;
  private table: PageTable;
  /** Committed segments that the checkpoint does not hold yet, in order. */
  private readonly tail: TimedEntries[];
  /** Pages that the tail changes. */
  private touched = new Set<number>();
  /** Where the log was cut for snapshots that are not in the manifest yet. */
  private readonly holds = new Set<{ readonly segment: number }>();
  private running: Promise<void> | undefined;
  private cancelIdleTimer: (() => void) | undefined;
  private stopped = false;
  private ended: StorageError | undefined;
  checkpointCount = 0;

  constructor(context: CheckpointerContext, table: PageTable, tail: readonly TimedEntries[]) {
    this.context = context;
    this.table = table;
    this.tail = [...tail];
    for (const { entries } of tail) touchedPages(entries, this.touched);
  }

  get pageTable(): PageTable {
    return this.table;
  }

  get tailSegments(): number {
    return this.tail.length;
  }

  /** A segment became committed, all before it being so. */
  committed(segment: TimedEntries): void {
    this.tail.push(segment);
    touchedPages(segment.entries, this.touched);
    this.cancelIdleTimer?.();
    if (this.stopped) return;
    if (this.isDue()) this.start();
    const { clock, settings } = this.context;
    this.cancelIdleTimer = clock.after(settings.checkpointIdleMs, () => this.start());
  }

  private isDue(): boolean {
    const { settings } = this.context;
    const pages = this.touched.size;
    const stored = this.table.size;
    const averagePageBytes = stored === 0 ? typicalPageBytes : this.table.storedBytes / stored;
    return isCheckpointDue({ segments: this.tail.length, pages, averagePageBytes }, settings);
  }

  private start(): void {
    if (this.stopped || this.running !== undefined) return;
    this.checkpoint().catch((error: unknown) => {
      // The log is whole without it; the next one takes up what this one left.
      this.context.log.warn('checkpoint not made', { error: String(error) });
    });
  }

  /** No checkpoint goes past the end of `segment` until what this returns is called. */
  hold(segment: number): () => void {
    const hold = { segment };
    this.holds.add(hold);
    return () => this.holds.delete(hold);
  }

  /** The last segment that the next checkpoint may hold: a snapshot is one that ends at its cut. */
  private get limit(): number {
    const cuts = pendingSnapshots(this.context.ownership.manifest);
    return Math.min(...[...this.holds, ...cuts].map(({ segment }) => segment));
  }

  /**
   * Makes a checkpoint of all that is committed now, or of as much as holds `segment`, and one at each
   * cut before that; resolves when the manifest has them. None goes past a cut that is held.
   */
  async checkpoint(segment = this.tail.at(-1)?.segment ?? 0): Promise<void> {
    for (;;) {
      while (this.running !== undefined) await this.running.catch(() => undefined);
      const { limit } = this;
      const segments = this.tail.filter((each) => each.segment <= limit);
      const first = segments[0];
      if (first === undefined || first.segment > segment) return;
      this.running = this.fold(segments).finally(() => {
        this.running = undefined;
      });
      await this.running;
    }
  }

  private async fold(segments: readonly TimedEntries[]): Promise<void> {
    const last = segments.at(-1) as TimedEntries;
    const { epoch } = this.context.ownership;
    const at: CheckpointPosition = { segment: last.segment, epoch, variant: 0 };
    const grouping = new PageGrouping(() => this.table.indices());
    for (const segment of segments) {
      grouping.add(segment);
      await breathe(this.context.clock);
    }
    const changes = await this.storePages(at, grouping.pages);
    const table = this.table.with(at.segment, changes);
    const { volumeId, ownership } = this.context;
    const object = encodeCheckpoint(volumeId, at, table.references(), lastTimeMs(last));
    await this.put(checkpointKey(volumeId, at), [object]);
    await ownership.update((manifest) => withHead(manifest, at));
    this.table = table;
    this.tail.splice(0, segments.length);
    this.touched = new Set();
    for (const { entries } of this.tail) touchedPages(entries, this.touched);
    this.checkpointCount += 1;
  }

  private put(key: string, parts: readonly Uint8Array[]): Promise<void> {
    return untilDone(
      this.context,
      key,
      () => this.ended,
      () => this.context.store.put(key, parts),
    );
  }

  /** Folds the pages batch by batch and stores them; returns where each is now. */
  private async storePages(
    at: CheckpointPosition,
    pages: ReadonlyMap<number, PageAssignments>,
  ): Promise<Map<number, PageReference | undefined>> {
    const writer = new PagesWriter(at, (part, bytes) =>
      this.put(pagesKey(this.context.volumeId, at, part), bytes),
    );
    const order = [...pages.keys()].sort((a, b) => a - b);
    for (let from = 0; from < order.length; from += pagesPerJob) {
      const batch = order.slice(from, from + pagesPerJob);
      for (const folded of await this.foldBatch(batch, pages)) await writer.add(folded);
    }
    await writer.finish();
    return writer.changes;
  }

  private async foldBatch(
    pageIndices: readonly number[],
    pages: ReadonlyMap<number, PageAssignments>,
  ): Promise<FoldedPage[]> {
    const changes = await Promise.all(
      pageIndices.map(async (pageIndex): Promise<PageChange> => {
        const page = pages.get(pageIndex) as PageAssignments;
        const stored = page.keepsStored ? await this.table.readStored(pageIndex) : undefined;
        return { pageIndex, stored, assignments: Uint32Array.from(page.list) };
      }),
    );
    return this.context.workers.fold({ pages: changes });
  }

  /** Begins no checkpoint of its own any more; `checkpoint` still makes one. */
  stop(): void {
    this.stopped = true;
    this.cancelIdleTimer?.();
  }

  /** Ends what is under way, for `reason`, at its next request; resolves when it has. */
  async end(reason: StorageError): Promise<void> {
    this.stop();
    this.ended = reason;
    await this.running?.catch(() => undefined);
  }
}
