import { listAll, type ObjectStore } from '../base/object-store.ts';
import { lastOfAncestors } from '../format/lineage.ts';
import { epochOfSegment, lastClosedSegment, type Manifest } from '../format/manifest.ts';
import {
  type LogPosition,
  parseVolumeKey,
  type SerialPosition,
  volumePrefix,
} from '../format/names.ts';
import type { ObjectCount, Standing } from './check-report.ts';
import type { PlacementTable } from './placement-table.ts';
import { isSameCheckpoint, type Roots, rootsOf } from './roots.ts';

/** The last segment that epoch `epoch` may have written: for one that is over, where it ended. */
function endOfEpoch(manifest: Manifest, epoch: number): number {
  if (epoch > manifest.closedThrough) return Number.POSITIVE_INFINITY;
  return manifest.tenures.findLast((tenure) => tenure.epoch <= epoch)?.lastSegment ?? 0;
}

/** What the manifest leads to, as far as it was read. */
export interface InventoryFacts {
  readonly manifest: Manifest;
  readonly placement: PlacementTable;
  /** Whether a map that counts has a page in the object of that key. */
  readonly isNeededPages: (key: string) => boolean;
  /** Whether a map that counts holds a block of a segment; not given: nobody looked. */
  readonly isLive?: (segment: number) => boolean;
  /** Whether the writer is making this compacted object; only the writer knows. */
  readonly isMaking?: (at: SerialPosition) => boolean;
}

/**
 * Says of each object of a volume, in the order of their keys, what it is there for, as of one
 * manifest; and thereby how far the log goes in the store.
 */
export class Inventory {
  readonly counts: Readonly<Record<Standing, ObjectCount>> = {
    referenced: { objects: 0, bytes: 0 },
    superseded: { objects: 0, bytes: 0 },
    waiting: { objects: 0, bytes: 0 },
    orphaned: { objects: 0, bytes: 0 },
    unknown: { objects: 0, bytes: 0 },
  };
  /** Who wrote the segments that the manifest's tenures do not hold, in order. */
  readonly openTail: LogPosition[] = [];
  private readonly manifest: Manifest;
  private readonly facts: InventoryFacts;
  private readonly roots: Roots;
  /** Segments of which nobody has said yet whether they are needed, with their sizes. */
  private readonly unjudged = new Map<number, number>();

  constructor(facts: InventoryFacts) {
    this.facts = facts;
    this.manifest = facts.manifest;
    this.roots = rootsOf(facts.manifest);
  }

  /** The last segment that counts. */
  get lastSegment(): number {
    return this.lastKnown + this.openTail.length;
  }

  private get headSegment(): number {
    return this.manifest.head?.segment ?? 0;
  }

  /** The last segment that the manifest knows of; what follows is known by being there. */
  private get lastKnown(): number {
    return Math.max(lastClosedSegment(this.manifest), this.headSegment);
  }

  /** Under which epoch a segment that counts was stored. */
  epochOf(segment: number): number {
    const { manifest } = this;
    if (segment <= lastClosedSegment(manifest)) return epochOfSegment(manifest, segment);
    const open =
      segment <= this.headSegment ? manifest.head : this.openTail[segment - this.lastKnown - 1];
    return open?.epoch ?? manifest.epoch;
  }

  /** Takes note of the next object and says what it is there for. */
  add(key: string, sizeBytes: number): Standing {
    const standing = this.standingOf(key, sizeBytes);
    this.counts[standing].objects += 1;
    this.counts[standing].bytes += sizeBytes;
    return standing;
  }

  /** Says of the segments that were taken note of which are needed, now that it is known. */
  judgeSegments(isLive: (segment: number) => boolean): void {
    const { referenced, superseded } = this.counts;
    for (const [segment, sizeBytes] of this.unjudged) {
      if (isLive(segment)) continue;
      referenced.objects -= 1;
      referenced.bytes -= sizeBytes;
      superseded.objects += 1;
      superseded.bytes += sizeBytes;
    }
    this.unjudged.clear();
  }

  /** Says that an object which could not be explained has been explained since. */
  explain(sizeBytes: number): void {
    this.counts.unknown.objects -= 1;
    this.counts.unknown.bytes -= sizeBytes;
    this.counts.waiting.objects += 1;
    this.counts.waiting.bytes += sizeBytes;
  }

