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
import { frameBlocks, segmentBlocks } from './geometry.ts';
import type { SerialPosition } from './names.ts';
import { decodeFrameRecords, frameRecordBytes, type FrameTable } from './segment-object.ts';

/**
 * What is left of several segments, in one object: header, frame table, source table, frames. The
 * source table says which blocks of which segments are here, and which blocks of the volume they
 * were written for; in its order they lie one after the other.
 */
export const compactedHeaderBytes = 128;
export const compactedHeaderOffset = {
  magic: 0, // 8 bytes
  version: 8, // u32
  serial: 12, // u32
  epoch: 16, // u32
  blockCount: 20, // u32, blocks of data
  frameCount: 24, // u32
  sourceCount: 28, // u32, segments of which blocks are here
  volumeId: 32, // 16 bytes
  objectBytes: 48, // u64, length of the whole object
  runCount: 56, // u32
  sourceTableBytes: 60, // u32, as stored
  sourceTableCodec: 64, // u8
  reserved1: 65, // 3 bytes, zero
  sourceTableChecksum: 68, // u32, of the stored bytes
  frameTableChecksum: 72, // u32
  reserved2: 76, // 48 bytes, zero: encryption
  checksum: 124, // u32, of bytes 0 to 123
} as const;

/** Columns of the source table: a row for each segment, then a row for each run. */
export const sourceColumns = ['segment', 'epoch', 'runCount'] as const; // u32 each
export const sourceRunColumns = ['firstBlock', 'firstIndex', 'count'] as const; // u64, u16, u16
const sourceRowBytes = 12;
const runRowBytes = 12;

const magic = new TextEncoder().encode('EDCOMP\r\n');
const shape: HeaderShape = {
  what: 'compacted object',
  magic,
  version: 1,
  versionOffset: compactedHeaderOffset.version,
  checksumOffset: compactedHeaderOffset.checksum,
};

/** Consecutive blocks of a segment that are here, written for as many consecutive ones of the volume. */
export interface SourceRun {
  readonly firstBlock: number;
  readonly firstIndex: number;
  readonly count: number;
}

/** A segment of which blocks are here. */
export interface Source {
  readonly segment: number;
  /** Under which it was stored. */
  readonly epoch: number;
  /** In the order of the segment. */
  readonly runs: readonly SourceRun[];
}

export interface CompactedHeader extends SerialPosition {
  readonly volumeId: string;
  readonly blockCount: number;
  readonly frameCount: number;
  readonly sourceCount: number;
  readonly objectBytes: number;
  readonly runCount: number;
  readonly sourceTableBytes: number;
  readonly sourceTableCodec: Codec;
  readonly sourceTableChecksum: number;
  readonly frameTableChecksum: number;
}

/** Bytes from an object's start that surely hold the header and both tables. */
export const compactedTablesReachBytes =
  compactedHeaderBytes +
  Math.ceil(segmentBlocks / frameBlocks) * frameRecordBytes +
  segmentBlocks * (sourceRowBytes + runRowBytes);

export function encodeCompactedHeader(header: CompactedHeader): Uint8Array {
  const bytes = new Uint8Array(compactedHeaderBytes);
  const view = viewOf(bytes);
  const at = compactedHeaderOffset;
  beginHeader(bytes, shape);
  view.setUint32(at.serial, header.serial, true);
  view.setUint32(at.epoch, header.epoch, true);
  view.setUint32(at.blockCount, header.blockCount, true);
  view.setUint32(at.frameCount, header.frameCount, true);
  view.setUint32(at.sourceCount, header.sourceCount, true);
  bytes.set(hexToBytes(header.volumeId), at.volumeId);
  writeUint64(view, at.objectBytes, header.objectBytes);
  view.setUint32(at.runCount, header.runCount, true);
  view.setUint32(at.sourceTableBytes, header.sourceTableBytes, true);
  view.setUint8(at.sourceTableCodec, codecNumber[header.sourceTableCodec]);
  view.setUint32(at.sourceTableChecksum, header.sourceTableChecksum, true);
  view.setUint32(at.frameTableChecksum, header.frameTableChecksum, true);
  endHeader(bytes, shape);
  return bytes;
}

/** The header of the object at `at`; refuses one that is whole but another's. */
export function decodeCompactedHeader(
  bytes: Uint8Array,
  volumeId: string,
  at: SerialPosition,
): CompactedHeader {
  const field = compactedHeaderOffset;
  requireHeader(bytes, shape);
  const view = viewOf(bytes);
  requireZero(bytes, field.reserved1, field.sourceTableChecksum, 'compacted header');
  requireZero(bytes, field.reserved2, field.checksum, 'compacted header');
  const header: CompactedHeader = {
    serial: view.getUint32(field.serial, true),
    epoch: view.getUint32(field.epoch, true),
    blockCount: view.getUint32(field.blockCount, true),
    frameCount: view.getUint32(field.frameCount, true),
    sourceCount: view.getUint32(field.sourceCount, true),
    volumeId: bytesToHex(bytes.subarray(field.volumeId, field.volumeId + 16)),
    objectBytes: readUint64(view, field.objectBytes),
    runCount: view.getUint32(field.runCount, true),
    sourceTableBytes: view.getUint32(field.sourceTableBytes, true),
    sourceTableCodec: codecOf(view.getUint8(field.sourceTableCodec)),
    sourceTableChecksum: view.getUint32(field.sourceTableChecksum, true),
    frameTableChecksum: view.getUint32(field.frameTableChecksum, true),
  };
  const { serial, epoch, blockCount, runCount, sourceCount } = header;
  if (header.volumeId !== volumeId || serial !== at.serial || epoch !== at.epoch) {
    throw corrupt(
      `compacted object ${serial} of epoch ${epoch} of volume ${header.volumeId} in a wrong place`,
    );
  }
  const isPlausible =
    blockCount <= segmentBlocks &&
    runCount <= blockCount &&
    sourceCount <= runCount &&
    header.frameCount === Math.ceil(blockCount / frameBlocks);
  if (!isPlausible) throw corrupt('compacted header with impossible counts');
  return header;
}

