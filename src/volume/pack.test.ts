import { expect, test } from 'vitest';
import { seededRandom } from '../base/random.ts';
import { entryKind } from '../format/entry.ts';
import { blockBytes, frameBytes } from '../format/geometry.ts';
import { journalBlockPosition, journalRecordsOffset } from '../format/journal-file.ts';
import {
  decodeEntryTable,
  decodeFrame,
  decodeFrameTable,
  decodeSegmentHeader,
  entryTableRange,
  frameSeed,
  maximumObjectBytes,
  plainFrameBytes,
} from '../format/segment-object.ts';
import { MemoryDisk } from '../../test/support/memory-disk.ts';
import { Packer } from './pack.ts';
import { SegmentBuffer } from './segment-buffer.ts';

const random = seededRandom(3);
const volumeId = '5a'.repeat(16);
const header = { volumeId, epoch: 2, segment: 7, previousEntries: 0, openedMs: 1 };
const path = 'one.journal';
const times = { nowMs: () => 1, answersEarly: false };

/** The journal file of a segment of these blocks, written by one entry each to blocks of the volume. */
async function journal(blocks: readonly { readonly at: number; readonly bytes: Uint8Array }[]) {
  const disk = new MemoryDisk();
  const file = await disk.open(path, { create: true });
  const memory = new Uint8Array(blocks.length * blockBytes);
  const segment = new SegmentBuffer(header, { path, file }, memory, 0, times);
  for (const { at, bytes } of blocks) segment.appendData(at, 1, bytes, 0);
  const batch = segment.nextBatch();
  if (batch === undefined) throw new Error('nothing to write');
  await file.write([batch.records], journalRecordsOffset);
  await file.write([batch.data], journalBlockPosition(0));
  const job = {
    path,
    header,
    at: { segment: 7, epoch: 2 },
    entryCount: segment.entryCount,
    blockCount: segment.blockCount,
    sealedMs: 1,
    codec: 'zstd' as const,
    keepsReplaced: false,
  };
  return { disk, file, job };
}

/** All that a reader finds in an object: its entries and its blocks one after the other. */
function unpack(object: Uint8Array): { entries: Uint8Array; data: Uint8Array; codecs: number[] } {
  const found = decodeSegmentHeader(object);
  expect(found.objectBytes).toBe(object.byteLength);
  const table = decodeFrameTable(found, object);
  const data = new Uint8Array(found.blockCount * blockBytes);
  for (let frame = 0; frame < found.frameCount; frame += 1) {
    const offset = table.offsets[frame] as number;
    const stored = object.subarray(offset, offset + (table.storedBytes[frame] as number));
    const seed = frameSeed(volumeId, { segment: 7, epoch: 2 }, frame);
    const plain = decodeFrame(table, frame, stored, seed);
    expect(plain.byteLength).toBe(plainFrameBytes(found.blockCount, frame));
    data.set(plain, frame * frameBytes);
  }
  const range = entryTableRange(found);
  const stored = object.subarray(range.offset, range.offset + range.lengthBytes);
  return { entries: decodeEntryTable(found, stored), data, codecs: [...table.codecs] };
}

const text = (turn: number): Uint8Array =>
  new TextEncoder().encode(`block ${turn} `.repeat(1000)).subarray(0, blockBytes);

test('frames that shrink and frames that do not lie in one object as they were written', async () => {
  // Three frames of random bytes, two of text, one of random bytes, and a short one of text.
  const kinds = ['r', 'r', 'r', 't', 't', 'r'].flatMap((kind) => Array<string>(16).fill(kind));
  const blocks = [...kinds, 't', 't', 't'].map((kind, index) => ({
    at: 1000 + 3 * index,
    bytes: kind === 'r' ? random.bytes(blockBytes) : text(index),
  }));
  const { disk, job } = await journal(blocks);
  const into = new Uint8Array(new SharedArrayBuffer(maximumObjectBytes));
  const { bodyBytes, frames } = await new Packer(disk).pack(job, into);
  const { data, codecs } = unpack(into.subarray(0, bodyBytes));
  expect(codecs).toEqual([0, 0, 0, 1, 1, 0, 1]);
  expect(frames.codecs).toEqual(new Uint8Array(codecs));
  expect(Buffer.compare(data, Buffer.concat(blocks.map(({ bytes }) => bytes)))).toBe(0);
});

test('a block that the same segment replaced is stored as zeroes, in frames of both kinds', async () => {
  const blocks = Array.from({ length: 40 }, (_, index) => ({
    at: index === 20 ? 4 : index === 38 ? 33 : index,
    bytes: index < 16 ? random.bytes(blockBytes) : text(index),
  }));
  const { disk, job } = await journal(blocks);
  const into = new Uint8Array(maximumObjectBytes);
  const { bodyBytes } = await new Packer(disk).pack(job, into);
  const { data } = unpack(into.subarray(0, bodyBytes));
  const expected = blocks.map(({ bytes }, index) =>
    index === 4 || index === 33 ? new Uint8Array(blockBytes) : bytes,
  );
  expect(Buffer.compare(data, Buffer.concat(expected))).toBe(0);
});

test('what the local disk has changed does not become an object', async () => {
  const blocks = Array.from({ length: 20 }, (_, index) => ({
    at: 2 * index,
    bytes: random.bytes(blockBytes),
  }));
  const { disk, file, job } = await journal(blocks);
  await file.write([new Uint8Array([1, 2, 3])], journalBlockPosition(17) + 100);
  const packing = new Packer(disk).pack(job, new Uint8Array(maximumObjectBytes));
  await expect(packing).rejects.toThrow('record 17 of 20 fails its checksum');
});

test('entries without data make an object of tables alone', async () => {
  const disk = new MemoryDisk();
  const file = await disk.open(path, { create: true });
  const segment = new SegmentBuffer(header, { path, file }, new Uint8Array(blockBytes), 0, times);
  segment.appendZero(entryKind.hole, 5, 100);
  const batch = segment.nextBatch();
  if (batch === undefined) throw new Error('nothing to write');
  await file.write([batch.records], journalRecordsOffset);
  await file.write([new Uint8Array(1)], journalBlockPosition(0));
  const at = { segment: 7, epoch: 2 };
  const job = { path, header, at, entryCount: 1, blockCount: 0, sealedMs: 1, keepsReplaced: false };
  const into = new Uint8Array(maximumObjectBytes);
  const { bodyBytes } = await new Packer(disk).pack({ ...job, codec: 'zstd' }, into);
  expect(unpack(into.subarray(0, bodyBytes)).data.byteLength).toBe(0);
});
