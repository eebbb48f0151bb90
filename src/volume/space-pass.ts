import { breathe, type Clock } from '../base/clock.ts';
import { isStorageError } from '../base/errors.ts';
import { listAll, type ObjectStore } from '../base/object-store.ts';
import type { Manifest } from '../format/manifest.ts';
import { compactedKey, parseVolumeKey, volumePrefix } from '../format/names.ts';
import { compactedHeaderBytes, decodeCompactedHeader } from '../format/compacted-object.ts';
import { headerOfSegment, segmentHeaderBytes } from '../format/segment-object.ts';
import { Inventory } from './check-inventory.ts';
import { isGarbage } from './collector.ts';
import { chooseObjects } from './compaction-choice.ts';
import type { DataObject } from './compactor.ts';
import { inParallel } from './concurrency.ts';
import { MapUnion } from './map-union.ts';
import { markLive, Marks } from './marks.ts';
import { PageTable } from './page-table.ts';
import type { PlacementTable } from './placement-table.ts';
import type { Placer } from './placer.ts';
import { type Roots, rootsOf } from './roots.ts';
import type { CompactionLimits, SpaceSettings } from './space-settings.ts';

/** Headers read in one pass of objects of which it is not known how many blocks they have. */
const headersPerPass = 4096;
const headersAtOnce = 4;
const listedAtOnce = 500;
/** Rows of tables that are gone through between two breaths. */
const rowsAtOnce = 4096;

export interface SpacePassContext {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly volumeId: string;
  readonly space: SpaceSettings;
  readonly placer: Placer;
  /** How many blocks of data objects have, by their keys, as far as it is known; is added to. */
  readonly blockCounts: Map<string, number>;
}

/** An object with data that is alive. */
export interface LiveObject {
  readonly object: DataObject;
  readonly key: string;
  /** Of which it has blocks. */
  readonly segments: readonly number[];
  readonly storedBytes: number;
  readonly liveBlocks: number;
  /** `undefined`: not known, and taken for no more than are alive. */
  blockCount: number | undefined;
}

/** What a look at a volume found. */
export interface Found {
  readonly roots: Roots;
  readonly marks: Marks;
  /** Objects that nothing needs, with their sizes. */
  readonly garbage: Map<string, number>;
  readonly live: LiveObject[];
  /** Rows of the placement of segments of which nothing is left. */
  readonly deadRows: number[];
  readonly storedBytes: number;
  readonly mapBytes: number;
}

/**
 * Looks for what is dead: reads all maps that count, then lists what there is. Nothing is believed of
 * a listing but that an object may be there: what it is there for, the manifest says.
 */
export async function lookForSpace(
  context: SpacePassContext,
  manifest: Manifest,
  placement: PlacementTable,
): Promise<Found> {
  const { store, clock, volumeId, space } = context;
  const roots = rootsOf(manifest);
  const union = await loadMaps(store, manifest, roots);
  await breathe(clock);
  const marks = await markLive(context, union, new Marks(space.markBytes));
  const isLive = (segment: number): boolean => marks.liveBlocks.has(segment);
  const pageKeys = union.keys();
  await breathe(clock);
  const inventory = new Inventory({
    manifest,
    placement,
    isNeededPages: (key) => pageKeys.has(key),
    isLive,
    isMaking: (at) => context.placer.isMaking(at),
  });
  const segmentsByKey = await segmentsOfObjects(volumeId, placement, clock);
  const garbage = new Map<string, number>();
  const live: LiveObject[] = [];
  let storedBytes = 0;
  let listed = 0;
  for await (const { key, sizeBytes } of listAll(store, volumePrefix(volumeId))) {
    storedBytes += sizeBytes;
    listed += 1;
    if (listed % listedAtOnce === 0) await breathe(clock);
    const standing = inventory.add(key, sizeBytes);
    if (isGarbage(volumeId, key, standing, manifest.epoch)) {
      garbage.set(key, sizeBytes);
      context.blockCounts.delete(key);
    }
    if (standing !== 'referenced') continue;
    const object = parseVolumeKey(volumeId, key);
    const isSegment = object?.kind === 'segment' && object.at.segment <= roots.logFrom;
    if (object === undefined || !(isSegment || object.kind === 'compacted')) continue;
    const segments = isSegment ? [object.at.segment] : (segmentsByKey.get(key) ?? []);
    const liveBlocks = segments.reduce((sum, each) => sum + (marks.liveBlocks.get(each) ?? 0), 0);
    if (liveBlocks === 0) continue;
    const blockCount = context.blockCounts.get(key);
    live.push({ object, key, segments, storedBytes: sizeBytes, liveBlocks, blockCount });
  }
  await breathe(clock);
  await learnBlockCounts(context, live);
  await breathe(clock);
  const deadRows = [...placement.rows.segments].filter(
    (segment) => segment <= roots.logFrom && !isLive(segment),
  );
  return { roots, marks, garbage, live, deadRows, storedBytes, mapBytes: union.storedBytes };
}

