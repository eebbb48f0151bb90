import { listAll, type ObjectStore } from '../base/object-store.ts';
import { epochOfSegment, lastClosedSegment, type Manifest } from '../format/manifest.ts';
import { type LogPosition, parseVolumeKey, volumePrefix } from '../format/names.ts';
import { type ObjectCount, samePosition, type Standing } from './check-report.ts';

/** The last segment that epoch `epoch` may have written: for one that is over, where it ended. */
function endOfEpoch(manifest: Manifest, epoch: number): number {
  if (epoch > manifest.closedThrough) return Number.POSITIVE_INFINITY;
  return manifest.tenures.findLast((tenure) => tenure.epoch <= epoch)?.lastSegment ?? 0;
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
  private readonly isReferencedPages: (at: LogPosition, part: number) => boolean;

  constructor(manifest: Manifest, isReferencedPages: (at: LogPosition, part: number) => boolean) {
    this.manifest = manifest;
    this.isReferencedPages = isReferencedPages;
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
    const standing = this.standingOf(key);
    this.counts[standing].objects += 1;
    this.counts[standing].bytes += sizeBytes;
    return standing;
  }

  /** Says that an object which could not be explained has been explained since. */
  explain(sizeBytes: number): void {
    this.counts.unknown.objects -= 1;
    this.counts.unknown.bytes -= sizeBytes;
    this.counts.waiting.objects += 1;
    this.counts.waiting.bytes += sizeBytes;
  }

  private standingOf(key: string): Standing {
    const found = parseVolumeKey(this.manifest.id, key);
    if (found === undefined) return 'unknown';
    if (found.kind === 'manifest') return 'referenced';
    // Nothing makes these yet.
    if (found.kind === 'compacted' || found.kind === 'placement') return 'unknown';
    const { at } = found;
    if (at.segment === 0 || at.epoch === 0 || at.epoch > this.manifest.epoch) return 'unknown';
    if (found.kind === 'segment') return this.standingOfSegment(at);
    const isReferenced =
      found.kind === 'pages'
        ? this.isReferencedPages(at, found.part)
        : samePosition(this.manifest.head, at);
    return isReferenced ? 'referenced' : this.standingOfCheckpoint(at);
  }

  private standingOfSegment(at: LogPosition): Standing {
    if (at.segment <= this.lastKnown && at.epoch === this.epochOf(at.segment)) return 'referenced';
    if (at.segment > endOfEpoch(this.manifest, at.epoch)) return 'orphaned';
    if (at.segment <= this.lastSegment) return 'unknown';
    if (at.segment > this.lastSegment + 1) return 'waiting';
    this.openTail.push(at);
    return 'referenced';
  }

  private standingOfCheckpoint(at: LogPosition): Standing {
    const { manifest } = this;
    if (at.segment > endOfEpoch(manifest, at.epoch)) return 'orphaned';
    if (at.segment <= this.headSegment) return 'superseded';
    const isWriters = at.epoch === manifest.epoch && manifest.writer !== undefined;
    return isWriters ? 'waiting' : 'orphaned';
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
