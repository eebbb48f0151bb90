import { listAll, type ObjectStore } from '../base/object-store.ts';
import { blockBytes, pageBlocks } from '../format/geometry.ts';
import { lastOfAncestors } from '../format/lineage.ts';
import { epochOfSegment, type Manifest } from '../format/manifest.ts';
import { nowhere } from '../format/map-page.ts';
import { afterSegmentKey, parseSegmentKey, segmentsPrefix } from '../format/names.ts';
import type { Snapshot } from '../format/snapshot.ts';
import { inOrder, inParallel } from './concurrency.ts';
import type { MapPage, Run } from './map-page.ts';
import { isSamePage, type MapVersion } from './map-version.ts';
import { PageCache } from './page-cache.ts';
import { presentVersion, snapshotVersion } from './stored-version.ts';
import type { SnapshotProgress } from './snapshots.ts';

/** Pages of the snapshot that are looked at at once. */
const pagesAhead = 8;

/** Map pages of all versions that are kept while one is compared with the others. */
const pageCacheBytes = 64 * 2 ** 20;
/** Entry tables of the log after the last checkpoint that are read at once. */
const getConcurrency = 16;

/** A version of a volume, and the last segment that is in it. */
interface NumberedVersion {
  readonly version: MapVersion;
  readonly segment: number;
}

/** Blocks of a page from `start` on, that lie one after the other in a segment. */
interface HeldRun extends Run {
  readonly start: number;
}

/**
 * How much data, uncompressed, a completed snapshot holds that no other snapshot has, nor the volume as
 * far as the store has it.
 */
export async function onlyHeldBytes(
  store: ObjectStore,
  manifest: Manifest,
  snapshot: Snapshot,
): Promise<number> {
  const pages = new PageCache(pageCacheBytes);
  const versionOf = async ({ id, segment }: Snapshot): Promise<NumberedVersion> => ({
    segment,
    version: await snapshotVersion(store, manifest, id, pages),
  });
  const distance = ({ segment }: Snapshot): number => Math.abs(segment - snapshot.segment);
  const others = manifest.snapshots
    .filter(({ id, isCompleted }) => id !== snapshot.id && isCompleted)
    // Those next to it have most in common with it.
    .sort((a, b) => distance(a) - distance(b));
  const present = {
    segment: Number.POSITIVE_INFINITY,
    version: await presentVersion(store, manifest, pages, getConcurrency),
  };
  const compared = [present, ...(await inParallel(others, getConcurrency, versionOf))];
  const sharedThrough = lastOfAncestors(manifest);
  return (await countOnlyHeld(await versionOf(snapshot), compared, sharedThrough)) * blockBytes;
}

/**
 * How many blocks would be nobody's any more if a snapshot were deleted: those that are in its map, of
 * segments after `sharedThrough`, and in none of the other maps. A page that one of the others has at
 * the same place is not read: it costs what differs.
 */
async function countOnlyHeld(
  { version }: NumberedVersion,
  others: readonly NumberedVersion[],
  sharedThrough: number,
): Promise<number> {
  const pages = [...version.pageIndices()].filter((pageIndex) =>
    others.every((other) => !isSamePage(version, other.version, pageIndex)),
  );
  const counted = inOrder(pages, pagesAhead, async (pageIndex) => {
    let runs = runsOf(await version.load(pageIndex), sharedThrough);
    for (const other of others) {
      if (runs.length === 0) break;
      // What was written after a version is not in it.
      const mayHold = runs.some(({ segment }) => segment <= other.segment);
      if (!mayHold || other.version.storedPage(pageIndex) === 'hole') continue;
      const page = await other.version.load(pageIndex);
      runs = runs.flatMap((run) => without(run, page));
    }
    return runs.reduce((sum, { count }) => sum + count, 0);
  });
  let blocks = 0;
  for await (const count of counted) blocks += count;
  return blocks;
}

function runsOf(page: MapPage, sharedThrough: number): HeldRun[] {
  const runs: HeldRun[] = [];
  const run: Run = { segment: 0, index: 0, count: 0 };
  for (let start = 0; start < pageBlocks; start += run.count) {
    page.find(start, pageBlocks - start, run);
    const isOwn = run.segment !== nowhere.segment && run.segment > sharedThrough;
    if (isOwn) runs.push({ ...run, start });
  }
  return runs;
}

/** What is left of a run without the blocks that a page of another version has, too. */
function without({ start, segment, index, count }: HeldRun, page: MapPage): HeldRun[] {
  const left: HeldRun[] = [];
  const run: Run = { segment: 0, index: 0, count: 0 };
  for (let at = 0; at < count; at += run.count) {
    page.find(start + at, count - at, run);
    const isThere = run.segment === segment && run.index === index + at;
    if (!isThere) left.push({ start: start + at, segment, index: index + at, count: run.count });
  }
  return left;
}

/** How far a pending snapshot is, as far as the store knows. */
export async function storedProgress(
  store: ObjectStore,
  manifest: Manifest,
  { segment }: Snapshot,
): Promise<SnapshotProgress> {
  const head = manifest.head?.segment ?? 0;
  let last = head;
  const prefix = segmentsPrefix(manifest.id);
  for await (const { key } of listAll(store, prefix, afterSegmentKey(manifest.id, head))) {
    const at = parseSegmentKey(manifest.id, key);
    if (last === segment || at.segment > last + 1) break;
    const isOurs = at.epoch === epochOfSegment(manifest, at.segment);
    if (isOurs && at.segment === last + 1) last = at.segment;
  }
  return { segments: segment - head, storedSegments: last - head };
}
