import type { ObjectStart, ObjectStore } from '../base/object-store.ts';
import { decodeEntries } from '../format/entry.ts';
import { type LogPosition, segmentKey } from '../format/names.ts';
import {
  decodeEntryTable,
  entryTableRange,
  headerOfSegment,
  type SegmentHeader,
} from '../format/segment-object.ts';
import { aboutObject } from './object-errors.ts';

/** Bytes from the start of a segment object that hold its tables in almost every case. */
export const tablesReachBytes = 64 * 1024;

/** What a segment object says of its data. */
export interface SegmentTables {
  readonly header: SegmentHeader;
  /** The entries, verified, as the table of `entryBytes` each. */
  readonly entries: Uint8Array;
}

/** Reads the header and the entries of a segment; `corrupt` names the object. */
export async function readSegmentTables(
  store: ObjectStore,
  volumeId: string,
  at: LogPosition,
): Promise<SegmentTables> {
  const key = segmentKey(volumeId, at);
  try {
    const start = await store.getStart(key, tablesReachBytes);
    const header = headerOfSegment(start.bytes, volumeId, at);
    return { header, entries: await readEntryTable(store, key, header, start) };
  } catch (error) {
    throw aboutObject(error, key);
  }
}

/** The entries of the object that begins with `start`, fetching what of them is not in it. */
export async function readEntryTable(
  store: ObjectStore,
  key: string,
  header: SegmentHeader,
  start: ObjectStart,
): Promise<Uint8Array> {
  const range = entryTableRange(header);
  const end = range.offset + range.lengthBytes;
  const stored =
    end <= start.bytes.byteLength
      ? start.bytes.subarray(range.offset, end)
      : await store.get(key, range);
  const entries = decodeEntryTable(header, stored);
  decodeEntries(entries);
  return entries;
}
