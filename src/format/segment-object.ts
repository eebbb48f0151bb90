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
import { type Codec, codecNumber, codecOf, decompress } from './compression.ts';
import { entryBytes } from './entry.ts';
import {
  blockBytes,
  frameBlocks,
  frameBytes,
  segmentBlocks,
  segmentDataBytes,
  segmentEntries,
  segmentFrames,
} from './geometry.ts';
import type { LogPosition } from './names.ts';

/**
 * A segment as an object: header, frame table, entry table, frames one after the other. The tables
 * come first, so that one ranged read of the start tells where every frame is.
 */
export const segmentHeaderBytes = 128;
export const frameRecordBytes = 12;

export const segmentHeaderOffset = {
  magic: 0, // 8 bytes
  version: 8, // u32
  segment: 12, // u32
  epoch: 16, // u32
  blockCount: 20, // u32, blocks of data
  entryCount: 24, // u32
  frameCount: 28, // u32
  volumeId: 32, // 16 bytes
  objectBytes: 48, // u64, length of the whole object
  sealedMs: 56, // u64, wall clock, milliseconds since 1970
  entryTableBytes: 64, // u32, as stored
  entryTableCodec: 68, // u8
  reserved1: 69, // 3 bytes, zero
  entryTableChecksum: 72, // u32, of the stored bytes
  frameTableChecksum: 76, // u32
  openedMs: 80, // u64, what the times of entries count from, since 1970; 0: they are not known
  reserved2: 88, // 36 bytes, zero: encryption
  checksum: 124, // u32, of bytes 0 to 123
} as const;

export const frameRecordOffset = {
  storedBytes: 0, // u32
  checksum: 4, // u32, of the stored bytes, seeded with `frameSeed`
  codec: 8, // u8
  reserved: 9, // 3 bytes, zero
} as const;

const shape: HeaderShape = {
  what: 'segment object',
  magic: new TextEncoder().encode('EDSEGM\r\n'),
  version: 1,
  versionOffset: segmentHeaderOffset.version,
  checksumOffset: segmentHeaderOffset.checksum,
};

export interface SegmentHeader extends LogPosition {
  readonly volumeId: string;
  readonly blockCount: number;
  readonly entryCount: number;
  readonly frameCount: number;
  readonly objectBytes: number;
  readonly sealedMs: number;
  /** What the times of its entries count from; 0: they are not known. */
  readonly openedMs: number;
  readonly entryTableBytes: number;
  readonly entryTableCodec: Codec;
  readonly entryTableChecksum: number;
  readonly frameTableChecksum: number;
}

/** Where the frames of an object are, column by column. */
export interface FrameTable {
  readonly blockCount: number;
  readonly offsets: Uint32Array;
  readonly storedBytes: Uint32Array;
  readonly checksums: Uint32Array;
  readonly codecs: Uint8Array;
}

export interface FrameRecord {
  readonly storedBytes: number;
  readonly checksum: number;
  readonly codec: Codec;
}

/** Length of the longest object that a segment can become. */
export const maximumObjectBytes =
  segmentHeaderBytes +
  segmentFrames * frameRecordBytes +
  segmentEntries * entryBytes +
  segmentDataBytes;

/** Bytes from an object's start that surely hold the header and the frame table. */
export const frameTableReachBytes = segmentHeaderBytes + segmentFrames * frameRecordBytes;

export function encodeSegmentHeader(header: SegmentHeader): Uint8Array {
  const bytes = new Uint8Array(segmentHeaderBytes);
  const view = viewOf(bytes);
  const at = segmentHeaderOffset;
  beginHeader(bytes, shape);
  view.setUint32(at.segment, header.segment, true);
  view.setUint32(at.epoch, header.epoch, true);
  view.setUint32(at.blockCount, header.blockCount, true);
  view.setUint32(at.entryCount, header.entryCount, true);
  view.setUint32(at.frameCount, header.frameCount, true);
  bytes.set(hexToBytes(header.volumeId), at.volumeId);
  writeUint64(view, at.objectBytes, header.objectBytes);
  writeUint64(view, at.sealedMs, header.sealedMs);
  view.setUint32(at.entryTableBytes, header.entryTableBytes, true);
  view.setUint8(at.entryTableCodec, codecNumber[header.entryTableCodec]);
  view.setUint32(at.entryTableChecksum, header.entryTableChecksum, true);
  view.setUint32(at.frameTableChecksum, header.frameTableChecksum, true);
  writeUint64(view, at.openedMs, header.openedMs);
  endHeader(bytes, shape);
  return bytes;
}

export function decodeSegmentHeader(bytes: Uint8Array): SegmentHeader {
  const at = segmentHeaderOffset;
  requireHeader(bytes, shape);
  const view = viewOf(bytes);
  requireZero(bytes, at.reserved1, at.entryTableChecksum, 'segment header');
  requireZero(bytes, at.reserved2, at.checksum, 'segment header');
  const header: SegmentHeader = {
    segment: view.getUint32(at.segment, true),
    epoch: view.getUint32(at.epoch, true),
    blockCount: view.getUint32(at.blockCount, true),
    entryCount: view.getUint32(at.entryCount, true),
    frameCount: view.getUint32(at.frameCount, true),
    volumeId: bytesToHex(bytes.subarray(at.volumeId, at.volumeId + 16)),
    objectBytes: readUint64(view, at.objectBytes),
    sealedMs: readUint64(view, at.sealedMs),
    openedMs: readUint64(view, at.openedMs),
    entryTableBytes: view.getUint32(at.entryTableBytes, true),
    entryTableCodec: codecOf(view.getUint8(at.entryTableCodec)),
    entryTableChecksum: view.getUint32(at.entryTableChecksum, true),
    frameTableChecksum: view.getUint32(at.frameTableChecksum, true),
  };
  if (
    header.blockCount > segmentBlocks ||
    header.entryCount > segmentEntries ||
    header.frameCount !== Math.ceil(header.blockCount / frameBlocks)
  ) {
    throw corrupt('segment header with impossible counts');
  }
  return header;
}

