import type { LocalDisk } from '../base/local-disk.ts';
import { type FrameTable, maximumObjectBytes } from '../format/segment-object.ts';
import { type CompactJob, CompactedBuilder, type MovedPart } from './compacted-builder.ts';
import { foldPages, type FoldJob, type FoldedPage } from './fold.ts';
import { Packer, type PackJob } from './pack.ts';

/** The work that is done beside the event loop. Jobs and results can be sent between threads. */
export interface EngineWorkers {
  pack(job: PackJob): Promise<PackedObject>;
  fold(job: FoldJob): Promise<FoldedPage[]>;
  /** Begins an object of what is left of several segments. */
  compact(): CompactedBuild;
  close(): Promise<void>;
}

/** An object that is put together part by part, on one thread. */
export interface CompactedBuild {
  /** As `CompactedBuilder.add`; the memory of the part may be taken away. */
  add(part: MovedPart): Promise<void>;
  /** The object of all that was added. */
  finish(job: CompactJob): Promise<PackedObject>;
  /** Gives up what was added; nothing after `finish`. */
  drop(): void;
}

/** A segment as the object that it becomes. */
export interface PackedObject {
  readonly body: Uint8Array;
  readonly frames: FrameTable;
  /** Lets go of the body. Its memory is packed into again unless something may still read it. */
  release(options: { readonly mayBeRead: boolean }): void;
}

/** Memory for packed objects, used again: 8 MiB of garbage for each would else be collected. */
export class ObjectMemory {
  private readonly unused: SharedArrayBuffer[] = [];

  take(): SharedArrayBuffer {
    return this.unused.pop() ?? new SharedArrayBuffer(maximumObjectBytes);
  }

  give(memory: SharedArrayBuffer): void {
    this.unused.push(memory);
  }
}

/** Does the work in place: for tests and the simulator. */
export function inlineWorkers(disk: LocalDisk): EngineWorkers {
  const packer = new Packer(disk);
  const memory = new ObjectMemory();
  return {
    async pack(job) {
      const into = memory.take();
      const { bodyBytes, frames } = await packer.pack(job, new Uint8Array(into));
      const body = new Uint8Array(into, 0, bodyBytes);
      const release: PackedObject['release'] = ({ mayBeRead }) => {
        if (!mayBeRead) memory.give(into);
      };
      return { body, frames, release };
    },
    fold: async (job) => foldPages(job),
    compact() {
      const builder = new CompactedBuilder();
      return {
        add: async (part) => builder.add(part),
        async finish(job) {
          const into = memory.take();
          const { bodyBytes, frames } = builder.finish(job, new Uint8Array(into));
          const body = new Uint8Array(into, 0, bodyBytes);
          return { body, frames, release: ({ mayBeRead }) => !mayBeRead && memory.give(into) };
        },
        drop: () => undefined,
      };
    },
    close: async () => undefined,
  };
}
