import { decodeManifest, type Manifest } from '../../src/format/manifest.ts';
import type { Snapshot } from '../../src/format/snapshot.ts';
import { blockBytes } from './contents.ts';
import type { Engine } from './engine.ts';
import type { History, Version } from './history.ts';
import type { Scheduler } from './scheduler.ts';
import type { SimulatedStore } from './store.ts';

/** So little that what is read is given up all the time. */
const memoryBytes = 48 * blockBytes;

/** What is known of a snapshot that a client asked for. */
export interface SnapshotRecord {
  readonly name: string;
  /** When it was asked for, and when the answer came; endless while there was none. */
  readonly asked: number;
  answered: number;
  /** For each block the versions that it may have, oldest first. */
  versions: () => readonly (readonly Version[])[];
  /** It was answered, and the disk that alone may have some of it is still there. */
  isPromised: boolean;
  isCompleted: boolean;
  deletion: 'none' | 'asked' | 'done';
  /** What it holds, as it was read when it was completed. */
  content?: Uint8Array;
}

/**
 * Knows every snapshot that was asked for, looks at each manifest that is stored, and reads each
 * snapshot the moment it is called completed: it must be the volume as of one moment between question
 * and answer, and be there until it is deleted.
 */
export class SnapshotJudge {
  readonly records = new Map<string, SnapshotRecord>();
  /** As the store has it. */
  manifest: Manifest | undefined;
  readCount = 0;
  /** Ids of the snapshots that ever had a clone's pin. */
  readonly everCloned = new Set<string>();
  private readonly engine: Engine;
  private readonly scheduler: Scheduler;
  private readonly store: SimulatedStore;
  private readonly reading = new Set<Promise<void>>();

  constructor(engine: Engine, scheduler: Scheduler, store: SimulatedStore) {
    this.engine = engine;
    this.scheduler = scheduler;
    this.store = store;
    store.onManifest = (value) => this.look(decodeManifest(value));
  }

  /** A client asks for a snapshot of the volume that `history` tells of. */
  ask(history: History, asked: number): SnapshotRecord {
    history.readers.add(asked);
    const record: SnapshotRecord = {
      name: `s${this.records.size + 1}`,
      ...{ asked, answered: Number.POSITIVE_INFINITY },
      ...{ isPromised: false, isCompleted: false, deletion: 'none' },
      versions: () => history.versionsSince(asked),
    };
    this.records.set(record.name, record);
    return record;
  }

  /** The client has an answer, or an error, after which the snapshot may be there all the same. */
  answer(record: SnapshotRecord, history: History, answered: number): void {
    const versions = history.versionsSince(record.asked);
    record.answered = answered;
    record.versions = () => versions;
    history.readers.delete(record.asked);
  }

  /** What was only on a disk may be lost, or was: snapshots that are not completed with it. */
  forsake(): void {
    for (const record of this.records.values()) record.isPromised = false;
  }

  /** Looks at a manifest the moment it is stored. */
  private look(manifest: Manifest): void {
    const isTaken = manifest.epoch !== this.manifest?.epoch;
    this.requireInPlace(manifest);
    this.manifest = manifest;
    for (const { id, clones } of manifest.snapshots) if (clones.length > 0) this.everCloned.add(id);
    const found = new Map(manifest.snapshots.map((snapshot) => [snapshot.name, snapshot]));
    for (const record of this.records.values()) {
      const snapshot = found.get(record.name);
      found.delete(record.name);
      const wrong = wrongWith(record, snapshot);
      if (wrong !== undefined) this.fail(record.name, wrong);
      if (snapshot?.isCompleted === true && !record.isCompleted) {
        record.isCompleted = true;
        this.read(record, snapshot, manifest);
      }
    }
    for (const name of found.keys()) this.fail(name, 'nobody asked for it');
    if (isTaken) this.readNewest(manifest);
    if (manifest.writer === undefined && manifest.snapshots.some((each) => !each.isCompleted))
      this.fail('', 'a volume was given up with one that is not completed');
  }

  /** Clones look for the map of their snapshot by the position that they found at their birth. */
  private requireInPlace(manifest: Manifest): void {
    for (const { id, name, clones, checkpoint } of this.manifest?.snapshots ?? []) {
      const present = manifest.snapshots.find((snapshot) => snapshot.id === id)?.checkpoint;
      if (clones.length === 0 || checkpoint === undefined || present === undefined) continue;
      if (!this.engine.isSameCheckpoint(checkpoint, present))
        this.fail(name, 'clones read by its map, and it is stored elsewhere');
    }
  }

