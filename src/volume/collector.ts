import { toStorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Clock } from '../base/clock.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Manifest } from '../format/manifest.ts';
import { parseVolumeKey, variantOfPart } from '../format/names.ts';
import type { Standing } from './check-report.ts';
import { inParallel } from './concurrency.ts';
import type { Ownership } from './ownership.ts';
import type { Placer } from './placer.ts';
import { remainsDead, type Roots, rootsOf } from './roots.ts';
import type { StoredPlaces } from './segment-places.ts';

/** Deletions under way at once; and how many follow one look at the manifest. */
const deletedAtOnce = 4;
const deletedPerProof = 64;

export interface CollectorContext {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly volumeId: string;
  readonly ownership: Ownership;
  readonly places: StoredPlaces;
  readonly placer: Placer;
}

/** Objects that nothing needed any more, as of one manifest. */
interface Condemned {
  readonly roots: Roots;
  /** When they may be deleted, on the monotonic clock. */
  readonly dueMs: number;
  /** With their sizes. */
  readonly objects: Map<string, number>;
}

/**
 * Deletes what nothing needs, some time after that was so, and only when the manifest, read again,
 * proves it still. What it cannot prove it leaves: it will be found again.
 */
export class Collector {
  private readonly context: CollectorContext;
  private condemned: Condemned[] = [];
  private running: Promise<void> | undefined;
  private isStopped = false;
  deletedObjects = 0;
  deletedBytes = 0;

  constructor(context: CollectorContext) {
    this.context = context;
  }

  /** Bytes that wait to be deleted. */
  get waitingBytes(): number {
    let bytes = 0;
    for (const { objects } of this.condemned) for (const size of objects.values()) bytes += size;
    return bytes;
  }

  /** Nothing needs these objects, as of a manifest with these roots, which the store has. */
  condemn(objects: ReadonlyMap<string, number>, roots: Roots, graceMs: number): void {
    const dueMs = this.context.clock.monotonicMs() + graceMs;
    const fresh = new Map(objects);
    for (const known of this.condemned) {
      // Whatever is due first.
      const [earlier, later] =
        known.dueMs <= dueMs ? [known.objects, fresh] : [fresh, known.objects];
      for (const key of earlier.keys()) later.delete(key);
    }
    if (fresh.size === 0) return;
    this.condemned.push({ roots, dueMs, objects: fresh });
  }

  /** Deletes what is due; with what is being deleted already. */
  collect(): Promise<void> {
    this.running ??= this.run().finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  get isDue(): boolean {
    const nowMs = this.context.clock.monotonicMs();
    return this.condemned.some(({ dueMs }) => dueMs <= nowMs);
  }

  private async run(): Promise<void> {
    const { clock, ownership, log } = this.context;
    while (this.isDue && !this.isStopped) {
      const nowMs = clock.monotonicMs();
      const next = this.condemned.find(({ dueMs }) => dueMs <= nowMs) as Condemned;
      const fresh = await ownership.fresh();
      // The placement is being changed at this moment: another look will do.
      if (!isSamePlacement(fresh, ownership.manifest)) return;
      if (!remainsDead(next.roots, rootsOf(fresh))) {
        log.info('what was to be deleted may be needed again, and stays', { volume: fresh.name });
        this.condemned = this.condemned.filter((each) => each !== next);
        continue;
      }
      const keys = [...next.objects.keys()].slice(0, deletedPerProof);
      await inParallel(keys, deletedAtOnce, (key) => this.remove(key, next, fresh));
      if (next.objects.size === 0) this.condemned = this.condemned.filter((each) => each !== next);
    }
  }

  private async remove(key: string, condemned: Condemned, fresh: Manifest): Promise<void> {
    const { store, log } = this.context;
    if (this.isStopped) return;
    const sizeBytes = condemned.objects.get(key) ?? 0;
    // What cannot be deleted now is found by the next pass.
    condemned.objects.delete(key);
    if (!this.isStillUnnamed(key, fresh)) return;
    try {
      await store.delete(key);
      this.deletedObjects += 1;
      this.deletedBytes += sizeBytes;
    } catch (error) {
      log.warn('an object that nothing needs was not deleted', {
        object: key,
        error: toStorageError(error).message,
      });
    }
  }

  /** What only names decide is looked at again: whether the placement leads to this object. */
  private isStillUnnamed(key: string, fresh: Manifest): boolean {
    const { volumeId, places, placer } = this.context;
    const found = parseVolumeKey(volumeId, key);
    if (found === undefined) return false;
    switch (found.kind) {
      case 'manifest':
        return false;
      case 'compacted':
        return !places.placement.names(found.at) && !placer.isMaking(found.at);
      case 'placement':
        return (
          fresh.placement?.serial !== found.at.serial || fresh.placement.epoch !== found.at.epoch
        );
      case 'segment':
      case 'checkpoint':
      case 'pages':
        return true;
    }
  }

  /** Deletes nothing more; resolves when what is under way has ended. */
  async stop(): Promise<void> {
    this.isStopped = true;
    await this.running?.catch(() => undefined);
  }
}

function isSamePlacement({ placement: a }: Manifest, { placement: b }: Manifest): boolean {
  return a?.serial === b?.serial && a?.epoch === b?.epoch;
}

/** Whether an object of this standing may be deleted some time, as of the manifest of `epoch`. */
export function isGarbage(
  volumeId: string,
  key: string,
  standing: Standing,
  epoch: number,
): boolean {
  if (standing !== 'superseded' && standing !== 'orphaned') return false;
  const found = parseVolumeKey(volumeId, key);
  if (found === undefined || found.kind === 'manifest') return false;
  if (found.at.epoch < epoch) return true;
  // A map that is made of another map is in the store before anything names it, at any segment.
  if (found.kind === 'checkpoint') return found.at.variant === 0;
  if (found.kind === 'pages') return variantOfPart(found.part) === 0;
  return true;
}
