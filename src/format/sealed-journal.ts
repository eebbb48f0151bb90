import { assert } from '../base/assert.ts';
import { checksum, corrupt, viewOf } from './binary.ts';
import { entryBytes } from './entry.ts';
import {
  blockBytes,
  frameBlocks,
  segmentBlocks,
  segmentDataBytes,
  segmentEntries,
} from './geometry.ts';
import {
  encodeJournalHeader,
  type JournalHeader,
  journalHeaderBytes,
  journalHeaderOffset,
  journalRecordsOffset,
  recordBytes,
  recordOffset,
} from './journal-file.ts';
import { nonceOf, openMessage, sealMessage, type Subkey, tagBytes } from './sealing.ts';

/**
 * In the journal file of an encrypted volume, groups follow the header one after the other: a few
 * entries and their blocks, encrypted as one message. Which groups a file holds is told by their
 * checksums, as with records; that a whole one was changed, by its tag.
 */
export const groupHeaderBytes = 32;
export const groupHeaderOffset = {
  firstOrdinal: 0, // u32, of the first entry in its segment
  entryCount: 4, // u16, at least 1
  blockCount: 6, // u16
  firstIndex: 8, // u16, of the first block in its segment
  reserved: 10, // 2 bytes, zero
  checksum: 12, // u32, of bytes 0 to 11, the tag and what follows the header
  tag: 16, // 16 bytes
} as const;
/** Groups begin here. */
export const groupsOffset = journalRecordsOffset;
/** What is read again needs its whole group: one is not much longer than a frame, unless one write is. */
export const groupBlocksMaximum = frameBlocks;
export const groupEntriesMaximum = 64;
/** Room for a segment each entry of which is a group of its own. */
export const sealedJournalFileBytes =
  groupsOffset + segmentEntries * (groupHeaderBytes + entryBytes) + segmentDataBytes;

/** Consecutive entries of a segment, and their blocks, which are consecutive too. */
export interface GroupShape {
  readonly firstOrdinal: number;
  readonly entryCount: number;
  readonly firstIndex: number;
  readonly blockCount: number;
}

export interface OpenedGroup extends GroupShape {
  /** Of `entryBytes` each. */
  readonly entries: Uint8Array;
  readonly data: Uint8Array;
}

export function groupBytes({ entryCount, blockCount }: GroupShape): number {
  return groupHeaderBytes + entryCount * entryBytes + blockCount * blockBytes;
}

/** Seals and opens the groups of one use of a journal file. */
export class JournalSeal {
  private readonly subkey: Subkey;
  private readonly header: Uint8Array;
  private readonly seed: number;
  /** Of the last group that was sealed here: a nonce is used once. */
  private lastOrdinal = -1;

  constructor(header: JournalHeader, subkey: Subkey) {
    this.subkey = subkey;
    this.header = encodeJournalHeader(header).subarray(0, journalHeaderBytes);
    this.seed = viewOf(this.header).getUint32(journalHeaderOffset.sealChecksum, true);
  }

  /** Header and fields of the group: its tag vouches for them. */
  private associated(group: Uint8Array): Uint8Array {
    const bytes = new Uint8Array(journalHeaderBytes + groupHeaderOffset.checksum);
    bytes.set(this.header, 0);
    bytes.set(group.subarray(0, groupHeaderOffset.checksum), journalHeaderBytes);
    return bytes;
  }

  private sumOf(group: Uint8Array): number {
    const fields = checksum(group.subarray(0, groupHeaderOffset.checksum), this.seed);
    return checksum(group.subarray(groupHeaderOffset.tag), fields);
  }

  /** Writes a group of these entries and blocks to the start of `into`; returns its length. */
  seal(shape: GroupShape, entries: Uint8Array, data: Uint8Array, into: Uint8Array): number {
    assert(shape.firstOrdinal > this.lastOrdinal, 'no nonce of a journal file is used twice');
    this.lastOrdinal = shape.firstOrdinal;
    const group = into.subarray(0, groupBytes(shape));
    const view = viewOf(group);
    group.fill(0, 0, groupHeaderBytes);
    view.setUint32(groupHeaderOffset.firstOrdinal, shape.firstOrdinal, true);
    view.setUint16(groupHeaderOffset.entryCount, shape.entryCount, true);
    view.setUint16(groupHeaderOffset.blockCount, shape.blockCount, true);
    view.setUint16(groupHeaderOffset.firstIndex, shape.firstIndex, true);
    const nonce = nonceOf(shape.firstOrdinal);
    const { pieces, tag } = sealMessage(this.subkey, nonce, this.associated(group), [
      entries,
      data,
    ]);
    group.set(pieces[0] as Uint8Array, groupHeaderBytes);
    group.set(pieces[1] as Uint8Array, groupHeaderBytes + entries.byteLength);
    group.set(tag, groupHeaderOffset.tag);
    view.setUint32(groupHeaderOffset.checksum, this.sumOf(group), true);
    return group.byteLength;
  }