  /** Another has the volume, and has closed no epoch yet: what is completed must be there for readers. */
  private readNewest(manifest: Manifest): void {
    const snapshot = manifest.snapshots.findLast(({ isCompleted }) => isCompleted);
    const record = snapshot && this.records.get(snapshot.name);
    if (record !== undefined) this.read(record, snapshot as Snapshot, manifest);
  }

  private fail(name: string, what: string): void {
    this.scheduler.fail(new Error(`snapshot ${name}: ${what}`));
  }

  /** Reads it as the store has it at this very moment. */
  private read(record: SnapshotRecord, snapshot: Snapshot, manifest: Manifest): void {
    const reading = this.compare(record, snapshot, manifest)
      .catch((error: unknown) => {
        if (record.deletion === 'none') this.scheduler.fail(error);
      })
      .finally(() => this.reading.delete(reading));
    this.reading.add(reading);
  }

  private async compare(
    record: SnapshotRecord,
    snapshot: Snapshot,
    manifest: Manifest,
  ): Promise<void> {
    const { engine, scheduler, store } = this;
    const memory = new engine.VersionMemory(memoryBytes);
    const reader = new engine.SnapshotReader({ store: store.truth, clock: scheduler, memory });
    const device = await reader.open(manifest, snapshot, { readaheadBytes: 0 });
    const content = new Uint8Array(device.sizeBytes);
    await device.read(0, content);
    await device.close();
    this.readCount += 1;
    const wrong = compareWith(record, content);
    if (wrong !== undefined) throw new Error(`snapshot ${record.name}: ${wrong}`);
    record.content ??= content;
  }

  /** Reads all that are completed once more. */
  async end(): Promise<void> {
    await Promise.all(this.reading);
    const { manifest } = this;
    if (manifest === undefined) return;
    for (const snapshot of manifest.snapshots) {
      const record = this.records.get(snapshot.name);
      if (record?.isCompleted === true) this.read(record, snapshot, manifest);
    }
    await Promise.all(this.reading);
  }
}

/** What the manifest must not say of a snapshot. */
function wrongWith(record: SnapshotRecord, found: Snapshot | undefined): string | undefined {
  if (found !== undefined && record.deletion === 'done')
    return 'it was deleted, and is there again';
  if (found?.isCompleted === false && record.isCompleted)
    return 'it was completed, and no longer is';
  if (found !== undefined || record.deletion !== 'none') return undefined;
  if (record.isCompleted) return 'it was completed, and is gone';
  if (record.isPromised) return 'it was answered, and is gone with nothing lost';
  return undefined;
}

interface Span {
  readonly from: number;
  readonly until: number;
}

/** Whether the bytes are the volume as of one moment between question and answer. */
function compareWith(
  { asked, answered, versions }: SnapshotRecord,
  content: Uint8Array,
): string | undefined {
  // What the volume has had and has no more, or not yet, is not in it.
  const blocks = versions().slice(0, content.byteLength / blockBytes);
  const spans = blocks.map((list, block) =>
    spansOf(list, content.subarray(block * blockBytes, (block + 1) * blockBytes)),
  );
  const strange = spans.findIndex((list) => list.length === 0);
  if (strange >= 0) return `block ${strange} is what it never was at the time`;
  const starts = spans.flatMap((list) => list.map(({ from }) => from));
  const moments = [asked, ...starts.filter((from) => from > asked && from <= answered)];
  const suits = (moment: number): boolean =>
    spans.every((list) => list.some(({ from, until }) => from <= moment && moment < until));
  if (moments.some(suits)) return undefined;
  return `no one moment from ${asked} to ${answered} suits all blocks`;
}

/** When a block may have had these bytes. */
function spansOf(versions: readonly Version[], bytes: Uint8Array): Span[] {
  const spans: Span[] = [];
  let until = Number.POSITIVE_INFINITY;
  for (let at = versions.length - 1; at >= 0; at -= 1) {
    const version = versions[at] as Version;
    if (Buffer.compare(version.bytes, bytes) === 0) spans.push({ from: version.asked, until });
    until = Math.min(until, version.answered);
  }
  return spans;
}
