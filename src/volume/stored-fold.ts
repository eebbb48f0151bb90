import { breathe } from '../base/clock.ts';
import type { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { encodeCheckpoint, type PageReference } from '../format/checkpoint-object.ts';
import { type CheckpointPosition, checkpointKey, pagesKey } from '../format/names.ts';
import type { EngineWorkers } from './engine-workers.ts';
import {
  type FoldedPage,
  type PageAssignments,
  type PageChange,
  PageGrouping,
  type SegmentEntries,
} from './fold.ts';
import type { PageTable } from './page-table.ts';
import { PagesWriter } from './pages-writer.ts';
import { type PatientContext, untilDone } from './until-done.ts';

/** Pages folded in one go by a worker. */
const pagesPerJob = 32;

export interface StoredFoldContext extends PatientContext {
  readonly store: ObjectStore;
  readonly workers: EngineWorkers;
  readonly volumeId: string;
  /** Told how much was put into the store. */
  readonly onStored?: (bytes: number) => void;
}

/**
 * Applies segments, in order, to a stored map, and stores what became of it as the checkpoint `at`:
 * the pages that they touch, then the page table, which is returned. Tries until it is done, or
 * `ended` says why not.
 */
export async function storeFold(
  context: StoredFoldContext,
  table: PageTable,
  segments: readonly SegmentEntries[],
  at: CheckpointPosition,
  timeMs: number,
  ended: () => StorageError | undefined,
): Promise<PageTable> {
  const grouping = new PageGrouping(() => table.indices());
  for (const segment of segments) {
    grouping.add(segment);
    await breathe(context.clock);
  }
  const put = async (key: string, parts: readonly Uint8Array[]): Promise<void> => {
    await untilDone(context, key, ended, () => context.store.put(key, parts));
    context.onStored?.(parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
  };
  const { volumeId } = context;
  const writer = new PagesWriter(at, (part, bytes) => put(pagesKey(volumeId, at, part), bytes));
  const order = [...grouping.pages.keys()].sort((a, b) => a - b);
  for (let from = 0; from < order.length; from += pagesPerJob) {
    const batch = order.slice(from, from + pagesPerJob);
    const folded = await foldBatch(context.workers, table, batch, grouping.pages);
    for (const pageIndex of batch) grouping.pages.delete(pageIndex);
    for (const page of folded) await writer.add(page);
  }
  await writer.finish();
  await breathe(context.clock);
  const changes: ReadonlyMap<number, PageReference | undefined> = writer.changes;
  // The table of a large volume takes milliseconds to copy, and to encode: others come in between.
  const folded = table.with(at.segment, changes, timeMs);
  await breathe(context.clock);
  const object = encodeCheckpoint(volumeId, at, folded.references(), timeMs);
  await put(checkpointKey(volumeId, at), [object]);
  return folded;
}

async function foldBatch(
  workers: EngineWorkers,
  table: PageTable,
  pageIndices: readonly number[],
  pages: ReadonlyMap<number, PageAssignments>,
): Promise<FoldedPage[]> {
  const changes = await Promise.all(
    pageIndices.map(async (pageIndex): Promise<PageChange> => {
      const page = pages.get(pageIndex) as PageAssignments;
      const stored = page.keepsStored ? await table.readStored(pageIndex) : undefined;
      return { pageIndex, stored, assignments: page.parts() };
    }),
  );
  return workers.fold({ pages: changes });
}