  private standingOf(key: string, sizeBytes: number): Standing {
    const found = parseVolumeKey(this.manifest.id, key);
    if (found === undefined) return 'unknown';
    if (found.kind === 'manifest') return 'referenced';
    const { epoch } = found.at;
    if (epoch === 0 || epoch > this.manifest.epoch) return 'unknown';
    if (found.kind === 'compacted' || found.kind === 'placement') {
      if (found.at.serial === 0) return 'unknown';
      return found.kind === 'compacted'
        ? this.standingOfCompacted(found.at)
        : this.standingOfPlacement(found.at);
    }
    if (found.at.segment === 0) return 'unknown';
    if (found.kind === 'segment') return this.standingOfSegment(found.at, sizeBytes);
    const isReferenced =
      found.kind === 'pages'
        ? this.facts.isNeededPages(key)
        : this.roots.checkpoints.some((known) => isSameCheckpoint(known, found.at));
    return isReferenced ? 'referenced' : this.standingOfCheckpoint(found.at);
  }

  private standingOfSegment(at: LogPosition, sizeBytes: number): Standing {
    if (at.segment <= lastOfAncestors(this.manifest)) return 'unknown';
    if (at.segment <= this.lastKnown && at.epoch === this.epochOf(at.segment))
      return this.isNeeded(at.segment, sizeBytes) ? 'referenced' : 'superseded';
    if (at.segment > endOfEpoch(this.manifest, at.epoch)) return 'orphaned';
    if (at.segment <= this.lastSegment) return 'unknown';
    if (at.segment > this.lastSegment + 1) return 'waiting';
    this.openTail.push(at);
    return 'referenced';
  }

  /** Whether anything reads the own object of a segment that counts. */
  private isNeeded(segment: number, sizeBytes: number): boolean {
    const { placement, isLive } = this.facts;
    if (placement.find(segment) !== undefined) return false;
    if (segment > this.roots.logFrom) return true;
    if (isLive === undefined) this.unjudged.set(segment, sizeBytes);
    return isLive?.(segment) !== false;
  }

  private standingOfCheckpoint(at: LogPosition): Standing {
    const { manifest } = this;
    if (at.segment > endOfEpoch(manifest, at.epoch)) return 'orphaned';
    if (this.isRetained(at)) return 'referenced';
    if (at.segment <= this.headSegment) return 'superseded';
    return this.isWriters(at.epoch) ? 'waiting' : 'orphaned';
  }

  /** All that was ever written is kept from some point on: maps are then made of any of it. */
  private isRetained({ segment }: LogPosition): boolean {
    const keptFrom = this.manifest.retention?.keptFrom;
    return keptFrom !== undefined && segment >= (keptFrom.checkpoint?.segment ?? 0);
  }

  private standingOfCompacted(at: SerialPosition): Standing {
    if (this.facts.placement.names(at)) return 'referenced';
    // What the present writer makes is there before anything names it.
    if (!this.isWriters(at.epoch)) return 'superseded';
    return this.facts.isMaking?.(at) === false ? 'superseded' : 'waiting';
  }

  private standingOfPlacement({ serial, epoch }: SerialPosition): Standing {
    const { placement } = this.manifest;
    if (placement?.epoch === epoch) {
      if (placement.serial === serial) return 'referenced';
      if (serial < placement.serial) return 'superseded';
    }
    return this.isWriters(epoch) ? 'waiting' : 'superseded';
  }

  private isWriters(epoch: number): boolean {
    return epoch === this.manifest.epoch && this.manifest.writer !== undefined;
  }
}

export interface FoundObject {
  readonly key: string;
  readonly sizeBytes: number;
  readonly standing: Standing;
}

/** Every object of the volume, with what it is there for. */
export async function* takeInventory(
  store: ObjectStore,
  volumeId: string,
  inventory: Inventory,
): AsyncGenerator<FoundObject> {
  for await (const { key, sizeBytes } of listAll(store, volumePrefix(volumeId))) {
    yield { key, sizeBytes, standing: inventory.add(key, sizeBytes) };
  }
}
