import type { Clock } from '../base/clock.ts';
import { breathe } from '../base/clock.ts';
import { isStorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { lastOfAncestors, volumeOfSegment } from '../format/lineage.ts';
import type { Manifest } from '../format/manifest.ts';
import { nowhere } from '../format/map-page.ts';
import type { CheckpointPosition } from '../format/names.ts';
import { FoldWindow } from './check-fold.ts';
import { inOrder } from './concurrency.ts';
import { type FoldedPage, storedForm } from './fold.ts';
import { MapPage } from './map-page.ts';
import { PageTable } from './page-table.ts';
import { readSegmentTables } from './segment-tables.ts';

/** Pages that are folded at once: 100 KiB each at most. */
const pagesPerPass = 1024;
const segmentsAhead = 16;

export interface MapRepairContext {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly manifest: Manifest;
  /** Under which epoch a segment was stored. */
  readonly epochOf: (segment: number) => number;
  /** Older checkpoints, the newest first. */
  readonly olderCheckpoints: readonly CheckpointPosition[];
  /** Whether this is what the page was, as far as anything says so. */
  readonly isProven: (page: FoldedPage) => boolean;
}

/**
 * Folds pages of the stored map again that cannot be read: from the page that an older checkpoint has,
 * or from the beginning, if all segments after that are still there and can be read. Dead segments are
 * deleted, and what they said is gone: what nothing gives is not given, and nothing is guessed. A page
 * counts only if it is proven the same, and no fold goes over a point where the map was taken back.
 */
export async function foldAgain(
  context: MapRepairContext,
  wanted: readonly number[],
  take: (page: FoldedPage) => Promise<void>,
): Promise<number[]> {
  const { store, manifest } = context;
  const turnedAt = Math.max(manifest.turnedAt ?? 0, lastOfAncestors(manifest));
  let left = [...wanted];
  // The newest first: where the log after one cannot be read, it cannot after an older one.
  for (const position of context.olderCheckpoints) {
    if (left.length === 0 || position.segment < turnedAt || position.variant > 0) break;
    const table = await readable(() => PageTable.load(store, manifest, position));
    if (table === undefined) continue;
    const rest = await readable(() => foldFrom(context, { position, table }, left, take));
    if (rest === undefined) return left;
    left = rest;
  }
  if (left.length === 0 || turnedAt > 0) return left;
  return (await readable(() => foldFrom(context, undefined, left, take))) ?? left;
}

interface Base {
  readonly position: CheckpointPosition;
  readonly table: PageTable;
}

/** Folds what can be from this base; returns the pages that the base does not have. */
async function foldFrom(
  context: MapRepairContext,
  base: Base | undefined,
  wanted: readonly number[],
  take: (page: FoldedPage) => Promise<void>,
): Promise<number[]> {
  const left: number[] = [];
  for (let from = 0; from < wanted.length; from += pagesPerPass) {
    const pages = wanted.slice(from, from + pagesPerPass);
    const folded = await foldPass(context, base, pages, left);
    for (const page of folded) {
      if (context.isProven(page)) await take(page);
      else left.push(page.pageIndex);
    }
  }
  return left;
}

async function foldPass(
  { store, clock, manifest, epochOf }: MapRepairContext,
  base: Base | undefined,
  pages: readonly number[],
  left: number[],
): Promise<FoldedPage[]> {
  const starts = new Map<number, MapPage>();
  for (const pageIndex of pages) {
    const start = await readable(async () => {
      return (await base?.table.readPage(pageIndex)) ?? new MapPage(nowhere.hole);
    });
    if (start === undefined) left.push(pageIndex);
    else starts.set(pageIndex, start);
  }
  const end = Math.max(...pages) + 1;
  const window = new FoldWindow(Math.min(...pages), end, Infinity, new Set(starts.keys()));
  for (const [pageIndex, start] of starts) window.pages.set(pageIndex, start);
  const segments = numbers((base?.position.segment ?? 0) + 1, manifest.head?.segment ?? 0);
  const read = inOrder(segments, segmentsAhead, async (segment) => {
    const at = { segment, epoch: epochOf(segment) };
    return {
      ...at,
      entries: (await readSegmentTables(store, volumeOfSegment(manifest, segment), at)).entries,
    };
  });
  for await (const segment of read) {
    window.add(segment);
    await breathe(clock);
  }
  return [...starts.keys()].map((pageIndex) =>
    storedForm(pageIndex, window.pages.get(pageIndex) ?? new MapPage(nowhere.hole)),
  );
}

/** `undefined` for what is missing or damaged. */
async function readable<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (isStorageError(error, 'corrupt')) return undefined;
    throw error;
  }
}

function* numbers(from: number, to: number): Generator<number> {
  for (let number = from; number <= to; number += 1) yield number;
}
