import { Worker } from 'node:worker_threads';
import { type ErrorCode, StorageError } from '../base/errors.ts';
import type { CompactJob, MovedFrame } from '../volume/compacted-builder.ts';
import {
  type EngineWorkers,
  ObjectMemory,
  type PackedObject,
  PartMemory,
} from '../volume/engine-workers.ts';
import type { FoldedPage, FoldJob } from '../volume/fold.ts';
import type { PackedSegment, PackJob } from '../volume/pack.ts';

/**
 * What a thread is told. V8 counts shared memory anew with each message that brings it, and collects
 * the thread's whole heap for every 64 MiB of that: so it is brought once, by `share`, then named.
 */
export type ThreadRequest =
  | { readonly share: number; readonly memory: SharedArrayBuffer }
  | { readonly forget: number }
  | { readonly drop: number }
  | ThreadJob;

export type ThreadJob =
  | { readonly id: number; readonly pack: PackJob; readonly into: number }
  | { readonly id: number; readonly fold: FoldJob }
  | {
      readonly id: number;
      readonly build: number;
      readonly add: readonly MovedFrame[];
      readonly from: number;
    }
  | {
      readonly id: number;
      readonly build: number;
      readonly finish: CompactJob;
      readonly into: number;
    };

export interface ThreadReply {
  readonly id: number;
  readonly packed?: PackedSegment;
  readonly folded?: FoldedPage[];
  readonly error?: { readonly code: ErrorCode; readonly message: string };
}

interface Pending {
  readonly resolve: (reply: ThreadReply) => void;
  readonly reject: (error: StorageError) => void;
}

/** One worker thread and what it was asked. */
class EngineThread {
  readonly worker: Worker;
  private readonly pending = new Map<number, Pending>();
  private ended: StorageError | undefined;
  /** The names of the memory that it knows. */
  private readonly known = new Set<number>();

  constructor(stateDirectory: string, onEnd: (thread: EngineThread) => void) {
    const file = import.meta.url.endsWith('.ts') ? './engine-thread.ts' : './engine-thread.js';
    this.worker = new Worker(new URL(file, import.meta.url), {
      workerData: { stateDirectory },
      // V8 collects all the time once buffers, the shared ones too, exceed half the old generation.
      resourceLimits: { maxOldGenerationSizeMb: 512, maxYoungGenerationSizeMb: 4 },
    });
    this.worker.on('message', (reply: ThreadReply) => this.answered(reply));
    const end = (cause: unknown): void => {
      const failure = new StorageError('internal', 'A worker thread ended.', { cause });
      this.ended = failure;
      for (const pending of this.pending.values()) pending.reject(failure);
      this.pending.clear();
      onEnd(this);
    };
    this.worker.on('error', end);
    this.worker.on('exit', end);
    this.worker.unref();
  }

  get load(): number {
    return this.pending.size;
  }

  /** `given` goes over to the thread, without a copy. */
  run(job: ThreadJob, given: readonly ArrayBuffer[] = []): Promise<ThreadReply> {
    if (this.ended !== undefined) return Promise.reject(this.ended);
    return new Promise((resolve, reject) => {
      this.worker.ref();
      this.pending.set(job.id, { resolve, reject });
      this.tell(job, given);
    });
  }

  drop(build: number): void {
    this.tell({ drop: build });
  }

  share(name: number, memory: SharedArrayBuffer): void {
    if (this.known.has(name)) return;
    this.known.add(name);
    this.tell({ share: name, memory });
  }

  forget(name: number): void {
    if (this.known.delete(name)) this.tell({ forget: name });
  }

  private tell(request: ThreadRequest, given: readonly ArrayBuffer[] = []): void {
    this.worker.postMessage(request, given);
  }

  private answered(reply: ThreadReply): void {
    const pending = this.pending.get(reply.id);
    this.pending.delete(reply.id);
    // An idle thread must not keep the process; one at work must.
    if (this.pending.size === 0) this.worker.unref();
    if (reply.error === undefined) pending?.resolve(reply);
    else pending?.reject(new StorageError(reply.error.code, reply.error.message));
  }
}

/**
 * Worker threads for packing and folding, started when there is first something to do, up to
 * `count`. A job goes to the thread with the fewest.
 */
export function createEngineThreads(stateDirectory: string, count: number): EngineWorkers {
  const threads: EngineThread[] = [];
  const memory = new ObjectMemory();
  const names = new WeakMap<SharedArrayBuffer, number>();
  let nextId = 1;

  const start = (): EngineThread => {
    const thread = new EngineThread(stateDirectory, (ended) => {
      const at = threads.indexOf(ended);
      if (at >= 0) threads.splice(at, 1);
    });
    threads.push(thread);
    return thread;
  };

  const leastBusy = (): EngineThread => {
    const idle = threads.find((thread) => thread.load === 0);
    if (idle !== undefined) return idle;
    if (threads.length < count) return start();
    return threads.reduce((best, next) => (next.load < best.load ? next : best));
  };

  /** What the thread knows this memory by. */
  const nameFor = (thread: EngineThread, shared: SharedArrayBuffer): number => {
    const name = names.get(shared) ?? nextId++;
    names.set(shared, name);
    thread.share(name, shared);
    return name;
  };

  /** Lets a thread make an object in memory that is lent to it for that. */
  const makeObject = async (
    thread: EngineThread,
    jobInto: (name: number) => ThreadJob,
  ): Promise<PackedObject> => {
    const into = memory.take();
    const name = nameFor(thread, into);
    const { packed } = await thread.run(jobInto(name));
    if (packed === undefined) throw new StorageError('internal', 'a thread packed nothing');
    return {
      body: new Uint8Array(into, 0, packed.bodyBytes),
      frames: packed.frames,
      release: ({ mayBeRead }) => {
        if (!mayBeRead) memory.give(into);
        else for (const each of threads) each.forget(name);
      },
    };
  };

  return {
    pack: (job) => makeObject(leastBusy(), (into) => ({ id: nextId++, pack: job, into })),
    compact() {
      const build = nextId++;
      // What was added is on this thread and no other.
      const thread = leastBusy();
      const parts = new PartMemory(memory);
      return {
        allocate: (lengthBytes) => parts.allocate(lengthBytes),
        async add({ stored, frames }) {
          const from = nameFor(thread, parts.holding(stored));
          await thread.run({ id: nextId++, build, add: frames, from });
          parts.free();
        },
        finish(job) {
          parts.end();
          return makeObject(thread, (into) => ({ id: nextId++, build, finish: job, into }));
        },
        drop() {
          parts.end();
          thread.drop(build);
        },
      };
    },
    async fold(job) {
      const given = job.pages.flatMap(({ assignments }) => assignments.map(({ buffer }) => buffer));
      const { folded } = await leastBusy().run({ id: nextId++, fold: job }, given);
      if (folded === undefined) throw new StorageError('internal', 'a thread folded nothing');
      return folded;
    },
    async close() {
      await Promise.all(threads.map((thread) => thread.worker.terminate()));
    },
  };
}
