import { sealingIn } from './sealing-store.ts';
import { breathe, type Clock } from '../base/clock.ts';
import { isStorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { decodeEntries, entryKind } from '../format/entry.ts';
import { blockBytes } from '../format/geometry.ts';
import type { Manifest } from '../format/manifest.ts';
import { placementKey, type SerialPosition } from '../format/names.ts';
import { findVolumeId } from './catalog.ts';
import { type FoundObject, Inventory, takeInventory } from './check-inventory.ts';
import { MapsCheck } from './check-maps.ts';
import {
  checkCompacted,
  compareReferences,
  heldByCompacted,
  heldBySegment,
} from './check-objects.ts';
import { type MapReference, ReferenceWindow } from './check-references.ts';
import { type CheckReport, type DataPart, Findings } from './check-report.ts';
import { checkSegment, type SegmentCondition } from './check-segment.ts';
import { inOrder } from './concurrency.ts';
import { isMissingObject } from './object-errors.ts';
import { loadManifest } from './ownership.ts';
import { PlacementTable } from './placement-table.ts';
import { rootsOf } from './roots.ts';
import { type SegmentPlace, StoredPlaces } from './segment-places.ts';

export interface CheckOptions {
  readonly clock: Clock;
  /** Which part of the data is read and verified; none when not given. */
  readonly readData?: DataPart | undefined;
  /** Objects read at once without their data; with it, a quarter of that. */
  readonly concurrency?: number;
  /** RAM for what the maps say; where it is not enough, they are read several times. */
  readonly mapBytes?: number;
  readonly onProgress?: (progress: CheckProgress) => void;
  /** Waited for after each object that was read, with how much of it that was. */
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
/** How often what is missing is looked for anew, where the volume has gone on meanwhile. */
const looksAgain = 3;

/**
 * Verifies a volume as its manifest has it now, and changes nothing: the map of the head, those of
 * the snapshots, every page; that each block that a map finds somewhere is there, and was written for
 * that block of the volume; every table of every object that is needed and, if asked for, its data;
 * and what every object is there for. What is dead may be there or not. What another host adds,
 * moves or deletes meanwhile is no damage. Rejects when the store cannot be read, or the manifest.
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
  await sealingIn(store, volumeId);
  const findings = new Findings();
  const check = new Check(store, manifest, options, findings);
  await check.run();
  await check.lookAgain(looksAgain);
  return check.report();
}

/** Where blocks that the maps lead to should be, and what is said when they are not. */
interface Suspect {
  readonly segments: readonly number[];
  readonly tell: () => void;
}

class Check {
  private readonly store: ObjectStore;
  private readonly manifest: Manifest;
  private readonly options: CheckOptions;
  private readonly findings: Findings;
  /** Segments that are looked at; not given: all. */
  private readonly only: ReadonlySet<number> | undefined;
  private readonly maps: MapsCheck;
  private inventory!: Inventory;
  private places!: StoredPlaces;
  /** What is missing, and may have been moved or have died since the manifest was read. */
  private readonly suspects: Suspect[] = [];
  private readonly tailConditions = new Map<number, SegmentCondition>();
  private readonly seenObjects = new Set<string>();
  /** Segments after the checkpoint that write past the end. */
  private readonly pastEnd: number[] = [];

  constructor(
    store: ObjectStore,
    manifest: Manifest,
    options: CheckOptions,
    findings: Findings,
    only?: ReadonlySet<number>,
  ) {
    this.store = store;
    this.manifest = manifest;
    this.options = options;
    this.findings = findings;
    this.only = only;
    this.maps = new MapsCheck({
      ...{ store, manifest, findings, clock: options.clock },
      isAgain: only !== undefined,
      onMissing: (tell) => this.suspects.push({ segments: [], tell }),
    });
  }

  async run(): Promise<void> {
    await this.maps.load();
    const placement = await this.loadPlacement();
    await this.takeInventory(placement);
    this.places = new StoredPlaces({
      store: this.store,
      lineage: () => this.manifest,
      placement,
      isChangedByOthers: true,
      epochOf: (segment) => this.inventory.epochOf(segment),
    });
    await this.readTail();
    for (let firstSegment = 1; Number.isFinite(firstSegment); ) {
      const isFirst = firstSegment === 1;
      const mapBytes = this.options.mapBytes ?? defaultMapBytes;
      const window = new ReferenceWindow(firstSegment, mapBytes, this.only);
      await this.maps.walk(window, isFirst);
      if (isFirst) this.inventory.judgeSegments((segment) => this.maps.live.has(segment));
      await this.checkWindow(window);
      firstSegment = window.endSegment;
    }
    await this.judgePastEnd();
  }

  /**
   * Looks anew for what was not there: it may have been moved, or nothing may need it any more, if the
   * volume has gone on since its manifest was read.
   */
  async lookAgain(times: number): Promise<void> {
    if (this.suspects.length === 0) return;
    const { manifest: now } = await loadManifest(this.store, this.manifest.id);
    if (times === 0 || isAsItWas(this.manifest, now)) {
      for (const { tell } of this.suspects) tell();
      return;
    }
    const only = new Set(this.suspects.flatMap(({ segments }) => segments));
    const options = { ...this.options, readData: undefined };
    const again = new Check(this.store, now, options, this.findings, only);
    await again.run();
    await again.lookAgain(times - 1);
  }

  private get headSegment(): number {
    return this.manifest.head?.segment ?? 0;
  }

  private get lastSegment(): number {
    return this.inventory.lastSegment;
  }

  private async loadPlacement(): Promise<PlacementTable> {
    const { id, placement } = this.manifest;
    try {
      return await PlacementTable.load(this.store, id, placement);
    } catch (error) {
      if (!isStorageError(error, 'corrupt') || placement === undefined) throw error;
      const what = isMissingObject(error) ? 'missing' : 'damaged';
      const end = 'what was moved cannot be found without it';
      this.findings.damage(what, placementKey(id, placement), `${error.message} ${end}.`);
      return PlacementTable.empty;
    }
  }

  private async takeInventory(placement: PlacementTable): Promise<void> {
    const { manifest } = this;
    const pageKeys = this.maps.pageKeys();
    const isNeededPages = (key: string): boolean => pageKeys.has(key);
    this.inventory = new Inventory({ manifest, placement, isNeededPages });
    const unexplained: FoundObject[] = [];
    for await (const found of takeInventory(this.store, manifest.id, this.inventory)) {
      if (this.only !== undefined) continue;
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
    const newer = new Inventory({
      manifest,
      placement: PlacementTable.empty,
      isNeededPages: () => true,
    });
    for (const { key, sizeBytes } of unexplained) {
      if (manifest.epoch > this.manifest.epoch && newer.add(key, sizeBytes) !== 'unknown') {
        this.inventory.explain(sizeBytes);
      } else {
        this.findings.warning('unknown', key, 'no writer of this volume would have put it there');
      }
    }
  }

  /** The log after the checkpoint, which is short, is kept. */
  private async readTail(): Promise<void> {
    for await (const condition of this.read(numbers(this.headSegment + 1, this.lastSegment))) {
      await this.note(condition);
      const { at, entries } = condition;
      this.tailConditions.set(at.segment, condition);
      if (entries === undefined) continue;
      this.maps.addTail({ ...at, entries });
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
    if (this.pastEnd.length === 0 || this.only !== undefined) return;
    const { manifest: now } = await loadManifest(this.store, this.manifest.id);
    const { sizeBytes, epoch } = this.manifest;
    if (now.sizeBytes !== sizeBytes || now.epoch !== epoch) return;
    for (const segment of this.pastEnd) {
      const message = 'it says of blocks past the end of the volume where they are';
      this.findings.damage('disagrees', (await this.places.find(segment)).key, message);
    }
  }

  /** Verifies the objects that the maps of this window lead to, and those that are kept anyway. */
  private async checkWindow(window: ReferenceWindow): Promise<void> {
    const own: number[] = [];
    const moved = new Map<
      string,
      { place: SegmentPlace; at: SerialPosition; segments: number[] }
    >();
    for (const segment of this.wantedIn(window)) {
      const known = this.tailConditions.get(segment);
      const place = await this.places.find(segment);
      if (known !== undefined) this.compare(known, place, window);
      else if (place.moved === undefined) own.push(segment);
      else {
        const object = moved.get(place.key) ?? { place, at: place.moved, segments: [] };
        object.segments.push(segment);
        moved.set(place.key, object);
      }
    }
    for await (const condition of this.read(own)) {
      await this.note(condition, window);
      this.compare(condition, await this.places.find(condition.at.segment), window);
      this.progress(condition.at.segment);
      await breathe(this.options.clock);
    }
    for (const { place, at, segments } of moved.values()) {
      await this.checkMoved(place, at, segments, window);
    }
  }

  /** Segments that must be there: what maps lead to, and all of the log that is kept. */
  private wantedIn(window: ReferenceWindow): number[] {
    const wanted = new Set(window.segments.keys());
    const from = Math.max(rootsOf(this.manifest).logFrom + 1, window.firstSegment);
    const to = Math.min(this.lastSegment, window.endSegment - 1);
    for (const segment of numbers(from, to)) {
      if (this.only?.has(segment) !== false) wanted.add(segment);
    }
    return [...wanted].sort((a, b) => a - b);
  }

  /** The conditions of segments in their own objects, in order; with the data that was asked for. */
  private read(segments: Iterable<number>): AsyncGenerator<SegmentCondition> {
    const { readData, concurrency = defaultConcurrency, pace, clock } = this.options;
    const ahead = readData === undefined ? concurrency : Math.ceil(concurrency / 4);
    return inOrder(segments, ahead, async (segment) => {
      const readsData = readData !== undefined && isInPart(segment, readData);
      const { volumeId, at } = await this.places.find(segment);
      const condition = await checkSegment({ store: this.store, clock, volumeId }, at, readsData);
      await pace?.(condition.readBytes);
      return condition;
    });
  }

  private async note(condition: SegmentCondition, window?: ReferenceWindow): Promise<void> {
    const { findings } = this;
    const { segment } = condition.at;
    findings.segments += 1;
    findings.readBytes += condition.readBytes;
    const isInCheckpoint = segment <= this.headSegment;
    const { key } = await this.places.find(segment);
    const needed = isInCheckpoint ? '' : '; the volume cannot be attached without it';
    if (condition.isMissing) {
      const tell = (): void => {
        findings.damage('missing', key, `it is not there${needed}`);
        this.lose(key, window?.segments.get(segment) ?? []);
      };
      this.suspects.push({ segments: [segment], tell });
    }
    const isReadable = condition.entries !== undefined;
    for (const wrong of condition.wrong) {
      findings.damage('damaged', key, isReadable ? wrong : `${wrong}${needed}`);
    }
  }

  private compare(
    condition: SegmentCondition,
    { key }: SegmentPlace,
    window: ReferenceWindow,
  ): void {
    const { segment } = condition.at;
    const references = window.segments.get(segment) ?? [];
    if (condition.isMissing) return;
    compareReferences(references, heldBySegment(condition), { segment, key }, this.findings);
  }

  private async checkMoved(
    { volumeId, key }: SegmentPlace,
    at: SerialPosition,
    segments: readonly number[],
    window: ReferenceWindow,
  ): Promise<void> {
    const { findings, store, options } = this;
    const { readData, clock, pace } = options;
    const isNew = !this.seenObjects.has(key);
    this.seenObjects.add(key);
    const readsData = isNew && readData !== undefined && isInPart(at.serial, readData);
    const condition = await checkCompacted({ store, clock, volumeId }, at, readsData);
    await pace?.(condition.readBytes);
    if (isNew) {
      findings.segments += 1;
      findings.readBytes += condition.readBytes;
      for (const wrong of condition.wrong) findings.damage('damaged', key, wrong);
    }
    if (condition.isMissing) {
      const references = segments.flatMap((segment) => window.segments.get(segment) ?? []);
      const tell = (): void => {
        findings.damage('missing', key, 'it is not there');
        this.lose(key, references);
      };
      this.suspects.push({ segments, tell });
      return;
    }
    for (const segment of segments) {
      const held = heldByCompacted(condition, segment);
      compareReferences(window.segments.get(segment) ?? [], held, { segment, key }, findings);
    }
  }

  private lose(key: string, references: readonly MapReference[]): void {
    for (const { block, count, isRead } of references) {
      if (isRead) this.findings.lose(block, count, key);
    }
  }

  private progress(segment: number): void {
    const { lastSegment } = this;
    const { readBytes, damageCount } = this.findings;
    this.options.onProgress?.({ segment, lastSegment, readBytes, damageCount });
  }

  report(): CheckReport {
    const { manifest, findings, inventory } = this;
    return {
      ...{ volume: manifest.name, id: manifest.id, epoch: manifest.epoch },
      attachedOn: manifest.writer?.host,
      headSegment: this.headSegment,
      lastSegment: this.lastSegment,
      objects: inventory.counts,
      ...findings.summary(),
      dataRead: this.options.readData,
    };
  }
}

const orphanedText = 'left by a writer that was followed; it is never read';

/** Whether the volume leads to the same objects: what is missing is then missing. */
function isAsItWas(before: Manifest, now: Manifest): boolean {
  const what = ({ head, snapshots, placement, ancestors, retention }: Manifest): string =>
    JSON.stringify([head, snapshots, placement, ancestors, retention?.keptFrom]);
  return what(before) === what(now);
}

/** Whether an object of this number belongs to the part of the data that is read. */
function isInPart(number: number, { part, parts }: DataPart): boolean {
  return number % parts === part - 1;
}

function* numbers(from: number, to: number): Generator<number> {
  for (let number = from; number <= to; number += 1) yield number;
}
