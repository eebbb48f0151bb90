import type { ObjectStore } from '../base/object-store.ts';
import { placementKey, type SerialPosition } from '../format/names.ts';
import { decodePlacement, type PlacementRows } from '../format/placement-object.ts';
import { aboutObject } from './object-errors.ts';

/** Which compacted object has what is left of each segment that was moved; 12 bytes a segment. */
export class PlacementTable {
  static readonly empty = new PlacementTable({
    segments: new Uint32Array(0),
    serials: new Uint32Array(0),
    epochs: new Uint32Array(0),
  });
  readonly rows: PlacementRows;
  /** The compacted objects that any segment is in, once somebody asks. */
  private objects: Set<number> | undefined;

  private constructor(rows: PlacementRows) {
    this.rows = rows;
  }

  /** Whether anything is in this compacted object. */
  names(at: SerialPosition): boolean {
    const { serials, epochs } = this.rows;
    if (this.objects === undefined) {
      const objects = new Set<number>();
      serials.forEach((serial, row) => objects.add(objectNumber(serial, epochs[row] as number)));
      this.objects = objects;
    }
    return this.objects.has(objectNumber(at.serial, at.epoch));
  }

  /** The placement that a manifest names. */
  static async load(
    store: ObjectStore,
    volumeId: string,
    at: SerialPosition | undefined,
  ): Promise<PlacementTable> {
    if (at === undefined) return PlacementTable.empty;
    const key = placementKey(volumeId, at);
    try {
      return new PlacementTable(decodePlacement(await store.get(key), volumeId, at));
    } catch (error) {
      throw aboutObject(error, key);
    }
  }

  get size(): number {
    return this.rows.segments.length;
  }

  /** The compacted object that has what is left of `segment`; `undefined` when it was not moved. */
  find(segment: number): SerialPosition | undefined {
    const { segments, serials, epochs } = this.rows;
    let low = 0;
    let high = segments.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((segments[middle] as number) < segment) low = middle + 1;
      else high = middle;
    }
    if (segments[low] !== segment) return undefined;
    return { serial: serials[low] as number, epoch: epochs[low] as number };
  }

  /** The placement after segments were moved; `undefined`: nothing of the segment is left. */
  with(changes: ReadonlyMap<number, SerialPosition | undefined>): PlacementTable {
    const moved = [...changes].sort(([a], [b]) => a - b);
    const { segments, serials, epochs } = this.rows;
    const made = {
      segments: new Uint32Array(segments.length + moved.length),
      serials: new Uint32Array(segments.length + moved.length),
      epochs: new Uint32Array(segments.length + moved.length),
    };
    let size = 0;
    const add = (segment: number, serial: number, epoch: number): void => {
      made.segments[size] = segment;
      made.serials[size] = serial;
      made.epochs[size] = epoch;
      size += 1;
    };
    let next = 0;
    const addMovedBefore = (end: number): void => {
      for (
        let change = moved[next];
        change !== undefined && change[0] < end;
        change = moved[next]
      ) {
        const [segment, at] = change;
        if (at !== undefined) add(segment, at.serial, at.epoch);
        next += 1;
      }
    };
    segments.forEach((segment, row) => {
      addMovedBefore(segment);
      if (!changes.has(segment)) add(segment, serials[row] as number, epochs[row] as number);
    });
    addMovedBefore(Number.POSITIVE_INFINITY);
    return new PlacementTable({
      segments: made.segments.slice(0, size),
      serials: made.serials.slice(0, size),
      epochs: made.epochs.slice(0, size),
    });
  }
}

/** One number for an object: a volume has fewer than two million epochs. */
function objectNumber(serial: number, epoch: number): number {
  return epoch * 2 ** 32 + serial;
}
