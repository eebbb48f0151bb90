import { unfilled } from '../base/memory-pool.ts';
import { corrupt, viewOf } from '../format/binary.ts';
import { entryBytes, entryKind, entryOffset } from '../format/entry.ts';
import { blockBytes } from '../format/geometry.ts';
import { recordBytes } from '../format/journal-file.ts';
import {
  groupBlocksMaximum,
  groupBytes,
  groupEntriesMaximum,
  groupHeaderBytes,
  type GroupPlace,
  type GroupShape,
  groupsOffset,
  type JournalSeal,
} from '../format/sealed-journal.ts';

/** Consecutive groups of a journal file, and where they lie in it. */
export interface GroupRange {
  readonly first: number;
  readonly last: number;
  readonly position: number;
  readonly lengthBytes: number;
}

/** How the journal file of an encrypted volume has a segment: which group is where. */
export class SealedGroups {
  private readonly sealer: JournalSeal;
  private readonly positions: number[] = [];
  private readonly firstOrdinals: number[] = [];
  private readonly firstIndices: number[] = [];
  /** Where the next group goes. */
  endPosition = groupsOffset;

  constructor(sealer: JournalSeal) {
    this.sealer = sealer;
  }

  /** What was found in the file: the last place is where the groups end. */
  found(places: readonly GroupPlace[]): void {
    for (const place of places.slice(0, -1)) this.note(place);
    this.endPosition = places.at(-1)?.position ?? groupsOffset;
  }

  private note({ position, firstOrdinal, firstIndex }: GroupPlace): void {
    this.positions.push(position);
    this.firstOrdinals.push(firstOrdinal);
    this.firstIndices.push(firstIndex);
  }

  /**
   * Seals entries `from` to `to - 1` of `records`, whose blocks are `data`, the first of them block
   * `firstIndex`: as few groups as may be, for each costs a call of the cipher.
   */
  seal(
    records: Uint8Array,
    from: number,
    to: number,
    firstIndex: number,
    data: Uint8Array,
  ): { readonly bytes: Uint8Array; readonly position: number } {
    const position = this.endPosition;
    const headers = (to - from) * (groupHeaderBytes + entryBytes);
    const bytes = unfilled(headers + data.byteLength);
    let used = 0;
    for (const shape of shapesOf(records, from, to, firstIndex)) {
      const { firstOrdinal, entryCount, blockCount } = shape;
      const entries = new Uint8Array(entryCount * entryBytes);
      for (let entry = 0; entry < entryCount; entry += 1) {
        const at = (firstOrdinal + entry) * recordBytes;
        entries.set(records.subarray(at, at + entryBytes), entry * entryBytes);
      }
      const start = (shape.firstIndex - firstIndex) * blockBytes;
      const blocks = data.subarray(start, start + blockCount * blockBytes);
      this.note({ position: position + used, firstOrdinal, firstIndex: shape.firstIndex });
      used += this.sealer.seal(shape, entries, blocks, bytes.subarray(used));
    }
    this.endPosition = position + used;
    return { bytes: bytes.subarray(0, used), position };
  }

  /** The groups that hold blocks `firstIndex` to `end - 1`. */
  rangeOf(firstIndex: number, end: number): GroupRange {
    const first = this.groupOf(firstIndex);
    const last = this.groupOf(end - 1);
    const position = this.positions[first] as number;
    const stop = this.positions[last + 1] ?? this.endPosition;
    return { first, last, position, lengthBytes: stop - position };
  }

  /** The last group that begins with this block or one before it: those without blocks come before. */
  private groupOf(index: number): number {
    let low = 0;
    let high = this.firstIndices.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.firstIndices[middle] as number) <= index) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /**
   * Opens what was read of a range. Gives the data of its groups, whose first block is `firstIndex`;
   * `corrupt` when the file has not what was written.
   */
  open({ first, last }: GroupRange, bytes: Uint8Array): { firstIndex: number; data: Uint8Array } {
    const firstIndex = this.firstIndices[first] as number;
    const data = new Uint8Array(bytes.byteLength);
    let used = 0;
    let at = 0;
    for (let group = first; group <= last; group += 1) {
      const ordinal = this.firstOrdinals[group] as number;
      const index = this.firstIndices[group] as number;
      const opened = this.sealer.open(bytes.subarray(at), ordinal, index);
      if (opened === undefined) throw corrupt(`entry ${ordinal} of it fails its checksum`);
      data.set(opened.data, used);
      used += opened.data.byteLength;
      at += groupBytes(opened);
    }
    return { firstIndex, data: data.subarray(0, used) };
  }
}

/** Which entries go together: up to a frame of blocks, unless one entry alone has more. */
function* shapesOf(
  records: Uint8Array,
  from: number,
  to: number,
  firstIndex: number,
): Generator<GroupShape> {
  const view = viewOf(records);
  const blocksOf = (ordinal: number): number => {
    const at = ordinal * recordBytes;
    const isData = view.getUint8(at) === entryKind.data;
    return isData ? view.getUint32(at + entryOffset.count, true) : 0;
  };
  let index = firstIndex;
  for (let ordinal = from; ordinal < to; ) {
    let entryCount = 1;
    let blockCount = blocksOf(ordinal);
    while (ordinal + entryCount < to && entryCount < groupEntriesMaximum) {
      const more = blocksOf(ordinal + entryCount);
      if (blockCount + more > groupBlocksMaximum) break;
      blockCount += more;
      entryCount += 1;
    }
    yield { firstOrdinal: ordinal, entryCount, firstIndex: index, blockCount };
    ordinal += entryCount;
    index += blockCount;
  }
}
