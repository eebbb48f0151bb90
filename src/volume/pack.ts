import type { LocalDisk } from '../base/local-disk.ts';
import { checksum, corrupt } from '../format/binary.ts';
import { type Codec, compress, looksRandom } from '../format/compression.ts';
import { decodeEntries, type Entry, entryKind } from '../format/entry.ts';
import { blockBytes, frameBytes, segmentDataBytes } from '../format/geometry.ts';
import {
  entryTableOf,
  type JournalHeader,
  journalBlockPosition,
  journalRecordsOffset,
  recordBytes,
} from '../format/journal-file.ts';
import type { LogPosition } from '../format/names.ts';
import {
  decodeFrameTable,
  encodeFrameTable,
  encodeSegmentHeader,
  type FrameRecord,
  frameRecordBytes,
  type FrameTable,
  frameSeed,
  plainFrameBytes,
  type SegmentHeader,
  segmentHeaderBytes,
} from '../format/segment-object.ts';
import { verifyRecords } from './journal-scan.ts';

/** A segment that lies whole in a journal file, to be made an object. */
export interface PackJob {
  readonly path: string;
  /** As the journal file has it. */
  readonly header: JournalHeader;
  /** Under which position the object is stored: after a recovery the epoch is a later one. */
  readonly at: LogPosition;
  readonly entryCount: number;
  readonly blockCount: number;
  readonly sealedMs: number;
  readonly codec: Codec;
  /** Whether blocks that the same segment replaced later are kept: someone may go back to them. */
  readonly keepsReplaced: boolean;
}

export interface PackedSegment {
  /** The object lies at the start of the memory that was given to pack into. */
  readonly bodyBytes: number;
  readonly frames: FrameTable;
}

/**
 * Reads segments from their journal files, verifies every record and its data, and makes objects of
 * them. What the local disk has changed since it was written is refused here: it does not reach the
 * store. One segment at a time: the memory for reading is used again and again.
 */
export class Packer {
  private readonly disk: LocalDisk;
  private readonly data = new Uint8Array(segmentDataBytes);
  private turn: Promise<unknown> = Promise.resolve();

  constructor(disk: LocalDisk) {
    this.disk = disk;
  }

  /** `into` holds at least `maximumObjectBytes`. */
  pack(job: PackJob, into: Uint8Array): Promise<PackedSegment> {
    const packed = this.turn.then(() => this.packNow(job, into));
    this.turn = packed.catch(() => undefined);
    return packed;
  }

  private async packNow(job: PackJob, into: Uint8Array): Promise<PackedSegment> {
    const records = new Uint8Array(job.entryCount * recordBytes);
    const data = this.data.subarray(0, job.blockCount * blockBytes);
    const file = await this.disk.open(job.path, { create: false });
    try {
      await file.read(records, journalRecordsOffset);
      await file.read(data, journalBlockPosition(0));
    } finally {
      await file.close();
    }
    const found = verifyRecords(job.header, records, job.entryCount, data);
    if (found.entryCount !== job.entryCount || found.blockCount !== job.blockCount) {
      throw corrupt(
        `The journal file ${job.path} no longer holds segment ${job.header.segment} as it was written: record ${found.entryCount} of ${job.entryCount} fails its checksum.`,
      );
    }
    const table = entryTableOf(records, job.entryCount);
    if (!job.keepsReplaced) zeroDeadBlocks(data, decodeEntries(table));
    return assemble(job, table, data, into);
  }
}

/** Zeroes the blocks that a later entry of the same segment replaced: nothing reads them again. */
function zeroDeadBlocks(data: Uint8Array, entries: readonly Entry[]): void {
  const indexOf = new Map<number, number>();
  const kill = (block: number): void => {
    const index = indexOf.get(block);
    if (index === undefined) return;
    data.fill(0, index * blockBytes, (index + 1) * blockBytes);
    indexOf.delete(block);
  };
  for (const { kind, firstBlock, count, firstIndex } of entries) {
    if (kind === entryKind.data) {
      for (let at = 0; at < count; at += 1) {
        kill(firstBlock + at);
        indexOf.set(firstBlock + at, firstIndex + at);
      }
    } else if (count <= indexOf.size) {
      for (let at = 0; at < count; at += 1) kill(firstBlock + at);
    } else {
      for (const block of [...indexOf.keys()]) {
        if (block >= firstBlock && block < firstBlock + count) kill(block);
      }
    }
  }
}

/** Writes the object into `into`: the sizes of the tables are known before the first frame. */
function assemble(
  job: PackJob,
  table: Uint8Array,
  data: Uint8Array,
  into: Uint8Array,
): PackedSegment {
  const { volumeId } = job.header;
  const frameCount = Math.ceil(data.byteLength / frameBytes);
  const entries = compress(table, 'zstd');
  const entryTableChecksum = checksum(entries.bytes);
  const entriesAt = segmentHeaderBytes + frameCount * frameRecordBytes;
  into.set(entries.bytes, entriesAt);
  const tablesBytes = entriesAt + entries.bytes.byteLength;
  const records: FrameRecord[] = [];
  let at = tablesBytes;
  for (let frame = 0; frame < frameCount; frame += 1) {
    const start = frame * frameBytes;
    const plain = data.subarray(start, start + plainFrameBytes(job.blockCount, frame));
    const { bytes, codec } = compress(plain, looksRandom(plain) ? 'none' : job.codec);
    into.set(bytes, at);
    at += bytes.byteLength;
    const sum = checksum(bytes, frameSeed(volumeId, job.at, frame));
    records.push({ storedBytes: bytes.byteLength, codec, checksum: sum });
  }
  const frameTable = encodeFrameTable(records);
  const header: SegmentHeader = {
    ...job.at,
    volumeId,
    blockCount: job.blockCount,
    entryCount: job.entryCount,
    frameCount,
    objectBytes: at,
    sealedMs: job.sealedMs,
    openedMs: job.header.openedMs,
    entryTableBytes: entries.bytes.byteLength,
    entryTableCodec: entries.codec,
    entryTableChecksum,
    frameTableChecksum: checksum(frameTable),
  };
  into.set(encodeSegmentHeader(header), 0);
  into.set(frameTable, segmentHeaderBytes);
  return {
    bodyBytes: at,
    frames: decodeFrameTable(header, into.subarray(0, tablesBytes)),
  };
}
