import { breathe } from '../base/clock.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { encodeCheckpoint, type PageReference } from '../format/checkpoint-object.ts';
import { lastOfAncestors, type Lineage, volumeOfCheckpoint } from '../format/lineage.ts';
import type { Manifest } from '../format/manifest.ts';
import { type CheckpointPosition, checkpointKey, pagesKey } from '../format/names.ts';
import { inOrder } from './concurrency.ts';
import type { Ownership } from './ownership.ts';
import type { Pacer } from './pacer.ts';
import { PageTable } from './page-table.ts';
import { PagesWriter } from './pages-writer.ts';
import type { Placer, PlacerContext } from './placer.ts';
import { isSameCheckpoint } from './roots.ts';

/** Pages read at once. */
const pagesAhead = 16;

export interface OwnMapsContext extends Pick<PlacerContext, 'clock'> {
  readonly store: ObjectStore;
  readonly ownership: Ownership;
  readonly placer: Placer;
  readonly pacer: Pacer;
}

interface Copy {
  readonly of: CheckpointPosition;
  readonly at: CheckpointPosition;
}

/**
 * Stores maps of a clone anew, so that nothing of them lies under an ancestor's prefix: the pages
 * that do are copied, once however many maps have them, and each map gets a table of its own. All
 * that is made is called by names that this epoch never used; until the manifest names it, nothing does.
 */
export class OwnMaps {
  private readonly context: OwnMapsContext;
  /** As the maps are stored until now. */
  private readonly lineage: Lineage;
  private readonly copies: Copy[] = [];
  /** Where pages are, by where they were. */
  private readonly pages = new Map<string, PageReference>();
  private readonly writer: PagesWriter;
  storedBytes = 0;

  constructor(context: OwnMapsContext) {
    this.context = context;
    const { ownership } = context;
    const { id, ancestors } = ownership.manifest;
    this.lineage = { id, ancestors };
    // The oldest of its maps is not older than that, so that a clone of any looks for them here.
    const segment = lastOfAncestors(this.lineage);
    const at = { segment, epoch: ownership.epoch, variant: ownership.nextVariant() };
    this.writer = new PagesWriter(at, (part, pages) => this.put(pagesKey(id, at, part), pages));
  }

  /** Where the map of a checkpoint is stored for its own; `undefined` while it is not. */
  find(position: CheckpointPosition): CheckpointPosition | undefined {
    return this.copies.find(({ of, at }) =>
      [of, at].some((known) => isSameCheckpoint(known, position)),
    )?.at;
  }

  /** Stores the maps of the head and of the snapshots that are not stored yet. */
  async storeAll({ head, snapshots }: Manifest): Promise<void> {
    for (const position of [head, ...snapshots.map(({ checkpoint }) => checkpoint)])
      if (position !== undefined && this.find(position) === undefined) await this.store(position);
  }

  private async store(position: CheckpointPosition): Promise<void> {
    const { store, clock, ownership } = this.context;
    const table = await PageTable.load(store, this.lineage, position);
    const rows = table.references();
    await this.copyPages(table, rows);
    await breathe(clock);
    const { segment } = position;
    const at = { segment, epoch: ownership.epoch, variant: ownership.nextVariant() };
    const own = rows.map((row) => this.pages.get(placeOf(row)) ?? row);
    await breathe(clock);
    const { id } = this.lineage;
    await this.put(checkpointKey(id, at), [encodeCheckpoint(id, at, own, table.timeMs)]);
    this.copies.push({ of: position, at });
  }

  private async copyPages(table: PageTable, rows: readonly PageReference[]): Promise<void> {
    const { pacer } = this.context;
    const { id } = this.lineage;
    const foreign = rows.filter(
      (row) => volumeOfCheckpoint(this.lineage, row) !== id && !this.pages.has(placeOf(row)),
    );
    const read = inOrder(foreign, pagesAhead, async (row) => {
      await pacer.pace(row.storedBytes);
      return { row, stored: await table.readStored(row.pageIndex) };
    });
    for await (const { row, stored } of read) {
      const { pageIndex, checksum, liveBlocks } = row;
      await this.writer.add({ pageIndex, stored, checksum, liveBlocks });
      const copy = this.writer.changes.get(pageIndex);
      if (copy !== undefined) this.pages.set(placeOf(row), copy);
    }
    await this.writer.finish();
  }

  private async put(key: string, parts: readonly Uint8Array[]): Promise<void> {
    await this.context.placer.put(key, parts);
    this.storedBytes += parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }
}

/** Names a page by where it is stored. */
function placeOf({ pageIndex, segment, epoch, part, offset }: PageReference): string {
  return `${pageIndex} ${segment} ${epoch} ${part} ${offset}`;
}