  /**
   * Opens the group at the start of `bytes` that goes on from these entries and blocks; `undefined`
   * when it is not whole: then nothing of it was made durable. `corrupt` when it is whole, and yet not
   * what was sealed: then somebody has changed it.
   */
  open(bytes: Uint8Array, firstOrdinal: number, firstIndex: number): OpenedGroup | undefined {
    const shape = this.shapeOf(bytes, firstOrdinal, firstIndex);
    if (shape === undefined) return undefined;
    const group = bytes.subarray(0, groupBytes(shape));
    if (viewOf(group).getUint32(groupHeaderOffset.checksum, true) !== this.sumOf(group))
      return undefined;
    const tag = group.subarray(groupHeaderOffset.tag, groupHeaderOffset.tag + tagBytes);
    const dataAt = groupHeaderBytes + shape.entryCount * entryBytes;
    const pieces = [group.subarray(groupHeaderBytes, dataAt), group.subarray(dataAt)];
    const nonce = nonceOf(firstOrdinal);
    const opened = openMessage(this.subkey, nonce, this.associated(group), { pieces, tag });
    if (opened === undefined) {
      throw corrupt(
        `entry ${firstOrdinal} of it fails its authentication: it was changed, or was not sealed with the volume's key`,
      );
    }
    return { ...shape, entries: opened[0] as Uint8Array, data: opened[1] as Uint8Array };
  }

  /** What a group says of itself, if that can be true. */
  private shapeOf(
    bytes: Uint8Array,
    firstOrdinal: number,
    firstIndex: number,
  ): GroupShape | undefined {
    if (bytes.byteLength < groupHeaderBytes) return undefined;
    const view = viewOf(bytes);
    const shape = {
      firstOrdinal: view.getUint32(groupHeaderOffset.firstOrdinal, true),
      entryCount: view.getUint16(groupHeaderOffset.entryCount, true),
      blockCount: view.getUint16(groupHeaderOffset.blockCount, true),
      firstIndex: view.getUint16(groupHeaderOffset.firstIndex, true),
    };
    const isNext = shape.firstOrdinal === firstOrdinal && shape.firstIndex === firstIndex;
    const isPossible =
      shape.entryCount > 0 &&
      firstOrdinal + shape.entryCount <= segmentEntries &&
      firstIndex + shape.blockCount <= segmentBlocks &&
      groupBytes(shape) <= bytes.byteLength &&
      view.getUint16(groupHeaderOffset.reserved, true) === 0;
    return isNext && isPossible ? shape : undefined;
  }
}

/** The unbroken beginning of a segment in a sealed journal file. */
export interface OpenedGroups {
  readonly entryCount: number;
  readonly blockCount: number;
  /** Records as memory has them: entry and ordinal. */
  readonly records: Uint8Array;
  /** Where each group begins in the file, and with which block; the last row is where all end. */
  readonly groups: readonly GroupPlace[];
}

export interface GroupPlace {
  readonly position: number;
  readonly firstOrdinal: number;
  readonly firstIndex: number;
}

/**
 * Opens groups one after the other up to the first that is not whole, or until there are
 * `maximumEntries`. `bytes` are what the file holds from its first group on; `take` is given the blocks.
 */
export function openGroups(
  seal: JournalSeal,
  bytes: Uint8Array,
  maximumEntries: number,
  take: (firstIndex: number, data: Uint8Array) => void,
): OpenedGroups {
  const records = new Uint8Array(maximumEntries * recordBytes);
  const view = viewOf(records);
  const groups: GroupPlace[] = [];
  let entryCount = 0;
  let blockCount = 0;
  let at = 0;
  while (entryCount < maximumEntries) {
    const opened = seal.open(bytes.subarray(at), entryCount, blockCount);
    if (opened === undefined || entryCount + opened.entryCount > maximumEntries) break;
    groups.push({
      position: groupsOffset + at,
      firstOrdinal: entryCount,
      firstIndex: blockCount,
    });
    for (let entry = 0; entry < opened.entryCount; entry += 1) {
      const record = (entryCount + entry) * recordBytes;
      records.set(opened.entries.subarray(entry * entryBytes, (entry + 1) * entryBytes), record);
      view.setUint32(record + recordOffset.ordinal, entryCount + entry, true);
    }
    take(blockCount, opened.data);
    entryCount += opened.entryCount;
    blockCount += opened.blockCount;
    at += groupBytes(opened);
  }
  groups.push({ position: groupsOffset + at, firstOrdinal: entryCount, firstIndex: blockCount });
  return { entryCount, blockCount, records: records.slice(0, entryCount * recordBytes), groups };
}
