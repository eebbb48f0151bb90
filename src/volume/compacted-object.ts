import type { ObjectStore } from '../base/object-store.ts';
import { corrupt } from '../format/binary.ts';
import {
  compactedFrameSeed,
  compactedTablesReachBytes,
  decodeCompactedFrames,
  decodeCompactedHeader,
  decodeSources,
  type Source,
} from '../format/compacted-object.ts';
import { compactedKey, type SerialPosition } from '../format/names.ts';
import type { FrameTable } from '../format/segment-object.ts';
import { aboutObject } from './object-errors.ts';
import type { FramedObject } from './object-frames.ts';

/** What a compacted object says of its data. */
export interface CompactedTables {
  readonly frames: FrameTable;
  readonly sources: readonly Source[];
}

/** Reads the tables of a compacted object; `corrupt` names the object. */
export async function readCompactedTables(
  store: ObjectStore,
  volumeId: string,
  at: SerialPosition,
): Promise<CompactedTables> {
  const key = compactedKey(volumeId, at);
  try {
    const start = await store.getStart(key, compactedTablesReachBytes);
    return decodeTables(start.bytes, start.objectBytes, volumeId, at);
  } catch (error) {
    throw aboutObject(error, key);
  }
}

/** The tables from the start of an object that is `objectBytes` long, and must be whole. */
export function decodeTables(
  start: Uint8Array,
  objectBytes: number,
  volumeId: string,
  at: SerialPosition,
): CompactedTables {
  const header = decodeCompactedHeader(start, volumeId, at);
  if (header.objectBytes !== objectBytes)
    throw corrupt(`it has ${objectBytes} bytes of ${header.objectBytes}`);
  return { frames: decodeCompactedFrames(header, start), sources: decodeSources(header, start) };
}

/** Blocks of one segment that lie one after the other in a compacted object. */
export interface MovedRun {
  /** Block of the segment's data. */
  readonly firstIndex: number;
  /** Block of the object's data. */
  readonly place: number;
  readonly count: number;
}

/** Where the blocks of segments are in one compacted object; 8 bytes a run. */
export class CompactedObject implements FramedObject {
  readonly key: string;
  readonly table: FrameTable;
  readonly number: number;
  private readonly volumeId: string;
  private readonly at: SerialPosition;
  private readonly segments: Uint32Array;
  /** Where the runs of each segment begin, and where those of the last end. */
  private readonly firstRuns: Uint32Array;
  private readonly indices: Uint16Array;
  private readonly counts: Uint16Array;
  private readonly places: Uint16Array;

  constructor(volumeId: string, at: SerialPosition, number: number, tables: CompactedTables) {
    const { frames, sources } = tables;
    this.volumeId = volumeId;
    this.at = at;
    this.number = number;
    this.key = compactedKey(volumeId, at);
    this.table = frames;
    const runs = sources.flatMap((source) => source.runs);
    this.segments = Uint32Array.from(sources, ({ segment }) => segment);
    this.firstRuns = new Uint32Array(sources.length + 1);
    sources.forEach((source, row) => {
      this.firstRuns[row + 1] = (this.firstRuns[row] as number) + source.runs.length;
    });
    this.indices = Uint16Array.from(runs, ({ firstIndex }) => firstIndex);
    this.counts = Uint16Array.from(runs, ({ count }) => count);
    this.places = new Uint16Array(runs.length);
    let place = 0;
    runs.forEach(({ count }, run) => {
      this.places[run] = place;
      place += count;
    });
  }

  seedOf(frame: number): number {
    return compactedFrameSeed(this.volumeId, this.at, frame);
  }

  /** Which of the blocks `firstIndex …` of a segment are here, and where; in order. */
  find(segment: number, firstIndex: number, count: number): MovedRun[] {
    const row = this.segments.indexOf(segment);
    if (row < 0) throw corrupt(`it has nothing of segment ${segment}`);
    const end = firstIndex + count;
    const found: MovedRun[] = [];
    const lastRun = this.firstRuns[row + 1] as number;
    for (let run = this.firstRuns[row] as number; run < lastRun; run += 1) {
      const runIndex = this.indices[run] as number;
      const from = Math.max(firstIndex, runIndex);
      const stop = Math.min(end, runIndex + (this.counts[run] as number));
      if (from >= stop) continue;
      const place = (this.places[run] as number) + from - runIndex;
      found.push({ firstIndex: from, place, count: stop - from });
    }
    return found;
  }
}
