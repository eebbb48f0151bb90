import { isStorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Codec } from '../format/compression.ts';
import type { Source } from '../format/compacted-object.ts';
import { segmentBlocks } from '../format/geometry.ts';
import {
  compactedKey,
  type LogPosition,
  segmentKey,
  type SerialPosition,
} from '../format/names.ts';
import type { CompactedBuild, EngineWorkers } from './engine-workers.ts';
import type { Log } from '../base/log.ts';
import type { Marks } from './marks.ts';
import { isMissingObject } from './object-errors.ts';
import type { Pacer } from './pacer.ts';
import type { NewObject, Placer } from './placer.ts';
import type { StoredPlaces } from './segment-places.ts';
import type { VolumeSealing } from './volume-sealing.ts';
import { rangesOf, survivorsOfCompacted, survivorsOfSegment, type Survivors } from './survivors.ts';

/** Objects made between two changes of the placement: so much is copied again after a crash. */
const objectsPerMove = 16;

/** An object with data. */
export type DataObject = (
  | { readonly kind: 'segment'; readonly at: LogPosition }
  | { readonly kind: 'compacted'; readonly at: SerialPosition }
) & {
  /** Where it is an ancestor's: whose it is, and the segments that are to be had of it. */
  readonly of?: { readonly volumeId: string; readonly segments: ReadonlySet<number> };
};

export interface CompactorContext {
  readonly store: ObjectStore;
  readonly log: Log;
  readonly workers: EngineWorkers;
  readonly volumeId: string;
  readonly codec: Codec;
  readonly places: StoredPlaces;
  readonly placer: Placer;
  readonly pacer: Pacer;
  /** Of an encrypted volume, and where what is sealed is put. */
  readonly sealing: VolumeSealing | undefined;
  readonly sealedStore: ObjectStore;
}

/** An object that is being put together. */
interface Target {
  readonly build: CompactedBuild;
  readonly sources: Source[];
  /** Objects of which everything alive is in it. */
  readonly emptied: string[];
  blockCount: number;
}

/**
 * Copies what is alive of objects into new ones. A crash at any moment leaves at most new objects
 * that nothing names; what was moved before stays moved.
 */
export class Compactor {
  private readonly context: CompactorContext;
  /** Objects that could not be read as a whole, and so held up those beside them. */
  private damaged = new Set<string>();
  private target: Target | undefined;
  private moved = new Map<number, SerialPosition>();
  private emptied: string[] = [];
  private made: NewObject[] = [];
  private madeBlocks = 0;
  readBytes = 0;
  /** Blocks that were moved, as the manifest says by now. */
  movedBlocks = 0;
  objects = 0;

  constructor(context: CompactorContext) {
    this.context = context;
  }

  /** The objects that the last compaction could not read: the next one goes on without them. */
  takeDamaged(): ReadonlySet<string> {
    const { damaged } = this;
    this.damaged = new Set();
    return damaged;
  }

  /**
   * Moves what is alive of these objects by `marks`; tells of each, once the manifest has the
   * placement that does not need it any more.
   */
  async compact(
    objects: readonly DataObject[],
    marks: Marks,
    onEmptied: (keys: readonly string[]) => void,
  ): Promise<void> {
    try {
      for (const object of objects) {
        await this.take(object, marks);
        if (this.made.length >= objectsPerMove) await this.move(onEmptied);
      }
      await this.finishTarget();
      await this.move(onEmptied);
    } finally {
      this.target?.build.drop();
      this.target = undefined;
      this.forget();
    }
  }

  private async take(object: DataObject, marks: Marks): Promise<void> {
    const survivors = await this.read(object, marks);
    if (survivors === undefined || survivors.blockCount === 0) return;
    if ((this.target?.blockCount ?? 0) + survivors.blockCount > segmentBlocks)
      await this.finishTarget();
    this.target ??= {
      build: this.context.workers.compact(),
      ...{ sources: [], emptied: [], blockCount: 0 },
    };
    const { target } = this;
    try {
      await this.copy(survivors, target);
    } catch (error) {
      // What was added of it cannot be taken out again; its neighbours come another time.
      target.build.drop();
      this.target = undefined;
      this.note(survivors.key, error, object);
      return;
    }
    target.sources.push(...survivors.sources);
    if (object.of === undefined) target.emptied.push(survivors.key);
    target.blockCount += survivors.blockCount;
  }

  private async read(object: DataObject, marks: Marks): Promise<Survivors | undefined> {
    const { store, places } = this.context;
    const { volumeId, segments } = object.of ?? { volumeId: this.context.volumeId };
    const bitmapOf = (segment: number): Uint32Array => marks.bitmapOf(segment);
    try {
      if (object.kind === 'segment')
        return await survivorsOfSegment(store, volumeId, object.at, bitmapOf);
      const { at } = object;
      const isHere = (segment: number): boolean => {
        if (segments !== undefined) return segments.has(segment);
        const place = places.placement.find(segment);
        return place?.serial === at.serial && place.epoch === at.epoch;
      };
      return await survivorsOfCompacted(store, volumeId, at, isHere, bitmapOf);
    } catch (error) {
      this.note(keyOfObject(volumeId, object), error, object);
      return undefined;
    }
  }

  /** Damage is left alone, for `check` to tell of; whatever else ends the compaction. */
  private note(key: string, error: unknown, { of }: DataObject): void {
    // An ancestor may have moved what was in it.
    if (of !== undefined && isMissingObject(error)) {
      this.damaged.add(key);
      return;
    }
    if (!isStorageError(error, 'corrupt')) throw error;
    this.damaged.add(key);
    this.context.log.error('an object is damaged, and is not compacted', {
      object: key,
      error: error.message,
    });
  }

  private async copy(survivors: Survivors, target: Target): Promise<void> {
    const { store, pacer } = this.context;
    const allocate = (lengthBytes: number): Uint8Array => target.build.allocate(lengthBytes);
    for (const range of rangesOf(survivors)) {
      await pacer.pace(range.lengthBytes);
      const stored = await store.get(survivors.key, range, { allocate });
      this.readBytes += stored.byteLength;
      await target.build.add(range.part(stored));
    }
  }

  private async finishTarget(): Promise<void> {
    const { target } = this;
    const { placer, volumeId, codec, sealing, sealedStore } = this.context;
    if (target === undefined) return;
    this.target = undefined;
    const made = placer.begin();
    try {
      const { sources } = target;
      const seal = sealing === undefined ? {} : { seal: sealing.newObject(made.key) };
      const job = { volumeId, at: made.at, sources, codec, ...seal };
      const packed = await target.build.finish(job);
      const attempts = await placer.put(made.key, [packed.body], sealedStore);
      packed.release({ mayBeRead: attempts > 1 });
    } catch (error) {
      made.done();
      throw error;
    }
    this.made.push(made);
    for (const { segment } of target.sources) this.moved.set(segment, made.at);
    this.emptied.push(...target.emptied);
    this.objects += 1;
    this.madeBlocks += target.blockCount;
  }

  private async move(onEmptied: (keys: readonly string[]) => void): Promise<void> {
    if (this.moved.size === 0) return;
    await this.context.placer.move(this.moved);
    this.movedBlocks += this.madeBlocks;
    onEmptied(this.emptied);
    this.forget();
  }

  private forget(): void {
    for (const made of this.made) made.done();
    this.made = [];
    this.emptied = [];
    this.moved = new Map();
    this.madeBlocks = 0;
  }
}

export function keyOfObject(volumeId: string, object: DataObject): string {
  return object.kind === 'segment'
    ? segmentKey(volumeId, object.at)
    : compactedKey(volumeId, object.at);
}
