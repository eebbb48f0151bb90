import type { LocalDisk } from '../base/local-disk.ts';
import { maximumStoredBytes } from '../format/sealed-object.ts';
import type { FrameTable } from '../format/segment-object.ts';
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
  /** Memory to read a part into: what was given before is read no more, but something may still write to it. */
  allocate(lengthBytes: number): Uint8Array;
  /** As `CompactedBuilder.add`; the memory of the part is used again. */
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
    return this.unused.pop() ?? new SharedArrayBuffer(maximumStoredBytes);
  }

  give(memory: SharedArrayBuffer): void {
    this.unused.push(memory);
  }
}

/** The memory that the parts of one object are read into, one after the other. */
export class PartMemory {
  private readonly memory: ObjectMemory;
  private current: SharedArrayBuffer | undefined;
  /** Nothing writes to the current one any more. */
  private isFree = false;

  constructor(memory: ObjectMemory) {
    this.memory = memory;
  }

  /** As `CompactedBuild.allocate`. */
  allocate(lengthBytes: number): Uint8Array {
    if (!this.isFree) this.current = undefined;
    this.current ??= this.memory.take();
    this.isFree = false;
    return new Uint8Array(this.current, 0, lengthBytes);
  }

  /** The memory with what was read at its start, wherever that lay, until `free`. */
  holding(stored: Uint8Array): SharedArrayBuffer {
    if (this.current !== undefined && stored.buffer === this.current) return this.current;
    this.allocate(stored.byteLength).set(stored);
    return this.current as unknown as SharedArrayBuffer;
  }

  free(): void {
    this.isFree = true;
  }

  /** No part is read any more. */
  end(): void {
    if (this.isFree && this.current !== undefined) this.memory.give(this.current);
    this.current = undefined;
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
      const parts = new PartMemory(memory);
      return {
        allocate: (lengthBytes) => parts.allocate(lengthBytes),
        async add({ stored, frames }) {
          const bytes = new Uint8Array(parts.holding(stored), 0, stored.byteLength);
          builder.add({ stored: bytes, frames });
          parts.free();
        },
        async finish(job) {
          parts.end();
          const into = memory.take();
          const { bodyBytes, frames } = builder.finish(job, new Uint8Array(into));
          const body = new Uint8Array(into, 0, bodyBytes);
          return { body, frames, release: ({ mayBeRead }) => !mayBeRead && memory.give(into) };
        },
        drop: () => parts.end(),
      };
    },
    close: async () => undefined,
  };
}
