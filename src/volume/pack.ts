import type { LocalDisk, LocalFile } from '../base/local-disk.ts';
import type { StorageError } from '../base/errors.ts';
import { checksum, corrupt, joinChecksums } from '../format/binary.ts';
import { type Codec, compress, looksRandom } from '../format/compression.ts';
import { decodeEntries, type Entry, entryKind } from '../format/entry.ts';
import { blockBytes, frameBlocks, frameBytes } from '../format/geometry.ts';
import {
  entryTableOf,
  type JournalHeader,
  journalBlockPosition,
  journalRecordsOffset,
  recordBytes,
} from '../format/journal-file.ts';
import type { LogPosition } from '../format/names.ts';
import { groupsOffset, JournalSeal, openGroups } from '../format/sealed-journal.ts';
import { type ObjectSeal, sealInPlace } from '../format/sealed-object.ts';
import type { Subkey } from '../format/sealing.ts';
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
  /** Of an encrypted volume. */
  readonly sealing?: PackSealing;
}

/** What an encrypted volume's segment is opened and sealed with. */
export interface PackSealing {
  /** Of this use of the journal file. */
  readonly journal: Subkey;
  /** How much of the file its groups take, from the first on. */
  readonly groupsBytes: number;
  readonly object: ObjectSeal;
}

export interface PackedSegment {
  /** The object lies at the start of the memory that was given to pack into. */
  readonly bodyBytes: number;
  readonly frames: FrameTable;
}

/**
 * Reads segments from their journal files, verifies every record and its data, and makes objects of
 * them. What the local disk has changed since it was written is refused here: it does not reach the
 * store. One segment at a time. The data is read to where it lies in the object when nothing
 * shrinks, and frames that do shrink move what follows them towards the start.
 */
export class Packer {
  private readonly disk: LocalDisk;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(disk: LocalDisk) {
    this.disk = disk;
  }

  /** `into` holds at least `maximumObjectBytes`; `maximumStoredBytes` where it is to be sealed. */
  pack(job: PackJob, into: Uint8Array): Promise<PackedSegment> {
    const packed = this.turn.then(() => this.packNow(job, into));
    this.turn = packed.catch(() => undefined);
    return packed;
  }

  private async packNow(job: PackJob, into: Uint8Array): Promise<PackedSegment> {
    const file = await this.disk.open(job.path, { create: false });
    try {
      if (job.sealing !== undefined) return await packSealed(job, job.sealing, file, into);
      const records = new Uint8Array(job.entryCount * recordBytes);
      await file.read(records, journalRecordsOffset);
      const table = entryTableOf(records, job.entryCount);
      const tables = placeEntryTable(job, table, into);
      const data = into.subarray(tables.endBytes, tables.endBytes + job.blockCount * blockBytes);
      await file.read(data, journalBlockPosition(0));
      const found = verifyRecords(job.header, records, job.entryCount, data);
      if (found.entryCount !== job.entryCount || found.blockCount !== job.blockCount) {
        throw changedOnDisk(job, found.entryCount);
      }
      if (!job.keepsReplaced) zeroDeadBlocks(data, decodeEntries(table), found.blockChecksums);
      return assemble(job, tables, found.blockChecksums, into);
    } finally {
      await file.close();
    }
  }
}

function changedOnDisk(job: PackJob, entryCount: number): StorageError {
  return corrupt(
    `The journal file ${job.path} no longer holds segment ${job.header.segment} as it was written: record ${entryCount} of ${job.entryCount} fails its checksum.`,
  );
}

