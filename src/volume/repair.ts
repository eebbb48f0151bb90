import type { Clock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Random } from '../base/random.ts';
import { encodeCheckpoint, type PageReference } from '../format/checkpoint-object.ts';
import { blockBytes, pageBlocks } from '../format/geometry.ts';
import { lastClosedSegment, type Manifest } from '../format/manifest.ts';
import {
  type CheckpointPosition,
  checkpointKey,
  pagesKey,
  parseVolumeKey,
} from '../format/names.ts';
import { closeBefore, loadStoredTail } from './attach.ts';
import { findVolumeId } from './catalog.ts';
import { type CheckProgress, checkVolumeOf } from './check.ts';
import { Inventory, takeInventory } from './check-inventory.ts';
import type { CheckReport, ObjectCount, Unreadable } from './check-report.ts';
import { foldAgain, type MapRepairContext } from './map-repair.ts';
import { type LoadedManifest, loadManifest, Ownership } from './ownership.ts';
import { PageTable } from './page-table.ts';
import { PagesWriter } from './pages-writer.ts';
import { PlacementTable } from './placement-table.ts';
import type { VolumeSettings } from './settings.ts';
import { type LeaseWatch, type TakeOver, whenFree } from './take-over.ts';

export interface RepairOptions {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly settings: VolumeSettings;
  readonly writerId: string;
  readonly host: string;
  /** False: says what could be mended, and changes nothing. */
  readonly apply: boolean;
  readonly takeOver?: TakeOver;
  readonly onWatch?: (watch: LeaseWatch) => void;
  readonly onProgress?: (progress: CheckProgress) => void;
}

export interface RepairReport {
  readonly volume: string;
  readonly applied: boolean;
  /** Orphaned objects that were removed, or can be. */
  readonly orphans: Readonly<ObjectCount>;
  /** Pages of the map that were folded again, or can be. */
  readonly mendedPages: number;
  readonly pageTable: 'readable' | 'mended' | 'unreadable';
  /** Ranges of blocks whose page of the map can be had from nowhere. */
  readonly unmended: readonly { readonly firstBlock: number; readonly count: number }[];
  /** How the volume is: afterwards, or as it was found when nothing was to be changed. */
  readonly check: CheckReport;
}

/**
 * Mends what can be mended without guessing: removes what closed epochs left past their end, and
 * folds again, from the log, what of the stored map cannot be read. Lost data stays lost, and says so
 * when it is read. Takes the volume for that as a writer does; `held` when another has it.
 */
export async function repairVolume(options: RepairOptions, name: string): Promise<RepairReport> {
  const { store } = options;
  const volumeId = await findVolumeId(store, name);
  const found = await checkVolumeOf(store, volumeId, options);
  if (!options.apply) {
    const { manifest } = await loadManifest(store, volumeId);
    return new Repair(options, manifest, undefined).run(found);
  }
  const { orphaned } = found.objects;
  const { pageTable, pages } = found.unreadable;
  if (orphaned.objects === 0 && !pageTable && pages.length === 0) {
    const nothing = {
      orphans: orphaned,
      mendedPages: 0,
      pageTable: 'readable',
      unmended: [],
    } as const;
    return { volume: name, applied: true, ...nothing, check: found };
  }
  const free = await whenFree(await loadManifest(store, volumeId), options);
  const ownership = await own(options, free);
  try {
    const before = await checkVolumeOf(store, volumeId, options);
    const report = await new Repair(options, ownership.manifest, ownership).run(before);
    await ownership.release(lastClosedSegment(ownership.manifest));
    return { ...report, check: await checkVolumeOf(store, volumeId, options) };
  } finally {
    ownership.end(givenUp(name));
  }
}

function givenUp(name: string): StorageError {
  return new StorageError('shutting-down', `The repair of volume ${name} has ended.`);
}

/** Takes the volume, and closes the epochs before at the end of what they stored. */
async function own(options: RepairOptions, loaded: LoadedManifest): Promise<Ownership> {
  const { store, settings, writerId, host } = options;
  // Before anything is changed: a log that is broken off cannot be closed.
  const tail = await loadStoredTail(store, loaded.manifest, settings.getConcurrency);
  const ownership = await Ownership.take(options, loaded, { id: writerId, host });
  ownership.startRenewing();
  await closeBefore(ownership, tail, [], options.log);
  return ownership;
}

class Repair {
  private readonly options: RepairOptions;
  private readonly manifest: Manifest;
  /** `undefined`: nothing is changed. */
  private readonly ownership: Ownership | undefined;
  private readonly olderCheckpoints: CheckpointPosition[] = [];
  private inventory!: Inventory;
  private orphans: string[] = [];
  /** What the page table of the head says of each page; of none where it cannot be read. */
  private rows: ReadonlyMap<number, PageReference> = new Map();

