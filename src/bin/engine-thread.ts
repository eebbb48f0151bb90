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
/** Memory of a build that has ended, for the next: 8 MiB of garbage for each would else be collected. */
let spare: Uint8Array | undefined;

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
    buildOf(job.build).add({ stored: memoryOf(job.from), frames: job.add });
    return { id };
  }
  const into = memoryOf(job.into);
  if ('pack' in job) return { id, packed: await packer.pack(job.pack, into) };
  const packed = buildOf(job.build).finish(job.finish, into);
  end(job.build);
  return { id, packed };
}

function memoryOf(name: number): Uint8Array {
  const memory = shared.get(name);
  if (memory === undefined) throw new StorageError('internal', 'a thread was not given memory');
  return memory;
}

function buildOf(build: number): CompactedBuilder {
  const known = builds.get(build) ?? new CompactedBuilder(spare);
  if (known.memory === spare) spare = undefined;
  builds.set(build, known);
  return known;
}

function end(build: number): void {
  spare ??= builds.get(build)?.memory;
  builds.delete(build);
}

port.on('message', (request: ThreadRequest) => {
  if ('share' in request) shared.set(request.share, new Uint8Array(request.memory));
  else if ('forget' in request) shared.delete(request.forget);
  else if ('drop' in request) end(request.drop);
  else void answer(request);
});