/** As `Packer.pack`, from a sealed journal file to a sealed object. */
async function packSealed(
  job: PackJob,
  sealing: PackSealing,
  file: LocalFile,
  into: Uint8Array,
): Promise<PackedSegment> {
  const stored = new Uint8Array(sealing.groupsBytes);
  await file.read(stored, groupsOffset);
  const seal = new JournalSeal(job.header, sealing.journal);
  const blocks: Uint8Array[] = [];
  const found = openGroups(seal, stored, job.entryCount, (_, data) => blocks.push(data));
  if (found.entryCount !== job.entryCount || found.blockCount !== job.blockCount)
    throw changedOnDisk(job, found.entryCount);
  const table = entryTableOf(found.records, job.entryCount);
  const tables = placeEntryTable(job, table, into);
  const data = into.subarray(tables.endBytes, tables.endBytes + job.blockCount * blockBytes);
  let at = 0;
  for (const block of blocks) {
    data.set(block, at);
    at += block.byteLength;
  }
  const sums = Uint32Array.from({ length: job.blockCount }, (_, index) =>
    checksum(data.subarray(index * blockBytes, (index + 1) * blockBytes)),
  );
  if (!job.keepsReplaced) zeroDeadBlocks(data, decodeEntries(table), sums);
  const { bodyBytes, frames } = assemble(job, tables, sums, into);
  return { bodyBytes: sealInPlace(into, bodyBytes, sealing.object), frames };
}

const zeroBlockChecksum = checksum(new Uint8Array(blockBytes));

/** Zeroes the blocks that a later entry of the same segment replaced: nothing reads them again. */
function zeroDeadBlocks(data: Uint8Array, entries: readonly Entry[], sums: Uint32Array): void {
  const indexOf = new Map<number, number>();
  const kill = (block: number): void => {
    const index = indexOf.get(block);
    if (index === undefined) return;
    data.fill(0, index * blockBytes, (index + 1) * blockBytes);
    sums[index] = zeroBlockChecksum;
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

/** The entry table in its place in the object, which is known before any frame is. */
interface PlacedTables {
  readonly frameCount: number;
  readonly entryTableBytes: number;
  readonly entryTableCodec: Codec;
  readonly entryTableChecksum: number;
  /** Where the tables end and the first frame begins. */
  readonly endBytes: number;
}

function placeEntryTable(job: PackJob, table: Uint8Array, into: Uint8Array): PlacedTables {
  const frameCount = Math.ceil(job.blockCount / frameBlocks);
  const at = segmentHeaderBytes + frameCount * frameRecordBytes;
  const { bytes, codec } = compress(table, 'zstd');
  into.set(bytes, at);
  return {
    frameCount,
    entryTableBytes: bytes.byteLength,
    entryTableCodec: codec,
    entryTableChecksum: checksum(bytes),
    endBytes: at + bytes.byteLength,
  };
}

/** Makes frames of the data that follows the tables in `into`, and completes the object. */
function assemble(
  job: PackJob,
  tables: PlacedTables,
  blockChecksums: Uint32Array,
  into: Uint8Array,
): PackedSegment {
  const { volumeId } = job.header;
  const { frameCount, entryTableBytes, entryTableCodec, entryTableChecksum } = tables;
  const records: FrameRecord[] = [];
  let at = tables.endBytes;
  for (let frame = 0; frame < frameCount; frame += 1) {
    const start = tables.endBytes + frame * frameBytes;
    const plainBytes = plainFrameBytes(job.blockCount, frame);
    const plain = into.subarray(start, start + plainBytes);
    const { bytes, codec } = compress(plain, looksRandom(plain) ? 'none' : job.codec);
    const seed = frameSeed(volumeId, job.at, frame);
    const first = frame * frameBlocks;
    const sums = blockChecksums.subarray(first, first + plainBytes / blockBytes);
    // What is stored as it is keeps the sums that were verified: nothing is summed twice.
    const sum = codec === 'none' ? joinChecksums(seed, sums) : checksum(bytes, seed);
    if (bytes !== plain) into.set(bytes, at);
    else if (at !== start) into.copyWithin(at, start, start + plainBytes);
    at += bytes.byteLength;
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
    entryTableBytes,
    entryTableCodec,
    entryTableChecksum,
    frameTableChecksum: checksum(frameTable),
  };
  into.set(encodeSegmentHeader(header), 0);
  into.set(frameTable, segmentHeaderBytes);
  return {
    bodyBytes: at,
    frames: decodeFrameTable(header, into.subarray(0, tables.endBytes)),
  };
}
