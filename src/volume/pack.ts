import type { LocalDisk } from '../base/local-disk.ts';
import { checksum, corrupt } from '../format/binary.ts';
import { type Codec, compress } from '../format/compression.ts';
import { decodeEntries, type Entry, entryKind } from '../format/entry.ts';
import { blockBytes, frameBytes } from '../format/geometry.ts';
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
}

export interface PackedSegment {
  /** The object. */
  readonly body: Uint8Array;
  readonly frames: FrameTable;
}

/**
 * Reads a segment from its journal file, verifies every record and its data, and makes the object
 * of it. What the local disk has changed since it was written is refused here: it does not reach
 * the store.
 */
export async function packSegment(disk: LocalDisk, job: PackJob): Promise<PackedSegment> {
  const file = await disk.open(job.path, { create: false });
  const records = new Uint8Array(job.entryCount * recordBytes);
  const data = new Uint8Array(job.blockCount * blockBytes);
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
  zeroDeadBlocks(data, decodeEntries(table));
  return assemble(job, table, data);
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

function assemble(job: PackJob, table: Uint8Array, data: Uint8Array): PackedSegment {
  const { volumeId } = job.header;
  const records: FrameRecord[] = [];
  const frames: Uint8Array[] = [];
  for (let frame = 0; frame * frameBytes < data.byteLength; frame += 1) {
    const start = frame * frameBytes;
    const plain = data.subarray(start, start + plainFrameBytes(job.blockCount, frame));
    const stored = compress(plain, job.codec);
    frames.push(stored.bytes);
    records.push({
      storedBytes: stored.bytes.byteLength,
      codec: stored.codec,
      checksum: checksum(stored.bytes, frameSeed(volumeId, job.at, frame)),
    });
  }
  const frameTable = encodeFrameTable(records);
  const entries = compress(table, 'zstd');
  const tablesBytes = segmentHeaderBytes + frameTable.byteLength + entries.bytes.byteLength;
  const objectBytes = frames.reduce((sum, frame) => sum + frame.byteLength, tablesBytes);
  const header: SegmentHeader = {
    ...job.at,
    volumeId,
    blockCount: job.blockCount,
    entryCount: job.entryCount,
    frameCount: frames.length,
    objectBytes,
    sealedMs: job.sealedMs,
    entryTableBytes: entries.bytes.byteLength,
    entryTableCodec: entries.codec,
    entryTableChecksum: checksum(entries.bytes),
    frameTableChecksum: checksum(frameTable),
  };
  const body = new Uint8Array(objectBytes);
  let at = 0;
  for (const part of [encodeSegmentHeader(header), frameTable, entries.bytes, ...frames]) {
    body.set(part, at);
    at += part.byteLength;
  }
  return { body, frames: decodeFrameTable(header, body.subarray(0, tablesBytes)) };
}
