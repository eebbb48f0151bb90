import { corrupt, viewOf } from './binary.ts';
import { compress, codecNumber, codecOf, decompress } from './compression.ts';
import { pageBlocks } from './geometry.ts';

/**
 * A stored map page: the runs of a page, column by column, compressed. A run goes from its start to
 * the next one's; block `start + i` of it is block `index + i` of the segment. Segment 0 stands for
 * what is in no segment: index 0 a hole, index 1 zeroed.
 */
export const pageHeaderBytes = 8;
export const pageHeaderOffset = {
  runCount: 0, // u32
  codec: 4, // u8
  reserved: 5, // 3 bytes, zero
} as const;
/** Columns after the header, once unpacked: starts (u16), indices (u16), segments (u32). */
export const runBytes = 8;

export const nowhere = { segment: 0, hole: 0, zeroed: 1 } as const;

/** Runs as columns; `starts[0]` is 0, starts rise. */
export interface PageRuns {
  readonly count: number;
  readonly starts: Uint16Array;
  readonly segments: Uint32Array;
  readonly indices: Uint16Array;
}

export function encodePage(runs: PageRuns): Uint8Array {
  const plain = new Uint8Array(runs.count * runBytes);
  const view = viewOf(plain);
  const indicesAt = runs.count * 2;
  const segmentsAt = runs.count * 4;
  for (let run = 0; run < runs.count; run += 1) {
    view.setUint16(run * 2, runs.starts[run] ?? 0, true);
    view.setUint16(indicesAt + run * 2, runs.indices[run] ?? 0, true);
    view.setUint32(segmentsAt + run * 4, runs.segments[run] ?? 0, true);
  }
  const packed = compress(plain, 'zstd');
  const bytes = new Uint8Array(pageHeaderBytes + packed.bytes.byteLength);
  const header = viewOf(bytes);
  header.setUint32(pageHeaderOffset.runCount, runs.count, true);
  header.setUint8(pageHeaderOffset.codec, codecNumber[packed.codec]);
  bytes.set(packed.bytes, pageHeaderBytes);
  return bytes;
}

export function decodePage(bytes: Uint8Array): PageRuns {
  if (bytes.byteLength < pageHeaderBytes) throw corrupt('map page shorter than its header');
  const header = viewOf(bytes);
  const count = header.getUint32(pageHeaderOffset.runCount, true);
  if (count === 0 || count > pageBlocks) throw corrupt(`map page of ${count} runs`);
  const codec = codecOf(header.getUint8(pageHeaderOffset.codec));
  const plain = decompress(bytes.subarray(pageHeaderBytes), codec, count * runBytes);
  const view = viewOf(plain);
  const runs = {
    count,
    starts: new Uint16Array(count),
    segments: new Uint32Array(count),
    indices: new Uint16Array(count),
  };
  let previous = -1;
  for (let run = 0; run < count; run += 1) {
    const start = view.getUint16(run * 2, true);
    if (start <= previous || start >= pageBlocks) throw corrupt('map page with runs out of order');
    previous = start;
    runs.starts[run] = start;
    runs.indices[run] = view.getUint16(count * 2 + run * 2, true);
    runs.segments[run] = view.getUint32(count * 4 + run * 4, true);
  }
  if (runs.starts[0] !== 0) throw corrupt('map page that does not begin at its first block');
  return runs;
}
