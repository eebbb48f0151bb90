import { toStorageError } from '../base/errors.ts';
import type { LocalFile } from '../base/local-disk.ts';
import { checksum, corrupt, viewOf } from '../format/binary.ts';
import { decodeEntry, entryKind, entryOffset } from '../format/entry.ts';
import { blockBytes, segmentBlocks, segmentDataBytes, segmentEntries } from '../format/geometry.ts';
import {
  decodeJournalHeader,
  decodeJournalMark,
  guessJournalHeader,
  type JournalHeader,
  type JournalSealing,
  journalBlockPosition,
  journalHeaderUsedBytes,
  journalMarkBytes,
  journalMarkPosition,
  journalRecordsOffset,
  recordBytes,
  recordChecksum,
  recordOffset,
  recordSeed,
} from '../format/journal-file.ts';
import {
  type GroupPlace,
  groupsOffset,
  JournalSeal,
  openGroups,
  sealedJournalFileBytes,
} from '../format/sealed-journal.ts';
import type { Subkey } from '../format/sealing.ts';

/** The unbroken beginning of a segment that verified. */
export interface VerifiedRecords {
  readonly entryCount: number;
  readonly blockCount: number;
  readonly blockChecksums: Uint32Array;
}

/**
 * Verifies records one after the other, each with its data, and stops at the first that fails: it
 * and all after it were never made durable, or belong to an earlier use of the file.
 */
export function verifyRecords(
  header: JournalHeader,
  records: Uint8Array,
  maximumCount: number,
  data: Uint8Array,
): VerifiedRecords {
  const seed = recordSeed(header);
  const view = viewOf(records);
  const blockChecksums = new Uint32Array(segmentBlocks);
  const sums = new Uint8Array(blockChecksums.buffer);
  let blockCount = 0;
  let ordinal = 0;
  for (; ordinal < maximumCount; ordinal += 1) {
    const at = ordinal * recordBytes;
    if (view.getUint32(at + recordOffset.ordinal, true) !== ordinal) break;
    const kind = view.getUint8(at);
    if (kind !== entryKind.data) {
      if (!passes(records, view, at, seed, new Uint8Array(0))) break;
      continue;
    }
    const count = view.getUint32(at + entryOffset.count, true);
    const firstIndex = view.getUint16(at + entryOffset.firstIndex, true);
    // A stale record may say anything: only what can be true is looked at further.
    if (firstIndex !== blockCount || firstIndex + count > data.byteLength / blockBytes) break;
    for (let index = firstIndex; index < firstIndex + count; index += 1) {
      const block = data.subarray(index * blockBytes, (index + 1) * blockBytes);
      blockChecksums[index] = checksum(block);
    }
    const own = sums.subarray(firstIndex * 4, (firstIndex + count) * 4);
    if (!passes(records, view, at, seed, own)) break;
    blockCount += count;
  }
  return { entryCount: ordinal, blockCount, blockChecksums };
}

function passes(
  records: Uint8Array,
  view: DataView,
  at: number,
  seed: number,
  blockChecksums: Uint8Array,
): boolean {
  const expected = view.getUint32(at + recordOffset.checksum, true);
  if (recordChecksum(records, at, seed, blockChecksums) !== expected) return false;
  decodeEntry(records, at, view);
  return true;
}

/** A segment found in a journal file. */
export interface ScannedSegment extends VerifiedRecords {
  readonly header: JournalHeader;
  readonly records: Uint8Array;
  /** Where it lies in the file, of an encrypted volume; then there are no checksums of blocks. */
  readonly sealed?: { readonly seal: JournalSeal; readonly groups: readonly GroupPlace[] };
}

/** The key of one use of a journal file; none of a volume that is not encrypted. */
export type JournalKeyOf = ((sealing: JournalSealing) => Subkey) | undefined;

/** Whose segment a journal file holds, and how much of it was noted to be durable. */
export interface JournalStart {
  readonly header: JournalHeader;
  readonly syncedEntries: number;
}

/** A file whose header the disk has changed: how, and what it was as far as that can be known. */
export interface DamagedStart {
  readonly damage: string;
  readonly header: JournalHeader | undefined;
}

export async function readJournalStart(
  file: LocalFile,
): Promise<JournalStart | DamagedStart | undefined> {
  const start = new Uint8Array(journalMarkPosition + journalMarkBytes);
  if ((await file.sizeBytes()) < start.byteLength) return undefined;
  await file.read(start, 0);
  const sector = start.subarray(0, journalHeaderUsedBytes);
  let header: JournalHeader | undefined;
  try {
    header = decodeJournalHeader(sector);
  } catch (error) {
    return { damage: toStorageError(error).message, header: guessJournalHeader(sector) };
  }
  if (header === undefined) return undefined;
  const mark = start.subarray(journalMarkPosition);
  return { header, syncedEntries: decodeJournalMark(mark, recordSeed(header)) };
}

/**
 * Reads the segment that a journal file holds, as far as it is whole. `corrupt` when it is not as
 * encrypted as its volume, or somebody without its key has changed it.
 */
export async function scanJournalFile(
  file: LocalFile,
  header: JournalHeader,
  keyOf: JournalKeyOf,
): Promise<ScannedSegment> {
  const { sealing } = header;
  if ((sealing === undefined) !== (keyOf === undefined)) {
    const is = sealing === undefined ? 'it is not encrypted' : 'it is encrypted';
    throw corrupt(`${is}, and its volume is otherwise`);
  }
  if (sealing !== undefined && keyOf !== undefined)
    return scanSealed(file, header, new JournalSeal(header, keyOf(sealing)));
  const records = new Uint8Array(segmentEntries * recordBytes);
  const data = new Uint8Array(segmentDataBytes);
  await file.read(records, journalRecordsOffset);
  await file.read(data, journalBlockPosition(0));
  const verified = verifyRecords(header, records, segmentEntries, data);
  return { ...verified, header, records: records.slice(0, verified.entryCount * recordBytes) };
}

async function scanSealed(
  file: LocalFile,
  header: JournalHeader,
  seal: JournalSeal,
): Promise<ScannedSegment> {
  const bytes = new Uint8Array(sealedJournalFileBytes - groupsOffset);
  await file.read(bytes, groupsOffset);
  const found = openGroups(seal, bytes, segmentEntries, () => undefined);
  const { entryCount, blockCount, records, groups } = found;
  const blockChecksums = new Uint32Array(0);
  return { header, records, entryCount, blockCount, blockChecksums, sealed: { seal, groups } };
}
