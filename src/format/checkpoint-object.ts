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
import { codecNumber, codecOf, compress, decompress } from './compression.ts';
import type { CheckpointPosition } from './names.ts';

/**
 * A checkpoint object is the page table of the map as of the end of one segment: for each map page
 * that is not one hole, the object that holds it and where. Pages lie packed in objects of their own.
 */
export const checkpointHeaderBytes = 96;
export const checkpointHeaderOffset = {
  magic: 0, // 8 bytes
  version: 8, // u32
  segment: 12, // u32
  epoch: 16, // u32
  pageCount: 20, // u32, rows of the table
  volumeId: 24, // 16 bytes
  tableBytes: 40, // u64, as stored
  tableCodec: 48, // u8
  reserved1: 49, // 3 bytes, zero
  tableChecksum: 52, // u32, of the stored bytes
  placementBytes: 56, // u64, zero: no segment has been moved
  variant: 64, // u32
  timeMs: 68, // u64, of the last entry that is in it, since 1970; 0: not known
  reserved2: 76, // 16 bytes, zero
  checksum: 92, // u32, of bytes 0 to 91
} as const;

/** Columns of the table once unpacked, each of `pageCount` numbers. */
export const pageRowBytes = 32;
export const pageColumns = [
  'pageIndex', // u32
  'segment', // u32: of the checkpoint that wrote the page
  'epoch', // u32: likewise
  'part', // u32: which of that checkpoint's page objects
  'offset', // u32: in that object
  'storedBytes', // u32
  'checksum', // u32, of the stored bytes
  'liveBlocks', // u32, blocks of the page that are in a segment
] as const;

const shape: HeaderShape = {
  what: 'checkpoint object',
  magic: new TextEncoder().encode('EDCHKP\r\n'),
  version: 1,
  versionOffset: checkpointHeaderOffset.version,
  checksumOffset: checkpointHeaderOffset.checksum,
};

/** Where one stored page is. */
export interface PageReference {
  readonly pageIndex: number;
  readonly segment: number;
  readonly epoch: number;
  readonly part: number;
  readonly offset: number;
  readonly storedBytes: number;
  readonly checksum: number;
  readonly liveBlocks: number;
}

/** `timeMs`: when the last that is in it was written; 0 when it is the state of no moment of the log. */
export function encodeCheckpoint(
  volumeId: string,
  at: CheckpointPosition,
  pages: readonly PageReference[],
  timeMs = 0,
): Uint8Array {
  const plain = new Uint8Array(pages.length * pageRowBytes);
  const table = viewOf(plain);
  pageColumns.forEach((column, columnIndex) => {
    const columnAt = columnIndex * pages.length * 4;
    pages.forEach((page, row) => table.setUint32(columnAt + row * 4, page[column], true));
  });
  const packed = compress(plain, 'zstd');
  const bytes = new Uint8Array(checkpointHeaderBytes + packed.bytes.byteLength);
  const view = viewOf(bytes);
  const field = checkpointHeaderOffset;
  beginHeader(bytes, shape);
  view.setUint32(field.segment, at.segment, true);
  view.setUint32(field.epoch, at.epoch, true);
  view.setUint32(field.pageCount, pages.length, true);
  bytes.set(hexToBytes(volumeId), field.volumeId);
  writeUint64(view, field.tableBytes, packed.bytes.byteLength);
  view.setUint8(field.tableCodec, codecNumber[packed.codec]);
  view.setUint32(field.tableChecksum, checksum(packed.bytes), true);
  view.setUint32(field.variant, at.variant, true);
  writeUint64(view, field.timeMs, timeMs);
  endHeader(bytes, shape);
  bytes.set(packed.bytes, checkpointHeaderBytes);
  return bytes;
}

/** When the last that is in a checkpoint was written; `bytes` begin with its header. */
export function checkpointTimeMs(
  bytes: Uint8Array,
  volumeId: string,
  at: CheckpointPosition,
): number {
  requireCheckpointHeader(bytes, volumeId, at);
  return readUint64(viewOf(bytes), checkpointHeaderOffset.timeMs);
}

export function decodeCheckpoint(
  bytes: Uint8Array,
  volumeId: string,
  at: CheckpointPosition,
): PageReference[] {
  const field = checkpointHeaderOffset;
  requireCheckpointHeader(bytes, volumeId, at);
  const view = viewOf(bytes);
  const stored = bytes.subarray(checkpointHeaderBytes);
  if (stored.byteLength !== readUint64(view, field.tableBytes))
    throw corrupt('page table cut short');
  if (checksum(stored) !== view.getUint32(field.tableChecksum, true)) {
    throw corrupt('page table fails its checksum');
  }
  const count = view.getUint32(field.pageCount, true);
  const codec = codecOf(view.getUint8(field.tableCodec));
  return decodeRows(decompress(stored, codec, count * pageRowBytes), count);
}

function requireCheckpointHeader(
  bytes: Uint8Array,
  volumeId: string,
  at: CheckpointPosition,
): void {
  const field = checkpointHeaderOffset;
  requireHeader(bytes, shape);
  const view = viewOf(bytes);
  requireZero(bytes, field.reserved1, field.tableChecksum, 'checkpoint header');
  requireZero(bytes, field.placementBytes, field.variant, 'checkpoint header');
  requireZero(bytes, field.reserved2, field.checksum, 'checkpoint header');
  const owner = bytesToHex(bytes.subarray(field.volumeId, field.volumeId + 16));
  const segment = view.getUint32(field.segment, true);
  const epoch = view.getUint32(field.epoch, true);
  const variant = view.getUint32(field.variant, true);
  const isHere = segment === at.segment && epoch === at.epoch && variant === at.variant;
  if (owner !== volumeId || !isHere) {
    const found = `segment ${segment} epoch ${epoch} variant ${variant} of volume ${owner}`;
    throw corrupt(`checkpoint of ${found} in a wrong place`);
  }
}

function decodeRows(plain: Uint8Array, count: number): PageReference[] {
  const view = viewOf(plain);
  const cell = (column: number, row: number): number =>
    view.getUint32((column * count + row) * 4, true);
  const pages: PageReference[] = [];
  let previous = -1;
  for (let row = 0; row < count; row += 1) {
    const pageIndex = cell(0, row);
    if (pageIndex <= previous) throw corrupt('page table with pages out of order');
    previous = pageIndex;
    pages.push({
      pageIndex,
      segment: cell(1, row),
      epoch: cell(2, row),
      part: cell(3, row),
      offset: cell(4, row),
      storedBytes: cell(5, row),
      checksum: cell(6, row),
      liveBlocks: cell(7, row),
    });
  }
  return pages;
}
