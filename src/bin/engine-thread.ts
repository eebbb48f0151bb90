import { parentPort, workerData } from 'node:worker_threads';
import { setPriority } from 'node:os';
import { createLocalDisk } from '../store/local-disk.ts';
import { StorageError, toStorageError } from '../base/errors.ts';
import { CompactedBuilder } from '../volume/compacted-builder.ts';
import { foldPages } from '../volume/fold.ts';
import { Packer } from '../volume/pack.ts';
import type { ThreadJob, ThreadReply, ThreadRequest } from './engine-threads.ts';

/** What runs in a worker thread: packs and folds, one job after the other. */
if (parentPort === null) throw new Error('this file runs in a worker thread');
const port = parentPort;
// On Linux a priority belongs to a thread: packing must not take the processor from answering.
try {
  setPriority(0, 19);
} catch {
  // A host may forbid it; then packing is merely less polite.
}
const { stateDirectory } = workerData as { stateDirectory: string };
const disk = createLocalDisk(stateDirectory);
const packer = new Packer(disk);
const shared = new Map<number, Uint8Array>();
/** Objects that are put together, by the name of their build. */
const builds = new Map<number, CompactedBuilder>();

async function answer(job: ThreadJob): Promise<void> {
  const reply = await perform(job).catch((error: unknown): ThreadReply => {
    const { code, message } = toStorageError(error);
    return { id: job.id, error: { code, message } };
  });
  port.postMessage(reply);
}

async function perform(job: ThreadJob): Promise<ThreadReply> {
  const { id } = job;
  if ('fold' in job) return { id, folded: foldPages(job.fold) };
  if ('add' in job) {
    buildOf(job.build).add(job.add);
    return { id };
  }
  const into = shared.get(job.into);
  if (into === undefined) throw new StorageError('internal', 'a thread was not given memory');
  if ('pack' in job) return { id, packed: await packer.pack(job.pack, into) };
  const packed = buildOf(job.build).finish(job.finish, into);
  builds.delete(job.build);
  return { id, packed };
}

function buildOf(build: number): CompactedBuilder {
  const known = builds.get(build) ?? new CompactedBuilder();
  builds.set(build, known);
  return known;
}

port.on('message', (request: ThreadRequest) => {
  if ('share' in request) shared.set(request.share, new Uint8Array(request.memory));
  else if ('forget' in request) shared.delete(request.forget);
  else if ('drop' in request) builds.delete(request.drop);
  else void answer(request);
});
