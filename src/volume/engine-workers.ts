import type { LocalDisk } from '../base/local-disk.ts';
import { foldPages, type FoldJob, type FoldedPage } from './fold.ts';
import { packSegment, type PackedSegment, type PackJob } from './pack.ts';

/** The work that is done beside the event loop. Jobs and results can be sent between threads. */
export interface EngineWorkers {
  pack(job: PackJob): Promise<PackedSegment>;
  fold(job: FoldJob): Promise<FoldedPage[]>;
  close(): Promise<void>;
}

/** Does the work in place: for tests, the simulator, and inside a worker thread. */
export function inlineWorkers(disk: LocalDisk): EngineWorkers {
  return {
    pack: (job) => packSegment(disk, job),
    fold: async (job) => foldPages(job),
    close: async () => undefined,
  };
}