/** The maps that count, together. */
export async function loadMaps(
  store: ObjectStore,
  manifest: Manifest,
  roots: Roots,
): Promise<MapUnion> {
  const union = new MapUnion();
  for (const [holder, position] of roots.checkpoints.entries()) {
    union.add(await PageTable.load(store, manifest, position), holder);
  }
  return union;
}

/** The segments of which something is in each compacted object, by the keys of the objects. */
export async function segmentsOfObjects(
  volumeId: string,
  { rows }: PlacementTable,
  clock: Clock,
): Promise<Map<string, number[]>> {
  const byKey = new Map<string, number[]>();
  for (let row = 0; row < rows.segments.length; row += 1) {
    const at = { serial: rows.serials[row] as number, epoch: rows.epochs[row] as number };
    const key = compactedKey(volumeId, at);
    const known = byKey.get(key);
    if (known === undefined) byKey.set(key, [rows.segments[row] as number]);
    else known.push(rows.segments[row] as number);
    if (row % rowsAtOnce === rowsAtOnce - 1) await breathe(clock);
  }
  return byKey;
}

/** Reads how many blocks objects have of which that is not known, so many in one pass. */
async function learnBlockCounts(
  { store, volumeId, blockCounts }: SpacePassContext,
  objects: readonly LiveObject[],
): Promise<void> {
  const unknown = objects.filter(({ blockCount }) => blockCount === undefined);
  await inParallel(unknown.slice(0, headersPerPass), headersAtOnce, async (each) => {
    try {
      each.blockCount = await readBlockCount(store, volumeId, each.object, each.key);
      blockCounts.set(each.key, each.blockCount);
    } catch (error) {
      // Damage is for a check to tell of. Such an object counts as alive, and is left alone.
      if (!isStorageError(error, 'corrupt') && !isStorageError(error, 'not-found')) throw error;
    }
  });
}

/** How many blocks an object has, by its header. */
export async function readBlockCount(
  store: ObjectStore,
  volumeId: string,
  object: DataObject,
  key: string,
): Promise<number> {
  const isSegment = object.kind === 'segment';
  const lengthBytes = isSegment ? segmentHeaderBytes : compactedHeaderBytes;
  const { bytes } = await store.getStart(key, lengthBytes);
  const header = isSegment
    ? headerOfSegment(bytes, volumeId, object.at)
    : decodeCompactedHeader(bytes, volumeId, object.at);
  return header.blockCount;
}

/** What to compact of what was found, and the marks of its blocks. */
export async function chooseFrom(
  context: SpacePassContext,
  manifest: Manifest,
  found: Found,
  options: {
    readonly limits: CompactionLimits;
    readonly without: ReadonlySet<string>;
  },
): Promise<{ readonly objects: DataObject[]; readonly marks: Marks }> {
  const { without } = options;
  const candidates =
    without.size === 0 ? found.live : found.live.filter(({ key }) => !without.has(key));
  await breathe(context.clock);
  const chosen = chooseObjects(candidates, options.limits);
  if (found.marks.hasBitmaps || chosen.length === 0)
    return { objects: chosen.map(({ object }) => object), marks: found.marks };
  // Memory was short for all of them: it is enough for as many of the chosen ones.
  const only = new Set<number>();
  const objects: DataObject[] = [];
  const capacity = Marks.capacity(context.space.markBytes);
  for (const { object, segments } of chosen) {
    if (only.size > 0 && only.size + segments.length > capacity) break;
    for (const segment of segments) only.add(segment);
    objects.push(object);
  }
  const union = await loadMaps(context.store, manifest, found.roots);
  const marks = new Marks(Number.POSITIVE_INFINITY, only);
  return { objects, marks: await markLive(context, union, marks) };
}
