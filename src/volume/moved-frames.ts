import { StorageError, toStorageError } from '../base/errors.ts';
import { blockBytes, frameBlocks } from '../format/geometry.ts';
import type { SerialPosition } from '../format/names.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { CompactedObject, type MovedRun, readCompactedTables } from './compacted-object.ts';
import type { FetchMemory } from './fetch-memory.ts';
import { FrameLoads, type FrameRun } from './frame-loads.ts';
import { aboutObject, isMissingObject } from './object-errors.ts';
import type { ObjectFrames } from './object-frames.ts';
import type { SegmentPlace } from './segment-places.ts';

/** Compacted objects whose tables are kept in RAM: up to 20 KiB each, where all blocks are apart. */
const maximumObjects = 1024;
/** Objects are numbered from here, above all segments: frames of both are kept by such a number. */
const firstNumber = 2 ** 32;

export interface MovedFramesContext {
  readonly store: ObjectStore;
  readonly memory: FetchMemory;
  readonly frames: ObjectFrames;
}

/**
 * The frames of segments that were moved: each is put together from where its blocks are in the
 * compacted object. What is fetched for that is fetched once, however many wait for it.
 */
export class MovedFrames {
  private readonly context: MovedFramesContext;
  /** By key, the one used longest ago first. */
  private readonly objects = new Map<string, CompactedObject>();
  private readonly opening = new Map<string, Promise<CompactedObject>>();
  private nextNumber = firstNumber;
  /** Whose frames are being asked for: the load of a run begins while it is. */
  private asked: CompactedObject | undefined;
  private readonly loads = new FrameLoads((run) => {
    const object = this.asked as CompactedObject;
    this.context.frames.fetch(object, run).then(
      () => run.fail(new StorageError('internal', 'a frame was not read')),
      (error: unknown) => run.fail(aboutObject(error, object.key)),
    );
  });

  constructor(context: MovedFramesContext) {
    this.context = context;
  }

  /** Delivers frames of a segment; rejects with what `isMissingObject` knows when it is not there. */
  async fetch(place: SegmentPlace, moved: SerialPosition, run: FrameRun): Promise<void> {
    const object = await this.open(place, moved);
    const { memory } = this.context;
    const first = run.first * frameBlocks;
    const found = findIn(object, run.segment, first, run.count * frameBlocks);
    const gathered = memory.take(run.count * frameBlocks * blockBytes);
    try {
      const failures = await this.gather(object, found, first, gathered.bytes);
      for (let at = 0; at < run.count; at += 1) {
        const plain = gathered.bytes.subarray(
          at * frameBlocks * blockBytes,
          (at + 1) * frameBlocks * blockBytes,
        );
        run.deliver(at, failures.get(at) ?? plain, presentIn(found, first + at * frameBlocks));
      }
    } finally {
      gathered.release();
    }
  }

  /**
   * Copies what was found to where it belongs in `into`, which begins with block `first` of the
   * segment. Returns what went wrong, by the frame of the segment that misses something for it.
   */
  private async gather(
    object: CompactedObject,
    found: readonly MovedRun[],
    first: number,
    into: Uint8Array,
  ): Promise<Map<number, StorageError>> {
    const failures = new Map<number, StorageError>();
    const [begin, end] = [found[0], found.at(-1)];
    if (begin === undefined || end === undefined) return failures;
    const firstFrame = Math.floor(begin.place / frameBlocks);
    const lastFrame = Math.floor((end.place + end.count - 1) / frameBlocks);
    this.asked = object;
    const loads = this.loads.load(object.number, firstFrame, lastFrame, (frame, plain) => {
      for (const part of inFrame(found, frame)) {
        const start = (part.place - frame * frameBlocks) * blockBytes;
        const bytes = plain.subarray(start, start + part.count * blockBytes);
        into.set(bytes, (part.firstIndex - first) * blockBytes);
      }
    });
    const outcomes = await Promise.allSettled(loads);
    outcomes.forEach((outcome, at) => {
      if (outcome.status === 'fulfilled') return;
      if (isMissingObject(outcome.reason)) throw outcome.reason;
      const failure = toStorageError(outcome.reason);
      for (const part of inFrame(found, firstFrame + at)) {
        const last = Math.floor((part.firstIndex + part.count - 1 - first) / frameBlocks);
        for (let of = Math.floor((part.firstIndex - first) / frameBlocks); of <= last; of += 1)
          failures.set(of, failure);
      }
    });
    return failures;
  }

  /** The object with its tables, which are read once. */
  private open(place: SegmentPlace, moved: SerialPosition): Promise<CompactedObject> {
    const { key } = place;
    const known = this.objects.get(key);
    if (known !== undefined) {
      this.objects.delete(key);
      this.objects.set(key, known);
      return Promise.resolve(known);
    }
    const opening = this.opening.get(key);
    if (opening !== undefined) return opening;
    const open = this.read(place, moved).finally(() => this.opening.delete(key));
    this.opening.set(key, open);
    return open;
  }

  private async read(
    { volumeId, key }: SegmentPlace,
    at: SerialPosition,
  ): Promise<CompactedObject> {
    const tables = await readCompactedTables(this.context.store, volumeId, at);
    const object = new CompactedObject(volumeId, at, this.nextNumber, tables);
    this.nextNumber += 1;
    this.objects.set(key, object);
    if (this.objects.size > maximumObjects) this.forgetOldest();
    return object;
  }

  private forgetOldest(): void {
    for (const key of this.objects.keys()) {
      this.objects.delete(key);
      return;
    }
  }
}

/** As `CompactedObject.find`; that it has nothing of the segment is damage of the object. */
function findIn(
  object: CompactedObject,
  segment: number,
  firstIndex: number,
  count: number,
): MovedRun[] {
  try {
    return object.find(segment, firstIndex, count);
  } catch (error) {
    throw aboutObject(error, object.key);
  }
}

/** The parts of runs that lie in one frame of the object. */
function* inFrame(runs: readonly MovedRun[], frame: number): Generator<MovedRun> {
  const [from, end] = [frame * frameBlocks, (frame + 1) * frameBlocks];
  for (const { firstIndex, place, count } of runs) {
    const start = Math.max(from, place);
    const stop = Math.min(end, place + count);
    if (start < stop)
      yield { firstIndex: firstIndex + start - place, place: start, count: stop - start };
  }
}

/** Which blocks of the segment's frame that begins with block `first` were found, as bits. */
function presentIn(runs: readonly MovedRun[], first: number): number {
  let bits = 0;
  for (const { firstIndex, count } of runs) {
    const from = Math.max(firstIndex, first);
    const stop = Math.min(firstIndex + count, first + frameBlocks);
    for (let index = from; index < stop; index += 1) bits |= 1 << (index - first);
  }
  return bits;
}
