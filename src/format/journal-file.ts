import {
  beginHeader,
  bytesToHex,
  checksum,
  corrupt,
  endHeader,
  type HeaderShape,
  hexToBytes,
  readUint64,
  requireHeader,
  requireZero,
  viewOf,
  writeUint64,
} from './binary.ts';
import { entryBytes } from './entry.ts';
import { blockBytes, segmentDataBytes, segmentEntries } from './geometry.ts';
import { type CipherName, cipherNumber, cipherOf, saltBytes } from './sealing.ts';

/**
 * A journal file holds one segment: a header, a region of records (one for each entry), a region of
 * data in which block `index` of the segment is at `journalDataOffset + index * 4096`. Files are made
 * in full once and used again for later segments, so every checksum covers whose it is.
 */
export const recordBytes = 32;
export const journalRecordsOffset = 4096;
export const journalDataOffset = journalRecordsOffset + segmentEntries * recordBytes;
export const journalFileBytes = journalDataOffset + segmentDataBytes;

export const journalHeaderOffset = {
  magic: 0, // 8 bytes
  version: 8, // u32
  segment: 12, // u32
  epoch: 16, // u32
  previousEntries: 20, // u32
  volumeId: 24, // 16 bytes
  checksum: 40, // u32, of bytes 0 to 39
  openedMs: 44, // u64, as in the segment object
  openedChecksum: 52, // u32, of bytes 44 to 51, seeded with the checksum; zero with openedMs
  generation: 56, // u32, of the data key; zero, and all that follows, unless it is sealed
  cipher: 60, // u8
  reserved1: 61, // 3 bytes, zero
  salt: 64, // 32 bytes, random
  sealChecksum: 96, // u32, of bytes 56 to 95, seeded with the checksum
  reserved2: 100, // to 511, zero
} as const;

export const recordOffset = {
  entry: 0, // 24 bytes
  ordinal: 24, // u32, place of the entry in its segment, from 0
  checksum: 28, // u32
} as const;

const shape: HeaderShape = {
  what: 'journal file',
  magic: new TextEncoder().encode('EDJRNL\r\n'),
  version: 1,
  versionOffset: journalHeaderOffset.version,
  checksumOffset: journalHeaderOffset.checksum,
};
/** The part of the header that is written and read; one sector, so that it is never torn. */
export const journalHeaderUsedBytes = 512;

/** The part of the header that says all; what is sealed in the file is bound to it. */
export const journalHeaderBytes = journalHeaderOffset.reserved2;

/** Where the mark is, in a sector of its own. */
export const journalMarkPosition = 512;
export const journalMarkBytes = 8;
export const journalMarkOffset = {
  syncedEntries: 0, // u32
  checksum: 4, // u32, of bytes 0 to 3
} as const;

export interface JournalHeader {
  readonly volumeId: string;
  readonly epoch: number;
  readonly segment: number;
  /**
   * How many entries the segment before this one has: recovery goes on from there to here only if
   * it found that many, for a write may survive only with all those before it.
   */
  readonly previousEntries: number;
  /** What the times of its entries count from; 0 where they are not known. */
  readonly openedMs: number;
  /** With what this use of the file is sealed; absent of a volume that is not encrypted. */
  readonly sealing?: JournalSealing;
}

export interface JournalSealing {
  readonly cipher: CipherName;
  readonly generation: number;
  readonly salt: Uint8Array;
}

export function encodeJournalHeader(header: JournalHeader): Uint8Array {
  const bytes = new Uint8Array(journalHeaderUsedBytes);
  const view = viewOf(bytes);
  beginHeader(bytes, shape);
  view.setUint32(journalHeaderOffset.segment, header.segment, true);
  view.setUint32(journalHeaderOffset.epoch, header.epoch, true);
  view.setUint32(journalHeaderOffset.previousEntries, header.previousEntries, true);
  bytes.set(hexToBytes(header.volumeId), journalHeaderOffset.volumeId);
  endHeader(bytes, shape);
  if (header.openedMs > 0) {
    writeUint64(view, journalHeaderOffset.openedMs, header.openedMs);
    view.setUint32(journalHeaderOffset.openedChecksum, openedChecksum(bytes), true);
  }
  if (header.sealing !== undefined) {
    const { cipher, generation, salt } = header.sealing;
    view.setUint32(journalHeaderOffset.generation, generation, true);
    view.setUint8(journalHeaderOffset.cipher, cipherNumber[cipher]);
    bytes.set(salt, journalHeaderOffset.salt);
    view.setUint32(journalHeaderOffset.sealChecksum, sealChecksum(bytes), true);
  }
  return bytes;
}

function sealChecksum(bytes: Uint8Array): number {
  const { checksum: sumAt, generation, sealChecksum: end } = journalHeaderOffset;
  return checksum(bytes.subarray(generation, end), viewOf(bytes).getUint32(sumAt, true));
}

function openedChecksum(bytes: Uint8Array): number {
  const { checksum: sumAt, openedMs, openedChecksum: end } = journalHeaderOffset;
  return checksum(bytes.subarray(openedMs, end), viewOf(bytes).getUint32(sumAt, true));
}

/**
 * The header, or `undefined` when the file holds none. A sector is never torn: what is neither a header
 * nor zeroes was a header once, and is `corrupt`.
 */