/** What the checksum of every frame starts from; that of no segment's frame is computed so. */
export function compactedFrameSeed(volumeId: string, at: SerialPosition, frame: number): number {
  const bytes = new Uint8Array(28);
  const view = viewOf(bytes);
  bytes.set(hexToBytes(volumeId), 0);
  view.setUint32(16, at.serial, true);
  view.setUint32(20, at.epoch, true);
  view.setUint32(24, frame, true);
  return checksum(bytes, checksum(magic));
}

/** The frame table, from the start of an object. */
export function decodeCompactedFrames(header: CompactedHeader, start: Uint8Array): FrameTable {
  const { blockCount, frameCount, frameTableChecksum, sourceTableBytes, objectBytes } = header;
  const tableEnd = compactedHeaderBytes + frameCount * frameRecordBytes;
  if (start.byteLength < tableEnd) throw corrupt('compacted object ends inside its frame table');
  const table = start.subarray(compactedHeaderBytes, tableEnd);
  if (checksum(table) !== frameTableChecksum) throw corrupt('frame table fails its checksum');
  return decodeFrameRecords(table, blockCount, tableEnd + sourceTableBytes, objectBytes);
}

export function encodeSources(sources: readonly Source[]): Uint8Array {
  const runs = sources.flatMap((source) => source.runs);
  const bytes = new Uint8Array(sources.length * sourceRowBytes + runs.length * runRowBytes);
  const view = viewOf(bytes);
  sources.forEach((source, row) => {
    view.setUint32(row * 4, source.segment, true);
    view.setUint32((sources.length + row) * 4, source.epoch, true);
    view.setUint32((2 * sources.length + row) * 4, source.runs.length, true);
  });
  const runsAt = sources.length * sourceRowBytes;
  const indicesAt = runsAt + runs.length * 8;
  runs.forEach((run, row) => {
    writeUint64(view, runsAt + row * 8, run.firstBlock);
    view.setUint16(indicesAt + row * 2, run.firstIndex, true);
    view.setUint16(indicesAt + (runs.length + row) * 2, run.count, true);
  });
  return bytes;
}

/** The source table, from the start of an object that holds all of it. */
export function decodeSources(header: CompactedHeader, start: Uint8Array): Source[] {
  const { sourceCount, runCount } = header;
  const from = compactedHeaderBytes + header.frameCount * frameRecordBytes;
  const stored = start.subarray(from, from + header.sourceTableBytes);
  if (stored.byteLength < header.sourceTableBytes)
    throw corrupt('compacted object ends inside its source table');
  if (checksum(stored) !== header.sourceTableChecksum)
    throw corrupt('source table fails its checksum');
  const plainBytes = sourceCount * sourceRowBytes + runCount * runRowBytes;
  const view = viewOf(decompress(stored, header.sourceTableCodec, plainBytes));
  const runs = decodeRuns(view, sourceCount * sourceRowBytes, runCount);
  const sources: Source[] = [];
  const segments = new Set<number>();
  let run = 0;
  let blockCount = 0;
  for (let row = 0; row < sourceCount; row += 1) {
    const segment = view.getUint32(row * 4, true);
    const epoch = view.getUint32((sourceCount + row) * 4, true);
    const count = view.getUint32((2 * sourceCount + row) * 4, true);
    if (count === 0 || segments.has(segment))
      throw corrupt('source table that says a segment twice, or nothing of it');
    segments.add(segment);
    const own = runs.slice(run, run + count);
    blockCount += requireRuns(own);
    sources.push({ segment, epoch, runs: own });
    run += count;
  }
  if (run !== runCount || blockCount !== header.blockCount)
    throw corrupt('source table of other blocks than there are');
  return sources;
}

function decodeRuns(view: DataView, runsAt: number, runCount: number): SourceRun[] {
  const indicesAt = runsAt + runCount * 8;
  return Array.from({ length: runCount }, (_, row) => ({
    firstBlock: readUint64(view, runsAt + row * 8),
    firstIndex: view.getUint16(indicesAt + row * 2, true),
    count: view.getUint16(indicesAt + (runCount + row) * 2, true),
  }));
}

/** Refuses runs that are not in the order of their segment; returns how many blocks they are. */
function requireRuns(runs: readonly SourceRun[]): number {
  let end = 0;
  let blocks = 0;
  for (const { firstIndex, count } of runs) {
    if (count === 0 || firstIndex < end || firstIndex + count > segmentBlocks)
      throw corrupt('source table with runs out of order');
    end = firstIndex + count;
    blocks += count;
  }
  return blocks;
}