/** The header of a segment's object; refuses one that is whole but another's. */
export function headerOfSegment(
  object: Uint8Array,
  volumeId: string,
  at: LogPosition,
): SegmentHeader {
  const header = decodeSegmentHeader(object);
  if (header.volumeId === volumeId && header.segment === at.segment && header.epoch === at.epoch) {
    return header;
  }
  throw corrupt(
    `the object of segment ${at.segment} epoch ${at.epoch} holds segment ${header.segment} epoch ${header.epoch} of volume ${header.volumeId}`,
  );
}

/** What the checksum of every frame starts from: a frame of another place does not pass. */
export function frameSeed(volumeId: string, at: LogPosition, frame: number): number {
  const bytes = new Uint8Array(28);
  const view = viewOf(bytes);
  bytes.set(hexToBytes(volumeId), 0);
  view.setUint32(16, at.segment, true);
  view.setUint32(20, at.epoch, true);
  view.setUint32(24, frame, true);
  return checksum(bytes);
}

export function encodeFrameTable(frames: readonly FrameRecord[]): Uint8Array {
  const bytes = new Uint8Array(frames.length * frameRecordBytes);
  const view = viewOf(bytes);
  frames.forEach((frame, index) => {
    const at = index * frameRecordBytes;
    view.setUint32(at + frameRecordOffset.storedBytes, frame.storedBytes, true);
    view.setUint32(at + frameRecordOffset.checksum, frame.checksum, true);
    view.setUint8(at + frameRecordOffset.codec, codecNumber[frame.codec]);
  });
  return bytes;
}

/** The frame table from the start of an object of at least `frameTableReachBytes`, or all of it. */
export function decodeFrameTable(header: SegmentHeader, start: Uint8Array): FrameTable {
  const count = header.frameCount;
  const tableEnd = segmentHeaderBytes + count * frameRecordBytes;
  if (start.byteLength < tableEnd) throw corrupt('segment object ends inside its frame table');
  const table = start.subarray(segmentHeaderBytes, tableEnd);
  if (checksum(table) !== header.frameTableChecksum)
    throw corrupt('frame table fails its checksum');
  const firstOffset = tableEnd + header.entryTableBytes;
  return decodeFrameRecords(table, header.blockCount, firstOffset, header.objectBytes);
}

/** The rows of a frame table whose checksum has passed; the frames follow from `firstOffset` on. */
export function decodeFrameRecords(
  table: Uint8Array,
  blockCount: number,
  firstOffset: number,
  objectBytes: number,
): FrameTable {
  const count = table.byteLength / frameRecordBytes;
  const view = viewOf(table);
  const frames: FrameTable = {
    blockCount,
    offsets: new Uint32Array(count),
    storedBytes: new Uint32Array(count),
    checksums: new Uint32Array(count),
    codecs: new Uint8Array(count),
  };
  let offset = firstOffset;
  for (let frame = 0; frame < count; frame += 1) {
    const at = frame * frameRecordBytes;
    const storedBytes = view.getUint32(at + frameRecordOffset.storedBytes, true);
    frames.offsets[frame] = offset;
    frames.storedBytes[frame] = storedBytes;
    frames.checksums[frame] = view.getUint32(at + frameRecordOffset.checksum, true);
    frames.codecs[frame] = view.getUint8(at + frameRecordOffset.codec);
    requireZero(table, at + frameRecordOffset.reserved, at + frameRecordBytes, 'frame record');
    if (storedBytes > frameBytes) throw corrupt(`frame ${frame} is longer than its plain bytes`);
    offset += storedBytes;
  }
  if (offset !== objectBytes) throw corrupt('frames do not end where the object does');
  return frames;
}

export function entryTableRange(header: SegmentHeader): { offset: number; lengthBytes: number } {
  return {
    offset: segmentHeaderBytes + header.frameCount * frameRecordBytes,
    lengthBytes: header.entryTableBytes,
  };
}

/** The entry table (`entryBytes` an entry) from its stored bytes. */
export function decodeEntryTable(header: SegmentHeader, stored: Uint8Array): Uint8Array {
  if (checksum(stored) !== header.entryTableChecksum)
    throw corrupt('entry table fails its checksum');
  return new Uint8Array(decompress(stored, header.entryTableCodec, header.entryCount * entryBytes));
}

/** Plain bytes of frame `frame`: the last one of an object may be shorter. */
export function plainFrameBytes(blockCount: number, frame: number): number {
  return Math.min(frameBlocks, blockCount - frame * frameBlocks) * blockBytes;
}

/** Verifies and unpacks the stored bytes of one frame; the result is as that of `decompress`. */
export function decodeFrame(
  table: FrameTable,
  frame: number,
  stored: Uint8Array,
  seed: number,
): Uint8Array {
  if (checksum(stored, seed) !== table.checksums[frame]) {
    throw corrupt(`frame ${frame} fails its checksum`);
  }
  const plainBytes = plainFrameBytes(table.blockCount, frame);
  return decompress(stored, codecOf(table.codecs[frame] ?? 0), plainBytes);
}
