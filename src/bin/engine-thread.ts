import { parentPort, workerData } from 'node:worker_threads';
import { setPriority } from 'node:os';
import { createLocalDisk } from '../store/local-disk.ts';
import { toStorageError } from '../base/errors.ts';
import { inlineWorkers } from '../volume/engine-workers.ts';
import type { ThreadReply, ThreadRequest } from './engine-threads.ts';

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
const workers = inlineWorkers(createLocalDisk(stateDirectory));

async function answer(request: ThreadRequest): Promise<void> {
  const reply = await perform(request).catch((error: unknown): ThreadReply => {
    const { code, message } = toStorageError(error);
    return { id: request.id, error: { code, message } };
  });
  port.postMessage(reply, reply.transfer ?? []);
}

async function perform(request: ThreadRequest): Promise<ThreadReply> {
  const { id } = request;
  if (request.pack !== undefined) {
    const packed = await workers.pack(request.pack, request.into);
    return { id, packed, transfer: [packed.body.buffer as ArrayBuffer] };
  }
  return { id, folded: await workers.fold(request.fold) };
}

port.on('message', (request: ThreadRequest) => {
  void answer(request);
});
