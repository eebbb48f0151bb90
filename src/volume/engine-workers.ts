import type { LocalDisk } from '../base/local-disk.ts';
import { foldPages, type FoldJob, type FoldedPage } from './fold.ts';
import { type PackedSegment, Packer, type PackJob } from './pack.ts';

/** The work that is done beside the event loop. Jobs and results can be sent between threads. */
export interface EngineWorkers {
  /** Packs into a buffer of `maximumObjectBytes`, which is given away and comes back as the body's. */
  pack(job: PackJob, into: ArrayBuffer): Promise<PackedSegment>;
  fold(job: FoldJob): Promise<FoldedPage[]>;
  close(): Promise<void>;
}

/** Does the work in place: for tests, the simulator, and inside a worker thread. */
export function inlineWorkers(disk: LocalDisk): EngineWorkers {
  const packer = new Packer(disk);
  return {
    pack: (job, into) => packer.pack(job, into),
    fold: async (job) => foldPages(job),
    close: async () => undefined,
  };
}
