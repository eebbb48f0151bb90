import { breathe, type Clock } from '../base/clock.ts';
import { isStorageError, toStorageError } from '../base/errors.ts';
import type { ObjectStart, ObjectStore } from '../base/object-store.ts';
import { decodeEntries, entryKind } from '../format/entry.ts';
import { blockBytes, maximumVolumeBytes } from '../format/geometry.ts';
import { type LogPosition, segmentKey } from '../format/names.ts';
import {
  decodeFrame,
  decodeFrameTable,
  type FrameTable,
  frameSeed,
  frameTableReachBytes,
  headerOfSegment,
  maximumObjectBytes,
  type SegmentHeader,
} from '../format/segment-object.ts';
import { unpackBatch } from './object-frames.ts';
import { readEntryTable, tablesReachBytes } from './segment-tables.ts';

/** What was found of one segment. */
export interface SegmentCondition {
  readonly at: LogPosition;
  /** The table of `entryBytes` each; `undefined`: it cannot be had. */
  entries: Uint8Array | undefined;
  /** Blocks that a reader can find; 0 when the object or its tables cannot be read. */
  blockCount: number;
  readonly damagedFrames: number[];
  isMissing: boolean;
  /** What is wrong, each as the end of a sentence that names the object. */
  readonly wrong: string[];
  readBytes: number;
}

export interface SegmentCheck {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly volumeId: string;
}

/** Reads a segment's tables, with `readsData` all of it, and verifies what it read. */
export async function checkSegment(
  check: SegmentCheck,
  at: LogPosition,
  readsData: boolean,
): Promise<SegmentCondition> {
  const condition: SegmentCondition = {
    at,
    entries: undefined,
    blockCount: 0,
    damagedFrames: [],
    isMissing: false,
    wrong: [],
    readBytes: 0,
  };
  const key = segmentKey(check.volumeId, at);
  await attempt(condition, async () => {
    const reach = readsData ? maximumObjectBytes : tablesReachBytes;
    const start = await check.store.getStart(key, reach);
    condition.readBytes = start.bytes.byteLength;
    const header = headerOfSegment(start.bytes, check.volumeId, at);
    await attempt(condition, () => checkEntries(check.store, key, header, start, condition));
    await attempt(condition, () => checkFrames(check, at, header, start, condition, readsData));
  });
  return condition;
}

/** Takes note of damage; what is no damage, such as a store that is away, ends the check. */
export async function attempt(
  condition: Pick<SegmentCondition, 'isMissing' | 'wrong'>,
  action: () => Promise<void>,
): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (isStorageError(error, 'not-found')) {
      condition.isMissing = true;
      return;
    }
    if (!isStorageError(error, 'corrupt')) throw error;
    condition.wrong.push(error.message);
  }
}

async function checkEntries(
  store: ObjectStore,
  key: string,
  header: SegmentHeader,
  start: ObjectStart,
  condition: SegmentCondition,
): Promise<void> {
  const entries = await readEntryTable(store, key, header, start);
  let blocks = 0;
  for (const entry of decodeEntries(entries)) {
    // The volume may have been larger when this was written.
    if (entry.firstBlock + entry.count > maximumVolumeBytes / blockBytes) {
      condition.wrong.push('an entry reaches past the end of the largest volume');
      return;
    }
    if (entry.kind === entryKind.data) blocks += entry.count;
  }
  condition.entries = entries;
  if (blocks !== header.blockCount) {
    condition.wrong.push(`its entries are of ${blocks} blocks, its data of ${header.blockCount}`);
  }
}

async function checkFrames(
  check: SegmentCheck,
  at: LogPosition,
  header: SegmentHeader,
  start: ObjectStart,
  condition: SegmentCondition,
  readsData: boolean,
): Promise<void> {
  const { bytes, objectBytes } = start;
  if (header.objectBytes !== objectBytes) {
    condition.wrong.push(`it has ${objectBytes} bytes of ${header.objectBytes}`);
  }
  const table = decodeFrameTable(header, bytes.subarray(0, frameTableReachBytes));
  // A reader refuses an object of another length as a whole.
  if (header.objectBytes !== objectBytes) return;
  condition.blockCount = header.blockCount;
  if (!readsData) return;
  const seedOf = (frame: number): number => frameSeed(check.volumeId, at, frame);
  for (let frame = 0; frame < header.frameCount; frame += 1) {
    const wrong = damageOfFrame(table, frame, bytes, seedOf(frame));
    if (wrong !== undefined) {
      condition.damagedFrames.push(frame);
      condition.wrong.push(wrong);
    }
    if (frame % unpackBatch === unpackBatch - 1) await breathe(check.clock);
  }
}

/** What is wrong with a frame of an object that was read whole; `undefined` when nothing is. */
export function damageOfFrame(
  table: FrameTable,
  frame: number,
  object: Uint8Array,
  seed: number,
): string | undefined {
  const offset = table.offsets[frame] as number;
  const stored = object.subarray(offset, offset + (table.storedBytes[frame] as number));
  try {
    decodeFrame(table, frame, stored, seed);
    return undefined;
  } catch (error) {
    return toStorageError(error).message;
  }
}
