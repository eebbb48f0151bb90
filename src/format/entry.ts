import { corrupt, readUint64, requireZero, viewOf, writeUint64 } from './binary.ts';
import { segmentBlocks } from './geometry.ts';

/**
 * An entry says what one write did. Kinds:
 * `data`: blocks `firstIndex …` of the segment are now blocks `firstBlock …` of the volume;
 * `hole`: the range reads as zeroes and takes no space (trim);
 * `zeroed`: the range reads as zeroes and counts as allocated (write-zeroes without a hole).
 */
export const entryBytes = 24;

export const entryOffset = {
  kind: 0, // u8
  reserved1: 1, // u8, zero
  firstIndex: 2, // u16, zero unless data
  reserved2: 4, // u32, zero
  firstBlock: 8, // u64
  count: 16, // u64, blocks
} as const;

export const entryKind = { data: 1, hole: 2, zeroed: 3 } as const;
export type EntryKind = (typeof entryKind)[keyof typeof entryKind];

export interface Entry {
  readonly kind: EntryKind;
  readonly firstBlock: number;
  /** Blocks. */
  readonly count: number;
  /** First block of the segment's data; 0 unless `data`. */
  readonly firstIndex: number;
}

export function encodeEntry(view: DataView, at: number, entry: Entry): void {
  view.setUint32(at, entry.kind | (entry.firstIndex << 16), true);
  view.setUint32(at + entryOffset.reserved2, 0, true);
  writeUint64(view, at + entryOffset.firstBlock, entry.firstBlock);
  writeUint64(view, at + entryOffset.count, entry.count);
}

export function decodeEntry(bytes: Uint8Array, at: number, view = viewOf(bytes)): Entry {
  const kind = view.getUint8(at);
  const firstIndex = view.getUint16(at + entryOffset.firstIndex, true);
  const firstBlock = readUint64(view, at + entryOffset.firstBlock);
  const count = readUint64(view, at + entryOffset.count);
  if (kind !== entryKind.data && kind !== entryKind.hole && kind !== entryKind.zeroed) {
    throw corrupt(`entry of unknown kind ${kind}`);
  }
  requireZero(bytes, at + entryOffset.reserved1, at + entryOffset.firstIndex, 'entry');
  requireZero(bytes, at + entryOffset.reserved2, at + entryOffset.firstBlock, 'entry');
  if (count === 0) throw corrupt('entry of no blocks');
  if (kind === entryKind.data ? firstIndex + count > segmentBlocks : firstIndex !== 0) {
    throw corrupt(`entry with blocks ${firstIndex}+${count} outside its segment`);
  }
  return { kind, firstBlock, count, firstIndex };
}

/** All entries of a table of `entryBytes` each. */
export function decodeEntries(table: Uint8Array): Entry[] {
  if (table.byteLength % entryBytes !== 0) throw corrupt('entry table of a broken length');
  const entries: Entry[] = [];
  const view = viewOf(table);
  for (let at = 0; at < table.byteLength; at += entryBytes) {
    entries.push(decodeEntry(table, at, view));
  }
  return entries;
}
