import { breathe, type Clock } from '../base/clock.ts';
import { isStorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { decodeEntries, entryKind } from '../format/entry.ts';
import { blockBytes, pageBlocks } from '../format/geometry.ts';
import { volumeOfCheckpoint, volumeOfSegment } from '../format/lineage.ts';
import type { Manifest } from '../format/manifest.ts';
import { checkpointKey, type LogPosition, pagesKey, segmentKey } from '../format/names.ts';
import { findVolumeId } from './catalog.ts';
import { FoldWindow } from './check-fold.ts';
import { type FoundObject, Inventory, takeInventory } from './check-inventory.ts';
import { MapCheck } from './check-map.ts';
import { type CheckReport, type DataPart, Findings } from './check-report.ts';
import { checkSegment, type SegmentCondition } from './check-segment.ts';
import { inOrder } from './concurrency.ts';
import { SegmentConditions } from './check-conditions.ts';
import { loadManifest } from './ownership.ts';
import { PageTable } from './page-table.ts';

export interface CheckOptions {
  readonly clock: Clock;
  /** Which part of the data is read and verified; none when not given. */
  readonly readData?: DataPart | undefined;
  /** Segments read at once without their data; with it, a quarter of that. */
  readonly concurrency?: number;
  /** RAM for the map; where it is not enough, the log is read several times. */
  readonly mapBytes?: number;
  readonly onProgress?: (progress: CheckProgress) => void;
  /** Waited for after each segment that was read, with how much of it that was. */
  readonly pace?: (bytes: number) => Promise<void>;
}

export interface CheckProgress {
  readonly segment: number;
  readonly lastSegment: number;
  readonly readBytes: number;
  readonly damageCount: number;
}

const defaultConcurrency = 16;
const defaultMapBytes = 256 * 2 ** 20;
const explainedLaterMaximum = 10_000;

/**
 * Verifies a volume as its manifest has it now, and changes nothing: every segment's tables and, if
 * asked for, its data; the page table and every page; that the pages are the fold of the log; that
 * each block of the map is in a segment that is there; and what every object is there for. What
 * another host adds meanwhile is no damage. Rejects when the store cannot be read, or the manifest.
 */
export async function checkVolume(
  store: ObjectStore,
  name: string,
  options: CheckOptions,
): Promise<CheckReport> {
  return checkVolumeOf(store, await findVolumeId(store, name), options);
}

/** As `checkVolume`, of the volume of that id. */
export async function checkVolumeOf(
  store: ObjectStore,
  volumeId: string,
  options: CheckOptions,
): Promise<CheckReport> {
  const { manifest } = await loadManifest(store, volumeId);
  return new Check(store, manifest, options).run();
}

class Check {
  private readonly store: ObjectStore;
  private readonly manifest: Manifest;
  private readonly options: CheckOptions;
  private readonly findings = new Findings();
  private readonly conditions = new SegmentConditions();
  private inventory!: Inventory;
  private lastSegment = 0;
  /** Segments after the checkpoint that write past the end. */
  private readonly pastEnd: number[] = [];

  constructor(store: ObjectStore, manifest: Manifest, options: CheckOptions) {
    this.store = store;
    this.manifest = manifest;
    this.options = options;
  }

  async run(): Promise<CheckReport> {
    const table = await this.loadTable();
    await this.takeInventory(table);
    this.lastSegment = this.inventory.lastSegment;
    const map = new MapCheck(
      {
        store: this.store,
        manifest: this.manifest,
        findings: this.findings,
        conditions: this.conditions,
        keyOf: (segment) => this.keyOf(segment),
      },
      table,
    );
    await this.readTail(map);
    await this.readLog(map);
    await this.judgePastEnd();
    return this.report();
  }

  private get headSegment(): number {
    return this.manifest.head?.segment ?? 0;
  }

  private keyOf(segment: number): string {
    const volumeId = volumeOfSegment(this.manifest, segment);
    return segmentKey(volumeId, { segment, epoch: this.inventory.epochOf(segment) });
  }

  /** The page table of the head; `undefined` when it cannot be had. */
  private async loadTable(): Promise<PageTable | undefined> {
    const { head } = this.manifest;
    try {
      return await PageTable.load(this.store, this.manifest, head);
    } catch (error) {
      if (!isStorageError(error, 'corrupt') || head === undefined) throw error;
      const isMissing = isStorageError(error.cause, 'not-found');
      const what = isMissing ? 'missing' : 'damaged';
      this.findings.pageTableUnreadable = true;
      const key = checkpointKey(volumeOfCheckpoint(this.manifest, head), head);
      const end = 'the volume cannot be attached without this page table';
      this.findings.damage(what, key, `${trimmed(error.message)}; ${end}.`);
      return undefined;
    }
  }

  private async takeInventory(table: PageTable | undefined): Promise<void> {
    const { id } = this.manifest;
    const referenced = new Set(table?.references().map((page) => table.keyOf(page)));
    const isReferenced = (at: LogPosition, part: number): boolean =>
      referenced.has(pagesKey(id, at, part));
    this.inventory = new Inventory(this.manifest, isReferenced);
    const unexplained: FoundObject[] = [];
    for await (const found of takeInventory(this.store, id, this.inventory)) {
      if (found.standing === 'unknown' && unexplained.length < explainedLaterMaximum) {
        unexplained.push(found);
      }
      if (found.standing === 'orphaned') this.findings.warning('orphaned', found.key, orphanedText);
    }
    if (unexplained.length > 0) await this.explain(unexplained);
  }

  /** What another host has put there since the manifest was read is explained by a newer one. */
  private async explain(unexplained: readonly FoundObject[]): Promise<void> {
    const { manifest } = await loadManifest(this.store, this.manifest.id);
    const newer = new Inventory(manifest, () => true);
    for (const { key, sizeBytes } of unexplained) {
      if (manifest.epoch > this.manifest.epoch && newer.add(key, sizeBytes) !== 'unknown') {
        this.inventory.explain(sizeBytes);
      } else {
        this.findings.warning('unknown', key, 'no writer of this volume would have put it there');
      }
    }
  }

  /** The log after the checkpoint, which is short, is kept. */
  private async readTail(map: MapCheck): Promise<void> {
    const tail = this.read(this.headSegment + 1, this.lastSegment, true);
    for await (const condition of tail) {
      this.note(condition);
      const { at, entries } = condition;
      if (entries === undefined) continue;
      map.addTail({ ...at, entries });
      if (this.reachesPastEnd(entries)) this.pastEnd.push(at.segment);
    }
  }

  /** After the checkpoint nothing but a hole may: a volume is cut off behind a checkpoint. */
  private reachesPastEnd(entries: Uint8Array): boolean {
    const endBlock = this.manifest.sizeBytes / blockBytes;
    return decodeEntries(entries).some(
      ({ kind, firstBlock, count }) => kind !== entryKind.hole && firstBlock + count > endBlock,
    );
  }

  /** Whoever has the volume may have made it larger since its manifest was read. */
  private async judgePastEnd(): Promise<void> {
    if (this.pastEnd.length === 0) return;
    const { manifest: now } = await loadManifest(this.store, this.manifest.id);
    const { sizeBytes, epoch } = this.manifest;
    if (now.sizeBytes !== sizeBytes || now.epoch !== epoch) return;
    for (const segment of this.pastEnd) {
      const message = 'it says of blocks past the end of the volume where they are';
      this.findings.damage('disagrees', this.keyOf(segment), message);
    }
  }

  /** Folds the log up to the checkpoint, in as many passes as memory makes it, and checks the pages. */
  private async readLog(map: MapCheck): Promise<void> {
    const pageCount = Math.ceil(this.manifest.sizeBytes / blockBytes / pageBlocks);
    const mapBytes = this.options.mapBytes ?? defaultMapBytes;
    for (let firstPage = 0; firstPage < pageCount; ) {
      const isFirst = firstPage === 0;
      const window = new FoldWindow(firstPage, pageCount, mapBytes);
      for await (const condition of this.read(1, this.headSegment, isFirst)) {
        if (isFirst) this.note(condition);
        const { entries, at } = condition;
        if (entries !== undefined) window.add({ ...at, entries });
        if (!isFirst) continue;
        this.progress(at.segment);
        await breathe(this.options.clock);
      }
      await map.checkPages(window);
      firstPage = window.endPage;
    }
    map.checkTable();
  }

  /** The conditions of segments, in order; `isFirst`: with as much of their data as was asked for. */
  private read(from: number, to: number, isFirst: boolean): AsyncGenerator<SegmentCondition> {
    const { readData, concurrency = defaultConcurrency, pace, clock } = this.options;
    const ahead = readData === undefined ? concurrency : Math.ceil(concurrency / 4);
    const check = {
      store: this.store,
      clock,
    };
    return inOrder(numbers(from, to), ahead, async (segment) => {
      const readsData = isFirst && readData !== undefined && isInPart(segment, readData);
      const at = { segment, epoch: this.inventory.epochOf(segment) };
      const volumeId = volumeOfSegment(this.manifest, segment);
      const condition = await checkSegment({ ...check, volumeId }, at, readsData);
      await pace?.(condition.readBytes);
      return condition;
    });
  }

  private note(condition: SegmentCondition): void {
    const { findings } = this;
    const { segment } = condition.at;
    findings.segments += 1;
    findings.readBytes += condition.readBytes;
    const isInCheckpoint = segment <= this.headSegment;
    this.conditions.note(condition, isInCheckpoint);
    const key = this.keyOf(segment);
    const needed = isInCheckpoint ? '' : '; the volume cannot be attached without it';
    if (condition.isMissing) findings.damage('missing', key, `it is not there${needed}`);
    const isReadable = condition.entries !== undefined;
    for (const wrong of condition.wrong) {
      findings.damage('damaged', key, isReadable ? wrong : `${wrong}${needed}`);
    }
  }

  private progress(segment: number): void {
    this.options.onProgress?.({
      segment,
      lastSegment: this.lastSegment,
      readBytes: this.findings.readBytes,
      damageCount: this.findings.damageCount,
    });
  }

  private report(): CheckReport {
    const { manifest, findings, inventory } = this;
    return {
      volume: manifest.name,
      id: manifest.id,
      epoch: manifest.epoch,
      attachedOn: manifest.writer?.host,
      headSegment: this.headSegment,
      lastSegment: this.lastSegment,
      objects: inventory.counts,
      segments: findings.segments,
      pages: findings.pages,
      readBytes: findings.readBytes,
      dataRead: this.options.readData,
      problems: findings.problems,
      damageCount: findings.damageCount,
      warningCount: findings.warningCount,
      lost: findings.lost,
      lostBlocks: findings.lostBlocks,
      unreadable: {
        pageTable: findings.pageTableUnreadable,
        pages: findings.unreadablePages,
        newestSegment: this.conditions.newestUnknown,
      },
      verdict: findings.verdict,
    };
  }
}

const orphanedText = 'left by a writer that was followed; it is never read';

/** Whether a segment belongs to the part of the data that is read. */
function isInPart(segment: number, { part, parts }: DataPart): boolean {
  return segment % parts === part - 1;
}

function* numbers(from: number, to: number): Generator<number> {
  for (let number = from; number <= to; number += 1) yield number;
}

function trimmed(sentence: string): string {
  return sentence.replace(/\.$/, '');
}
