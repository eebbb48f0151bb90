import { checksum, corrupt } from '../format/binary.ts';
import { type Codec, codecOf, compress, decompress, looksRandom } from '../format/compression.ts';
import {
  compactedFrameSeed,
  compactedHeaderBytes,
  decodeCompactedFrames,
  encodeCompactedHeader,
  encodeSources,
  type Source,
} from '../format/compacted-object.ts';
import { blockBytes, frameBlocks, frameBytes, segmentDataBytes } from '../format/geometry.ts';
import type { SerialPosition } from '../format/names.ts';
import { type ObjectSeal, sealInPlace } from '../format/sealed-object.ts';
import { encodeFrameTable, type FrameRecord, frameRecordBytes } from '../format/segment-object.ts';
import type { PackedSegment } from './pack.ts';

/** A frame of which blocks are moved, as its object has it. */
export interface MovedFrame {
  /** In what was read. */
  readonly offset: number;
  readonly storedBytes: number;
  readonly checksum: number;
  /** What the checksum starts from. */
  readonly seed: number;
  readonly codec: number;
  readonly plainBytes: number;
  /** Bit i: block i of the frame is moved. */
  readonly wanted: number;
}

/** What is read of one object, and what of that is moved, in the order of the object. */
export interface MovedPart {
  readonly stored: Uint8Array;
  readonly frames: readonly MovedFrame[];
}

/** What becomes of all parts. */
export interface CompactJob {
  readonly volumeId: string;
  readonly at: SerialPosition;
  /** Whose blocks were added, in that order. */
  readonly sources: readonly Source[];
  readonly codec: Codec;
  /** Of an encrypted volume: with what the object is sealed. */
  readonly seal?: ObjectSeal;
}

/** Puts together an object of blocks that are left of others; verifies every frame that it takes from. */
export class CompactedBuilder {
  /** What was added, from its start on. */
  readonly memory: Uint8Array;
  private bytes = 0;

  /** `memory` has room for a whole segment. */
  constructor(memory: Uint8Array = new Uint8Array(segmentDataBytes)) {
    this.memory = memory;
  }

  add({ stored, frames }: MovedPart): void {
    for (const frame of frames) {
      const bytes = stored.subarray(frame.offset, frame.offset + frame.storedBytes);
      if (checksum(bytes, frame.seed) !== frame.checksum)
        throw corrupt('a frame that is to be moved fails its checksum');
      const plain = decompress(bytes, codecOf(frame.codec), frame.plainBytes);
      for (let block = 0; block < frameBlocks; block += 1) {
        if ((frame.wanted & (1 << block)) === 0) continue;
        const from = block * blockBytes;
        if (from >= plain.byteLength) throw corrupt('a block that is to be moved is not there');
        this.memory.set(plain.subarray(from, from + blockBytes), this.bytes);
        this.bytes += blockBytes;
      }
    }
  }

  /** Writes the object of all that was added to the start of `into`. */
  finish({ volumeId, at, sources, codec, seal }: CompactJob, into: Uint8Array): PackedSegment {
    const data = this.memory.subarray(0, this.bytes);
    const frameCount = Math.ceil(data.byteLength / frameBytes);
    const plain = encodeSources(sources);
    const table = compress(plain, 'zstd');
    const sourceTable = { codec: table.codec, bytes: table.bytes.slice() };
    const sourcesAt = compactedHeaderBytes + frameCount * frameRecordBytes;
    const framesAt = sourcesAt + sourceTable.bytes.byteLength;
    const seedOf = (frame: number): number => compactedFrameSeed(volumeId, at, frame);
    const { records, endBytes } = packFrames(data, codec, seedOf, into, framesAt);
    const frameTable = encodeFrameTable(records);
    const header = {
      ...at,
      volumeId,
      blockCount: data.byteLength / blockBytes,
      frameCount,
      sourceCount: sources.length,
      objectBytes: endBytes,
      runCount: sources.reduce((sum, { runs }) => sum + runs.length, 0),
      sourceTableBytes: sourceTable.bytes.byteLength,
      sourceTableCodec: sourceTable.codec,
      sourceTableChecksum: checksum(sourceTable.bytes),
      frameTableChecksum: checksum(frameTable),
    };
    into.set(encodeCompactedHeader(header), 0);
    into.set(frameTable, compactedHeaderBytes);
    into.set(sourceTable.bytes, sourcesAt);
    const frames = decodeCompactedFrames(header, into.subarray(0, framesAt));
    return { bodyBytes: seal === undefined ? endBytes : sealInPlace(into, endBytes, seal), frames };
  }
}

/** Compresses `data` frame by frame into `into`, from byte `from` on. */
function packFrames(
  data: Uint8Array,
  wanted: Codec,
  seedOf: (frame: number) => number,
  into: Uint8Array,
  from: number,
): { readonly records: FrameRecord[]; readonly endBytes: number } {
  const records: FrameRecord[] = [];
  let at = from;
  for (let start = 0; start < data.byteLength; start += frameBytes) {
    const plain = data.subarray(start, start + frameBytes);
    const { bytes, codec } = compress(plain, looksRandom(plain) ? 'none' : wanted);
    into.set(bytes, at);
    at += bytes.byteLength;
    const sum = checksum(bytes, seedOf(records.length));
    records.push({ storedBytes: bytes.byteLength, codec, checksum: sum });
  }
  return { records, endBytes: at };
}
