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
import type { SerialPosition } from './names.ts';

/**
 * A placement object says of each segment that was moved which compacted object has what is left of
 * it. A segment that is not in it lies in its own object, or nothing of it is needed any more.
 */
export const placementHeaderBytes = 96;
export const placementHeaderOffset = {
  magic: 0, // 8 bytes
  version: 8, // u32
  serial: 12, // u32
  epoch: 16, // u32
  rowCount: 20, // u32
  volumeId: 24, // 16 bytes
  tableBytes: 40, // u64, as stored
  tableCodec: 48, // u8
  reserved1: 49, // 3 bytes, zero
  tableChecksum: 52, // u32, of the stored bytes
  reserved2: 56, // 36 bytes, zero
  checksum: 92, // u32, of bytes 0 to 91
} as const;

/** Columns of the table once unpacked, each of `rowCount` u32. */
export const placementColumns = ['segment', 'serial', 'epoch'] as const;
const rowBytes = 12;

const shape: HeaderShape = {
  what: 'placement object',
  magic: new TextEncoder().encode('EDPLAC\r\n'),
  version: 1,
  versionOffset: placementHeaderOffset.version,
  checksumOffset: placementHeaderOffset.checksum,
};

/** The rows of a placement, column by column, in order of the segments. */
export interface PlacementRows {
  readonly segments: Uint32Array;
  /** Of the compacted object that has what is left of the segment. */
  readonly serials: Uint32Array;
  readonly epochs: Uint32Array;
}

export function encodePlacement(
  volumeId: string,
  at: SerialPosition,
  rows: PlacementRows,
): Uint8Array {
  const count = rows.segments.length;
  const plain = new Uint8Array(count * rowBytes);
  const table = viewOf(plain);
  [rows.segments, rows.serials, rows.epochs].forEach((column, columnIndex) => {
    column.forEach((value, row) => table.setUint32((columnIndex * count + row) * 4, value, true));
  });
  const packed = compress(plain, 'zstd');
  const bytes = new Uint8Array(placementHeaderBytes + packed.bytes.byteLength);
  const view = viewOf(bytes);
  const field = placementHeaderOffset;
  beginHeader(bytes, shape);
  view.setUint32(field.serial, at.serial, true);
  view.setUint32(field.epoch, at.epoch, true);
  view.setUint32(field.rowCount, count, true);
  bytes.set(hexToBytes(volumeId), field.volumeId);
  writeUint64(view, field.tableBytes, packed.bytes.byteLength);
  view.setUint8(field.tableCodec, codecNumber[packed.codec]);
  view.setUint32(field.tableChecksum, checksum(packed.bytes), true);
  endHeader(bytes, shape);
  bytes.set(packed.bytes, placementHeaderBytes);
  return bytes;
}

export function decodePlacement(
  bytes: Uint8Array,
  volumeId: string,
  at: SerialPosition,
): PlacementRows {
  const field = placementHeaderOffset;
  requireHeader(bytes, shape);
  const view = viewOf(bytes);
  requireZero(bytes, field.reserved1, field.tableChecksum, 'placement header');
  requireZero(bytes, field.reserved2, field.checksum, 'placement header');
  const owner = bytesToHex(bytes.subarray(field.volumeId, field.volumeId + 16));
  const serial = view.getUint32(field.serial, true);
  const epoch = view.getUint32(field.epoch, true);
  if (owner !== volumeId || serial !== at.serial || epoch !== at.epoch)
    throw corrupt(`placement ${serial} of epoch ${epoch} of volume ${owner} in a wrong place`);
  const stored = bytes.subarray(placementHeaderBytes);
  if (stored.byteLength !== readUint64(view, field.tableBytes))
    throw corrupt('placement cut short');
  if (checksum(stored) !== view.getUint32(field.tableChecksum, true))
    throw corrupt('placement fails its checksum');
  const count = view.getUint32(field.rowCount, true);
  const codec = codecOf(view.getUint8(field.tableCodec));
  const table = viewOf(decompress(stored, codec, count * rowBytes));
  const column = (index: number): Uint32Array =>
    Uint32Array.from({ length: count }, (_, row) =>
      table.getUint32((index * count + row) * 4, true),
    );
  const rows = { segments: column(0), serials: column(1), epochs: column(2) };
  rows.segments.forEach((segment, row) => {
    if (segment <= (rows.segments[row - 1] ?? 0))
      throw corrupt('placement with segments out of order');
  });
  return rows;
}
