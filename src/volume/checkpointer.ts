import { isStorageError, type StorageError } from '../base/errors.ts';
import { segmentDataBytes } from '../format/geometry.ts';
import { isOneLineage } from '../format/lineage.ts';
import type { CheckpointPosition } from '../format/names.ts';
import { lastTimeMs, type TimedEntries, touchedPages } from './fold.ts';
import type { Ownership } from './ownership.ts';
import { PageTable } from './page-table.ts';
import { pendingSnapshots, withHead } from './snapshot-changes.ts';
import type { VolumeSettings } from './settings.ts';
import { storeFold, type StoredFoldContext } from './stored-fold.ts';

/** Guess of a changed page's stored size before there is one. */
const typicalPageBytes = 1024;

export interface CheckpointerContext extends StoredFoldContext {
  readonly ownership: Ownership;
  /** The manifest has a new head. */
  onHead(): void;
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
  /** Something of a checkpoint may be stored that the manifest does not have. */
  private isUnnamed = false;
  /** What is stored so is of a table that was replaced since: its name is taken. */
  private isNameTaken = false;
  private ended: StorageError | undefined;
  checkpointCount = 0;
  /** Put into the store: checkpoints and their pages. */
  storedBytes = 0;

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
    const { ownership } = this.context;
    await this.follow();
    const variant = this.isNameTaken ? ownership.nextVariant() : 0;
    this.isUnnamed = true;
    const at: CheckpointPosition = { segment: last.segment, epoch: ownership.epoch, variant };
    const { lineage } = this.table;
    const table = await storeFold(
      {
        ...this.context,
        onStored: (bytes) => {
          this.storedBytes += bytes;
        },
      },
      this.table,
      segments,
      at,
      lastTimeMs(last),
      () => this.ended,
    ).catch(async (error: unknown) => {
      // Whoever has taken the volume deletes what this map is made of: that is no damage.
      if (isStorageError(error, 'corrupt')) await ownership.confirm();
      throw error;
    });
    let isFlattened = false;
    await ownership.update((manifest) => {
      isFlattened = !isOneLineage(lineage, manifest);
      return isFlattened ? manifest : withHead(manifest, at);
    });
    // Heard of only now: this table leads to where nobody looks any more. Another one follows.
    if (isFlattened) return;
    this.isUnnamed = false;
    this.isNameTaken = false;
    this.table = table;
    this.tail.splice(0, segments.length);
    this.touched = new Set();
    for (const { entries } of this.tail) touchedPages(entries, this.touched);
    this.checkpointCount += 1;
    this.context.onHead();
  }

  /** Does `act` while no checkpoint is made; by then the map may be stored elsewhere. */
  async storeAnew(act: () => Promise<void>): Promise<void> {
    while (this.running !== undefined) await this.running.catch(() => undefined);
    this.running = act()
      .then(() => this.follow())
      .finally(() => {
        this.running = undefined;
      });
    await this.running;
  }

  /** Goes on from the table of the head when the volume does not need its ancestors' any more. */
  private async follow(): Promise<void> {
    const { store, ownership } = this.context;
    const { manifest } = ownership;
    const before = this.table;
    if (isOneLineage(before.lineage, manifest)) return;
    const table = await PageTable.load(store, manifest, manifest.head);
    before.elsewhere = () => Promise.resolve(table);
    this.table = table;
    this.isNameTaken ||= this.isUnnamed;
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
