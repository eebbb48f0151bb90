import { type StorageError, toStorageError } from '../base/errors.ts';
import { segmentFrames } from '../format/geometry.ts';

/**
 * Is given a frame's plain bytes, which are only there while it runs: it copies what it wants. Bit i
 * of `present` says whether block i of the frame is among them.
 */
export type FrameTaker = (frame: number, plain: Uint8Array, present: number) => void;

/** All blocks of a frame. */
export const allPresent = -1;

/** A frame that is being fetched, and who waits for it. */
class FrameLoad {
  readonly frame: number;
  readonly takers: FrameTaker[];
  private readonly outcome = Promise.withResolvers<void>();

  constructor(frame: number, take: FrameTaker) {
    this.frame = frame;
    this.takers = [take];
    // Keeps a failed prefetch, which nobody waits for, from ending the process.
    this.outcome.promise.catch(() => undefined);
  }

  get done(): Promise<void> {
    return this.outcome.promise;
  }

  settle(plain: Uint8Array | StorageError, present: number): void {
    if (!(plain instanceof Uint8Array)) {
      this.outcome.reject(plain);
      return;
    }
    try {
      for (const take of this.takers) take(this.frame, plain, present);
      this.outcome.resolve();
    } catch (error) {
      this.outcome.reject(toStorageError(error));
    }
  }
}

/** Consecutive frames of one segment that nobody else fetches. Each is to be delivered once. */
export interface FrameRun {
  readonly segment: number;
  readonly first: number;
  readonly count: number;
  /** Frame `first + index` is here, or what is wrong with it. */
  deliver(index: number, plain: Uint8Array | StorageError, present?: number): void;
  /** Tells whoever still waits for one of these frames. */
  fail(error: StorageError): void;
}

/** Which frames are being fetched: however many want one at a time, it is fetched once. */
export class FrameLoads {
  private readonly loads = new Map<number, FrameLoad>();
  private readonly fetch: (run: FrameRun) => void;

  /** `fetch` begins to fetch a run. */
  constructor(fetch: (run: FrameRun) => void) {
    this.fetch = fetch;
  }

  /**
   * Gives frames `first` to `last` of a segment to `take`, each as it comes, and a promise for each:
   * one that is damaged takes no other with it. Those that nobody fetches yet are fetched together.
   */
  load(segment: number, first: number, last: number, take: FrameTaker): Promise<void>[] {
    const results: Promise<void>[] = [];
    for (let frame = first; frame <= last; ) {
      const loading = this.loads.get(segment * segmentFrames + frame);
      if (loading !== undefined) {
        loading.takers.push(take);
        results.push(loading.done);
        frame += 1;
        continue;
      }
      const started: FrameLoad[] = [];
      while (frame <= last && !this.loads.has(segment * segmentFrames + frame)) {
        const load = new FrameLoad(frame, take);
        this.loads.set(segment * segmentFrames + frame, load);
        started.push(load);
        results.push(load.done);
        frame += 1;
      }
      this.fetch(this.runOf(segment, started));
    }
    return results;
  }

  private runOf(segment: number, started: readonly FrameLoad[]): FrameRun {
    const settle = (load: FrameLoad, plain: Uint8Array | StorageError, present: number): void => {
      const number = segment * segmentFrames + load.frame;
      if (this.loads.get(number) !== load) return;
      this.loads.delete(number);
      load.settle(plain, present);
    };
    return {
      segment,
      first: started[0]?.frame ?? 0,
      count: started.length,
      deliver(index, plain, present = allPresent) {
        const load = started[index];
        if (load !== undefined) settle(load, plain, present);
      },
      fail(error) {
        for (const load of started) settle(load, error, 0);
      },
    };
  }
}
