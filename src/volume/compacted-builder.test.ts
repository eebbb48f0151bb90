import fc from 'fast-check';
import { expect, test } from 'vitest';
import { checksum } from '../format/binary.ts';
import type { Source, SourceRun } from '../format/compacted-object.ts';
import { blockBytes, frameBlocks } from '../format/geometry.ts';
import { decodeFrame, maximumObjectBytes } from '../format/segment-object.ts';
import { CompactedBuilder, type MovedFrame } from './compacted-builder.ts';
import { CompactedObject, decodeTables } from './compacted-object.ts';

const volumeId = 'cd'.repeat(16);
const at = { serial: 3, epoch: 2 };

/** What every block of a segment holds: where it is from. */
function contentOf(segment: number, index: number): Uint8Array {
  const block = new Uint8Array(blockBytes).fill(index & 0xff);
  new DataView(block.buffer).setUint32(0, segment * 4096 + index, true);
  return block;
}

/** A frame of a segment, stored as it is, of which some blocks are wanted. */
function frameOf(segment: number, frame: number, wanted: number): [Uint8Array, MovedFrame] {
  const stored = new Uint8Array(frameBlocks * blockBytes);
  for (let block = 0; block < frameBlocks; block += 1)
    stored.set(contentOf(segment, frame * frameBlocks + block), block * blockBytes);
  const sizes = { storedBytes: stored.length, plainBytes: stored.length };
  const seed = segment * 1000 + frame;
  return [
    stored,
    { ...sizes, offset: 0, seed, checksum: checksum(stored, seed), codec: 0, wanted },
  ];
}

const bits = fc.integer({ min: 1, max: 2 ** frameBlocks - 1 });
const segments = fc.uniqueArray(
  fc.record({
    segment: fc.integer({ min: 1, max: 1000 }),
    frames: fc.uniqueArray(fc.record({ frame: fc.integer({ min: 0, max: 40 }), wanted: bits }), {
      selector: ({ frame }) => frame,
      minLength: 1,
      maxLength: 4,
    }),
  }),
  { selector: ({ segment }) => segment, minLength: 1, maxLength: 6 },
);

test('every block that was moved is found where it lies, and no other', () => {
  const into = new Uint8Array(maximumObjectBytes);
  fc.assert(
    fc.property(segments, fc.constantFrom('none', 'zstd', 'lz4'), (wanted, codec) => {
      const builder = new CompactedBuilder();
      const sources: Source[] = [];
      const expected = new Map<string, Uint8Array>();
      for (const { segment, frames } of wanted) {
        const runs: SourceRun[] = [];
        for (const each of [...frames].sort((a, b) => a.frame - b.frame)) {
          const [stored, frame] = frameOf(segment, each.frame, each.wanted);
          builder.add({ stored, frames: [frame] });
          for (let block = 0; block < frameBlocks; block += 1) {
            if ((each.wanted & (1 << block)) === 0) continue;
            const index = each.frame * frameBlocks + block;
            runs.push({ firstBlock: segment * 5000 + index, firstIndex: index, count: 1 });
            expected.set(`${segment}/${index}`, contentOf(segment, index));
          }
        }
        sources.push({ segment, epoch: 1, runs });
      }
      const { bodyBytes } = builder.finish({ volumeId, at, sources, codec }, into);
      const body = into.slice(0, bodyBytes);
      const tables = decodeTables(body, bodyBytes, volumeId, at);
      expect(tables.sources).toEqual(sources);
      const object = new CompactedObject(volumeId, at, 2 ** 32, tables);
      for (const { segment } of wanted) {
        for (const { firstIndex, place, count } of object.find(segment, 0, 2048)) {
          for (let step = 0; step < count; step += 1) {
            const frame = Math.floor((place + step) / frameBlocks);
            const offset = tables.frames.offsets[frame] as number;
            const stored = body.subarray(
              offset,
              offset + (tables.frames.storedBytes[frame] as number),
            );
            const plain = decodeFrame(tables.frames, frame, stored, object.seedOf(frame));
            const from = ((place + step) % frameBlocks) * blockBytes;
            const key = `${segment}/${firstIndex + step}`;
            const wantedBytes = expected.get(key) ?? new Uint8Array();
            expect(Buffer.compare(plain.subarray(from, from + blockBytes), wantedBytes)).toBe(0);
            expected.delete(key);
          }
        }
      }
      expect(expected.size).toBe(0);
    }),
    { numRuns: 40 },
  );
});

test('a frame that fails its checksum is not moved', () => {
  const [stored, frame] = frameOf(7, 0, 1);
  stored[100] = (stored[100] ?? 0) ^ 1;
  expect(() => new CompactedBuilder().add({ stored, frames: [frame] })).toThrow(
    expect.objectContaining({ code: 'corrupt' }),
  );
});
