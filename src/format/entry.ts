import { corrupt, readUint64, requireZero, viewOf, writeUint64 } from './binary.ts';
import { segmentBlocks } from './geometry.ts';

/**
 * An entry says what one write did. Kinds:
 * `data`: blocks `firstIndex …` of the segment are now blocks `firstBlock …` of the volume;
 * `hole`: the range reads as zeroes and takes no space (trim);
 * `zeroed`: the range reads as zeroes and counts as allocated (write-zeroes without a hole);
 * `flushed`: changes nothing; a flush of what comes before was answered at that time.
 */
export const entryBytes = 24;

export const entryOffset = {
  kind: 0, // u8
  reserved1: 1, // u8, zero
  firstIndex: 2, // u16, zero unless data
  timeMs: 4, // u32, since the segment was opened
  firstBlock: 8, // u64
  count: 16, // u64, blocks; zero for flushed
} as const;

export const entryKind = { data: 1, hole: 2, zeroed: 3, flushed: 4 } as const;
export type EntryKind = (typeof entryKind)[keyof typeof entryKind];
/** More than that after its segment was opened, an entry's time says this. */
export const maximumEntryTimeMs = 0xffff_ffff;

export interface Entry {
  readonly kind: EntryKind;
  readonly firstBlock: number;
  /** Blocks. */
  readonly count: number;
  /** First block of the segment's data; 0 unless `data`. */
  readonly firstIndex: number;
  /**
   * Since the segment was opened: not before the write was asked for, and not after it was answered.
   * Never goes back within a segment.
   */
  readonly timeMs: number;
}

/** The time may be put in later, by `stampEntry`. */
export type NewEntry = Omit<Entry, 'timeMs'> & { readonly timeMs?: number };

export function encodeEntry(view: DataView, at: number, entry: NewEntry): void {
  view.setUint32(at, entry.kind | (entry.firstIndex << 16), true);
  stampEntry(view, at, entry.timeMs ?? 0);
  writeUint64(view, at + entryOffset.firstBlock, entry.firstBlock);
  writeUint64(view, at + entryOffset.count, entry.count);
}

export function stampEntry(view: DataView, at: number, timeMs: number): void {
  view.setUint32(at + entryOffset.timeMs, timeMs, true);
}

/** The time in the entry at `at`, since its segment was opened. */
export function entryTimeMs(view: DataView, at: number): number {
  return view.getUint32(at + entryOffset.timeMs, true);
}

export function decodeEntry(bytes: Uint8Array, at: number, view = viewOf(bytes)): Entry {
  const kind = view.getUint8(at);
  const firstIndex = view.getUint16(at + entryOffset.firstIndex, true);
  const firstBlock = readUint64(view, at + entryOffset.firstBlock);
  const count = readUint64(view, at + entryOffset.count);
  const { data, hole, zeroed, flushed } = entryKind;
  if (kind !== data && kind !== hole && kind !== zeroed && kind !== flushed) {
    throw corrupt(`entry of unknown kind ${kind}`);
  }
  requireZero(bytes, at + entryOffset.reserved1, at + entryOffset.firstIndex, 'entry');
  if (kind === flushed) requireZero(bytes, at + entryOffset.firstBlock, at + entryBytes, 'entry');
  else if (count === 0) throw corrupt('entry of no blocks');
  if (kind === entryKind.data ? firstIndex + count > segmentBlocks : firstIndex !== 0) {
    throw corrupt(`entry with blocks ${firstIndex}+${count} outside its segment`);
  }
  return { kind, firstBlock, count, firstIndex, timeMs: entryTimeMs(view, at) };
}

/** What a table of `entryBytes` each says was changed, in order. */
export function decodeEntries(table: Uint8Array): Entry[] {
  return decodeAllEntries(table).filter(({ kind }) => kind !== entryKind.flushed);
}

/** All entries of a table: those that say when a flush was answered, too. */
export function decodeAllEntries(table: Uint8Array): Entry[] {
  if (table.byteLength % entryBytes !== 0) throw corrupt('entry table of a broken length');
  const entries: Entry[] = [];
  const view = viewOf(table);
  for (let at = 0; at < table.byteLength; at += entryBytes) {
    entries.push(decodeEntry(table, at, view));
  }
  return entries;
}
