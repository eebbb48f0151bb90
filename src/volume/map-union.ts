import { breathe, type Clock } from '../base/clock.ts';
import { type StorageError, toStorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { checksum, corrupt } from '../format/binary.ts';
import type { PageReference } from '../format/checkpoint-object.ts';
import { pageBlocks } from '../format/geometry.ts';
import { decodePage, nowhere } from '../format/map-page.ts';
import { MapPage, type Run } from './map-page.ts';
import { aboutObject } from './object-errors.ts';
import type { PageTable } from './page-table.ts';

/** Pages are read so many at a time, those that lie next to each other in one request. */
const batchPages = 256;
const batchBytes = 4 * 2 ** 20;
/** Bytes between two pages that are read for nothing, rather than by a request of their own. */
const gapBytes = 16 * 1024;
/** Blocks compared between two breaths: a few milliseconds. */
const comparedAtOnce = 65_536;

/** A stored page, and which of the maps have it. */
export interface SharedPage {
  readonly reference: PageReference;
  /** Of the object that holds it. */
  readonly key: string;
  /** As they were numbered by `add`. */
  readonly holders: readonly number[];
}

/** A page that was read; `undefined`: it cannot be had, and `onDamage` was told. */
export interface ReadPage extends SharedPage {
  readonly page: MapPage | undefined;
}

/** The pages of one place in all maps. */
export interface PageOfAll {
  readonly pageIndex: number;
  readonly pages: readonly ReadPage[];
}

/**
 * Several maps of one volume: of its head and of its snapshots. They share most of their pages; each
 * is here once, and read once.
 */
export class MapUnion {
  private readonly byIndex = new Map<
    number,
    { reference: PageReference; key: string; holders: number[] }[]
  >();
  storedBytes = 0;
  pageCount = 0;

  /** Adds a map, which is `holder` from now on. */
  add(table: PageTable, holder: number): void {
    for (const reference of table.references()) {
      const shared = this.byIndex.get(reference.pageIndex) ?? [];
      const known = shared.findLast((page) => isSame(page.reference, reference));
      if (known !== undefined) {
        known.holders.push(holder);
        continue;
      }
      shared.push({ reference, key: table.keyOf(reference), holders: [holder] });
      this.byIndex.set(reference.pageIndex, shared);
      this.storedBytes += reference.storedBytes;
      this.pageCount += 1;
    }
  }

  /** The keys of the objects that hold pages of any of the maps. */
  keys(): Set<string> {
    const keys = new Set<string>();
    for (const shared of this.byIndex.values()) for (const { key } of shared) keys.add(key);
    return keys;
  }

  /** Every page of the union. */
  *references(): Generator<SharedPage> {
    for (const shared of this.byIndex.values()) yield* shared;
  }

  /** Reads all pages, in order of their indices; each index once, with all pages that it has. */
  async *read(
    store: ObjectStore,
    clock: Clock,
    onDamage: (page: SharedPage, error: StorageError) => void,
  ): AsyncGenerator<PageOfAll> {
    const order = [...this.byIndex.keys()].sort((a, b) => a - b);
    for (let from = 0; from < order.length; ) {
      const end = this.batchEnd(order, from);
      const shared = order.slice(from, end).flatMap((index) => this.byIndex.get(index) ?? []);
      const stored = await readStored(store, shared, onDamage);
      for (const pageIndex of order.slice(from, end)) {
        const pages: ReadPage[] = [];
        for (const each of this.byIndex.get(pageIndex) ?? []) {
          pages.push({ ...each, page: decode(each, stored.get(each), onDamage) });
          await breathe(clock);
        }
        yield { pageIndex, pages };
      }
      from = end;
    }
  }

  private batchEnd(order: readonly number[], from: number): number {
    let bytes = 0;
    let pages = 0;
    let end = from;
    while (end < order.length && pages < batchPages && bytes < batchBytes) {
      for (const { reference } of this.byIndex.get(order[end] as number) ?? []) {
        bytes += reference.storedBytes;
        pages += 1;
      }
      end += 1;
    }
    return end;
  }
}

function isSame(a: PageReference, b: PageReference): boolean {
  return (
    a.segment === b.segment && a.epoch === b.epoch && a.part === b.part && a.offset === b.offset
  );
}

/** The stored bytes of pages: those that lie near each other in an object by one request. */
async function readStored(
  store: ObjectStore,
  pages: readonly SharedPage[],
  onDamage: (page: SharedPage, error: StorageError) => void,
): Promise<Map<SharedPage, Uint8Array>> {
  const found = new Map<SharedPage, Uint8Array>();
  const order = [...pages].sort((a, b) =>
    a.key === b.key ? a.reference.offset - b.reference.offset : a.key < b.key ? -1 : 1,
  );
  for (let from = 0; from < order.length; ) {
    const first = order[from] as SharedPage;
    let end = from + 1;
    let stop = first.reference.offset + first.reference.storedBytes;
    for (let next = order[end]; next !== undefined && isNear(first.key, stop, next); ) {
      stop = Math.max(stop, next.reference.offset + next.reference.storedBytes);
      end += 1;
      next = order[end];
    }
    const group = order.slice(from, end);
    await readGroup(store, group, stop, found, onDamage);
    from = end;
  }
  return found;
}

function isNear(key: string, stop: number, { key: nextKey, reference }: SharedPage): boolean {
  return nextKey === key && reference.offset <= stop + gapBytes;
}

async function readGroup(
  store: ObjectStore,
  group: readonly SharedPage[],
  stop: number,
  found: Map<SharedPage, Uint8Array>,
  onDamage: (page: SharedPage, error: StorageError) => void,
): Promise<void> {
  const { key, reference } = group[0] as SharedPage;
  try {
    const range = { offset: reference.offset, lengthBytes: stop - reference.offset };
    const bytes = await store.get(key, range);
    for (const page of group) {
      const from = page.reference.offset - reference.offset;
      found.set(page, bytes.subarray(from, from + page.reference.storedBytes));
    }
  } catch (error) {
    const known = aboutObject(error, key);
    if (known.code !== 'corrupt') throw error;
    // An object that is cut short has some of them all the same.
    if (group.length === 1) onDamage(group[0] as SharedPage, known);
    else
      for (const page of group) {
        const end = page.reference.offset + page.reference.storedBytes;
        await readGroup(store, [page], end, found, onDamage);
      }
  }
}

function decode(
  page: SharedPage,
  stored: Uint8Array | undefined,
  onDamage: (page: SharedPage, error: StorageError) => void,
): MapPage | undefined {
  if (stored === undefined) return undefined;
  try {
    if (checksum(stored) !== page.reference.checksum)
      throw corrupt(`map page ${page.reference.pageIndex} fails its checksum`);
    return MapPage.fromRuns(decodePage(stored));
  } catch (error) {
    onDamage(page, aboutObject(toStorageError(error), page.key));
    return undefined;
  }
}

/** Consecutive blocks of a page that are in a segment, by some of its versions. */
export interface SharedRun {
  /** Block of the page. */
  readonly start: number;
  readonly count: number;
  readonly segment: number;
  readonly index: number;
  /** Which of the versions say so. */
  readonly versions: readonly number[];
}

/**
 * Tells, block by block, what the versions of a page hold: each (segment, index) once. A block of a
 * segment is written for one block of the volume, so that it is found in no other page.
 */
export async function eachSharedRun(
  versions: readonly MapPage[],
  clock: Clock,
  visit: (run: SharedRun) => void,
): Promise<void> {
  const [only] = versions;
  if (only !== undefined && versions.length === 1) {
    only.forEachRun((start, count, segment, index) => {
      if (segment !== nowhere.segment) visit({ start, count, segment, index, versions: [0] });
    });
    return;
  }
  const runs = versions.map((): Run => ({ segment: 0, index: 0, count: 0 }));
  let compared = 0;
  for (let start = 0; start < pageBlocks; ) {
    let count = pageBlocks - start;
    versions.forEach((page, at) => {
      const run = runs[at] as Run;
      page.find(start, count, run);
      count = Math.min(count, run.count);
    });
    visitDistinct(runs, start, count, visit);
    start += count;
    compared += versions.length;
    if (compared < comparedAtOnce) continue;
    compared = 0;
    await breathe(clock);
  }
}

function visitDistinct(
  runs: readonly Run[],
  start: number,
  count: number,
  visit: (run: SharedRun) => void,
): void {
  const distinct: { segment: number; index: number; versions: number[] }[] = [];
  runs.forEach(({ segment, index }, version) => {
    if (segment === nowhere.segment) return;
    // Most often the version before says the same.
    const known = distinct.findLast((each) => each.segment === segment && each.index === index);
    if (known === undefined) distinct.push({ segment, index, versions: [version] });
    else known.versions.push(version);
  });
  for (const each of distinct) visit({ start, count, ...each });
}