export function decodeJournalHeader(bytes: Uint8Array): JournalHeader | undefined {
  if (bytes.every((byte) => byte === 0)) return undefined;
  requireHeader(bytes, shape);
  const view = viewOf(bytes);
  const openedMs = readUint64(view, journalHeaderOffset.openedMs);
  const openedSum = view.getUint32(journalHeaderOffset.openedChecksum, true);
  if (openedSum !== (openedMs === 0 ? 0 : openedChecksum(bytes))) {
    throw corrupt('journal file whose time fails its checksum');
  }
  requireZero(bytes, journalHeaderOffset.reserved1, journalHeaderOffset.salt, 'journal header');
  requireZero(bytes, journalHeaderOffset.reserved2, journalHeaderUsedBytes, 'journal header');
  return { ...fieldsOf(bytes, openedMs), ...sealingIn(bytes) };
}

function sealingIn(bytes: Uint8Array): Pick<JournalHeader, 'sealing'> {
  const { generation: from, cipher, salt, sealChecksum: sumAt } = journalHeaderOffset;
  if (bytes.subarray(from, sumAt + 4).every((byte) => byte === 0)) return {};
  const view = viewOf(bytes);
  if (view.getUint32(sumAt, true) !== sealChecksum(bytes))
    throw corrupt('journal file whose salt fails its checksum');
  return {
    sealing: {
      cipher: cipherOf(view.getUint8(cipher)),
      generation: view.getUint32(from, true),
      salt: bytes.slice(salt, salt + saltBytes),
    },
  };
}

/**
 * What a damaged header said, the time aside, when one changed bit explains the damage: enough to know
 * whether the file still mattered.
 */
export function guessJournalHeader(damaged: Uint8Array): JournalHeader | undefined {
  const bytes = damaged.slice();
  const sumAt = journalHeaderOffset.checksum;
  const isWhole = (): boolean =>
    viewOf(bytes).getUint32(sumAt, true) === checksum(bytes.subarray(0, sumAt));
  if (isWhole()) return fieldsOf(bytes, 0);
  for (let bit = 0; bit < (sumAt + 4) * 8; bit += 1) {
    const at = bit >> 3;
    const found = bytes[at] ?? 0;
    bytes[at] = found ^ (1 << (bit & 7));
    if (isWhole()) return fieldsOf(bytes, 0);
    bytes[at] = found;
  }
  return undefined;
}

function fieldsOf(bytes: Uint8Array, openedMs: number): JournalHeader {
  const view = viewOf(bytes);
  return {
    volumeId: bytesToHex(
      bytes.subarray(journalHeaderOffset.volumeId, journalHeaderOffset.volumeId + 16),
    ),
    segment: view.getUint32(journalHeaderOffset.segment, true),
    epoch: view.getUint32(journalHeaderOffset.epoch, true),
    previousEntries: view.getUint32(journalHeaderOffset.previousEntries, true),
    openedMs,
  };
}

/** What every record checksum of a segment starts from: the checksum of whose segment it is. */
export function recordSeed(header: JournalHeader): number {
  return checksum(encodeJournalHeader(header).subarray(0, journalHeaderOffset.checksum));
}

/** Says that the first `syncedEntries` entries, and all segments before, have been made durable. */
export function encodeJournalMark(syncedEntries: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(journalMarkBytes);
  const view = viewOf(bytes);
  view.setUint32(journalMarkOffset.syncedEntries, syncedEntries, true);
  const sum = checksum(bytes.subarray(0, journalMarkOffset.checksum), seed);
  view.setUint32(journalMarkOffset.checksum, sum, true);
  return bytes;
}

/** How many entries the mark says are durable; 0 when there is none for this use of the file. */
export function decodeJournalMark(bytes: Uint8Array, seed: number): number {
  const view = viewOf(bytes);
  const sum = checksum(bytes.subarray(0, journalMarkOffset.checksum), seed);
  if (view.getUint32(journalMarkOffset.checksum, true) !== sum) return 0;
  return view.getUint32(journalMarkOffset.syncedEntries, true);
}

/**
 * Completes the record at `at`, whose entry is there already. The checksum covers the entry, its
 * ordinal and its data, the latter as the little-endian checksums of its blocks, one u32 each, so
 * that a block can be verified alone and nothing is read twice.
 */
export function sealRecord(
  records: Uint8Array,
  view: DataView,
  at: number,
  ordinal: number,
  seed: number,
  blockChecksums: Uint8Array,
): void {
  view.setUint32(at + recordOffset.ordinal, ordinal, true);
  view.setUint32(
    at + recordOffset.checksum,
    recordChecksum(records, at, seed, blockChecksums),
    true,
  );
}

export function recordChecksum(
  records: Uint8Array,
  at: number,
  seed: number,
  blockChecksums: Uint8Array,
): number {
  const own = checksum(records.subarray(at, at + recordOffset.checksum), seed);
  return blockChecksums.byteLength === 0 ? own : checksum(blockChecksums, own);
}

/** The entries of `count` records, as a table of `entryBytes` each. */
export function entryTableOf(records: Uint8Array, count: number): Uint8Array {
  const table = new Uint8Array(count * entryBytes);
  for (let ordinal = 0; ordinal < count; ordinal += 1) {
    const at = ordinal * recordBytes;
    table.set(records.subarray(at, at + entryBytes), ordinal * entryBytes);
  }
  return table;
}

export function journalBlockPosition(index: number): number {
  return journalDataOffset + index * blockBytes;
}