  constructor(options: RepairOptions, manifest: Manifest, ownership: Ownership | undefined) {
    this.options = options;
    this.manifest = manifest;
    this.ownership = ownership;
  }

  async run(check: CheckReport): Promise<RepairReport> {
    const { unreadable } = check;
    await this.takeStock(unreadable);
    const mended = await this.mendMap(unreadable);
    for (const key of this.orphans) await this.remove(key);
    return {
      volume: this.manifest.name,
      applied: this.ownership !== undefined,
      orphans: this.inventory.counts.orphaned,
      mendedPages: mended.pages,
      pageTable: unreadable.pageTable ? (mended.table ? 'mended' : 'unreadable') : 'readable',
      unmended: mended.left.map((pageIndex) => this.rangeOf(pageIndex)),
      check,
    };
  }

  private async takeStock(unreadable: Unreadable): Promise<void> {
    const { store } = this.options;
    const { id, head } = this.manifest;
    const table = unreadable.pageTable
      ? undefined
      : await PageTable.load(store, this.manifest, head);
    this.rows = new Map(table?.references().map((row) => [row.pageIndex, row]));
    this.inventory = new Inventory({
      manifest: this.manifest,
      // Only what is past the end of a closed epoch is removed: of the rest nothing must be known.
      placement: PlacementTable.empty,
      isNeededPages: () => true,
    });
    for await (const { key, standing } of takeInventory(store, id, this.inventory)) {
      if (standing === 'orphaned') this.orphans.push(key);
      const parsed = parseVolumeKey(id, key);
      if (parsed?.kind !== 'checkpoint' || standing === 'orphaned') continue;
      if (head === undefined || parsed.at.segment >= head.segment) continue;
      this.olderCheckpoints.unshift(parsed.at);
    }
  }

  /** Removes one object after another of epochs that are over; their keys are never used again. */
  private async remove(key: string): Promise<void> {
    await this.ownership?.confirm();
    if (this.ownership !== undefined) await this.options.store.delete(key);
  }

  private async mendMap(
    unreadable: Unreadable,
  ): Promise<{ pages: number; table: boolean; left: number[] }> {
    const { store, clock } = this.options;
    const { manifest, inventory, olderCheckpoints } = this;
    const { head, id } = manifest;
    const wanted = unreadable.pageTable ? this.allPages() : unreadable.pages;
    if (head === undefined || wanted.length === 0) return { pages: 0, table: false, left: [] };
    // Variant 0 is what the log says up to there, which a map that was taken back is not.
    const variant = Math.min(head.variant, 1);
    const at = { segment: head.segment, epoch: manifest.epoch, variant };
    const writer = new PagesWriter(at, async (part, pages) => {
      if (this.ownership !== undefined) await store.put(pagesKey(id, at, part), pages);
    });
    const context: MapRepairContext = {
      ...{ store, clock, manifest, olderCheckpoints },
      epochOf: (segment) => inventory.epochOf(segment),
      isProven: ({ pageIndex, checksum }) => {
        const row = this.rows.get(pageIndex);
        return unreadable.pageTable || row?.checksum === checksum;
      },
    };
    const left = await foldAgain(context, wanted, (page) => writer.add(page));
    await writer.finish();
    // Without its table, the map is all of its pages or none.
    if (unreadable.pageTable && left.length > 0) return { pages: 0, table: false, left };
    const pages = writer.changes.size;
    if (pages > 0 && this.ownership !== undefined) {
      const table = unreadable.pageTable
        ? new PageTable(store, manifest, 0, [])
        : await PageTable.load(store, manifest, head);
      const rows = table.with(at.segment, writer.changes).references();
      await store.put(checkpointKey(id, at), [encodeCheckpoint(id, at, rows)]);
      await this.ownership.update((current) => ({ ...current, head: at }));
    }
    return { pages, table: unreadable.pageTable, left };
  }

  private allPages(): number[] {
    const { sizeBytes } = this.manifest;
    return Array.from({ length: Math.ceil(sizeBytes / blockBytes / pageBlocks) }, (_, at) => at);
  }

  private rangeOf(pageIndex: number): { firstBlock: number; count: number } {
    const firstBlock = pageIndex * pageBlocks;
    const blocks = this.manifest.sizeBytes / blockBytes;
    return { firstBlock, count: Math.min(pageBlocks, blocks - firstBlock) };
  }
}
