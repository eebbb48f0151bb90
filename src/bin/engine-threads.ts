import { Worker } from 'node:worker_threads';
import { type ErrorCode, StorageError } from '../base/errors.ts';
import type { EngineWorkers } from '../volume/engine-workers.ts';
import type { FoldedPage, FoldJob } from '../volume/fold.ts';
import type { PackedSegment, PackJob } from '../volume/pack.ts';

export type ThreadRequest =
  | { readonly id: number; readonly pack: PackJob; readonly into: ArrayBuffer }
  | { readonly id: number; readonly pack?: undefined; readonly fold: FoldJob };

export interface ThreadReply {
  readonly id: number;
  readonly packed?: PackedSegment;
  readonly folded?: FoldedPage[];
  readonly error?: { readonly code: ErrorCode; readonly message: string };
  readonly transfer?: ArrayBuffer[];
}

interface Pending {
  readonly resolve: (reply: ThreadReply) => void;
  readonly reject: (error: StorageError) => void;
}

interface Thread {
  readonly worker: Worker;
  readonly pending: Map<number, Pending>;
}

/**
 * Worker threads for packing and folding, started when there is first something to do, up to
 * `count`. A job goes to the thread with the fewest.
 */
export function createEngineThreads(stateDirectory: string, count: number): EngineWorkers {
  const threads: Thread[] = [];
  let nextId = 1;

  const start = (): Thread => {
    const file = import.meta.url.endsWith('.ts') ? './engine-thread.ts' : './engine-thread.js';
    const worker = new Worker(new URL(file, import.meta.url), {
      workerData: { stateDirectory },
      // A thread's own garbage is mostly buffers; with a small heap they are given back soon.
      resourceLimits: { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 4 },
    });
    const thread: Thread = { worker, pending: new Map() };
    worker.on('message', (reply: ThreadReply) => {
      const pending = thread.pending.get(reply.id);
      thread.pending.delete(reply.id);
      // An idle thread must not keep the process; one at work must.
      if (thread.pending.size === 0) worker.unref();
      if (reply.error === undefined) pending?.resolve(reply);
      else pending?.reject(new StorageError(reply.error.code, reply.error.message));
    });
    const end = (cause: unknown): void => {
      const failure = new StorageError('internal', 'A worker thread ended.', { cause });
      for (const pending of thread.pending.values()) pending.reject(failure);
      thread.pending.clear();
      const at = threads.indexOf(thread);
      if (at >= 0) threads.splice(at, 1);
    };
    worker.on('error', end);
    worker.on('exit', end);
    worker.unref();
    threads.push(thread);
    return thread;
  };

  const leastBusy = (): Thread => {
    const idle = threads.find((thread) => thread.pending.size === 0);
    if (idle !== undefined) return idle;
    if (threads.length < count) return start();
    return threads.reduce((best, next) => (next.pending.size < best.pending.size ? next : best));
  };

  const run = (request: ThreadRequest): Promise<ThreadReply> =>
    new Promise((resolve, reject) => {
      const thread = leastBusy();
      thread.worker.ref();
      thread.pending.set(request.id, { resolve, reject });
      thread.worker.postMessage(request, request.pack === undefined ? [] : [request.into]);
    });

  return {
    async pack(job, into) {
      const { packed } = await run({ id: nextId++, pack: job, into });
      if (packed === undefined) throw new StorageError('internal', 'a thread packed nothing');
      return packed;
    },
    async fold(job) {
      const { folded } = await run({ id: nextId++, fold: job });
      if (folded === undefined) throw new StorageError('internal', 'a thread folded nothing');
      return folded;
    },
    async close() {
      await Promise.all(threads.map((thread) => thread.worker.terminate()));
    },
  };
}
