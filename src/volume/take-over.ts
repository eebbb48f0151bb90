import { assert } from '../base/assert.ts';
import { type Clock, sleep } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Manifest } from '../format/manifest.ts';
import { type LoadedManifest, loadManifest } from './ownership.ts';

/**
 * What to do about a volume that another writer has: refuse it; take it once its writer's lease was
 * seen unchanged for as long as it runs; take it at once, whether or not that writer lives.
 */
export type TakeOver = 'never' | 'when-dead' | 'now';

/** How the waiting for another's lease goes, for people. */
export interface LeaseWatch {
  readonly volume: string;
  readonly host: string;
  readonly epoch: number;
  readonly remainingMs: number;
  readonly leaseMs: number;
}

export interface TakeOverOptions {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly writerId: string;
  readonly takeOver?: TakeOver;
  /** Told again and again while another's lease is watched. */
  readonly onWatch?: (watch: LeaseWatch) => void;
  /** Ends the watching. */
  readonly signal?: AbortSignal;
}

/** Whoever watches looks this often while a lease runs, and tells how it goes. */
const looksPerLease = 40;

/**
 * Resolves with the manifest of a volume that may be taken now: nobody has it, or its writer did, or
 * `takeOver` allows it. Whatever changes afterwards, the swap that follows finds out. `held` when
 * another writer is to be left alone.
 */
export async function whenFree(
  loaded: LoadedManifest,
  options: TakeOverOptions,
): Promise<LoadedManifest> {
  const { takeOver = 'never', writerId } = options;
  const { writer } = loaded.manifest;
  if (writer === undefined || writer.id === writerId || takeOver === 'now') return loaded;
  if (takeOver === 'never') throw heldError(loaded.manifest);
  return untilDead(loaded, options);
}

/**
 * Watches a writer's lease. Its time is counted here from after the first look, so on one clock
 * alone: whoever changed the manifest before that look has stopped relying on it by then.
 */
async function untilDead(
  first: LoadedManifest,
  { store, clock, onWatch, signal }: TakeOverOptions,
): Promise<LoadedManifest> {
  const { manifest } = first;
  const { writer } = manifest;
  assert(writer !== undefined, 'a lease that is watched is somebody’s');
  const { leaseMs, host } = writer;
  const seenMs = clock.monotonicMs();
  let latest = first;
  for (;;) {
    const remainingMs = seenMs + leaseMs - clock.monotonicMs();
    onWatch?.({
      ...{ volume: manifest.name, host, epoch: manifest.epoch, leaseMs },
      remainingMs: Math.max(0, remainingMs),
    });
    if (remainingMs <= 0) return latest;
    await sleep(clock, Math.min(remainingMs, leaseMs / looksPerLease), signal);
    if (signal?.aborted === true) {
      throw new StorageError('shutting-down', `Waiting for volume ${manifest.name} was given up.`);
    }
    latest = await loadManifest(store, manifest.id);
    const { writer: now, epoch } = latest.manifest;
    if (now === undefined) return latest;
    // Others may change the manifest too, and then leave the lease as it is.
    const isSame = epoch === manifest.epoch && now.id === writer.id && now.lease === writer.lease;
    if (!isSame) throw aliveError(latest.manifest);
  }
}

function who(manifest: Manifest): string {
  const { name, writer, epoch } = manifest;
  assert(writer !== undefined, 'a volume without a writer is held by nobody');
  return `Volume ${name} is attached on ${writer.host} (epoch ${epoch})`;
}

export function heldError(manifest: Manifest): StorageError {
  return new StorageError(
    'held',
    `${who(manifest)}. Give it up there with "elasticdrive volume detach ${manifest.name}"; if that machine is lost, take the volume over with --take-over.`,
  );
}

function aliveError(manifest: Manifest): StorageError {
  return new StorageError(
    'held',
    `${who(manifest)}, which is alive: it has just renewed its lease. Give it up there with "elasticdrive volume detach ${manifest.name}", or take it at once with --force.`,
  );
}
