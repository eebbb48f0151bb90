import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Codec, compress, decompress, looksRandom } from './compression.ts';
import { seededRandom } from '../base/random.ts';

const random = seededRandom(11);

test.each(['none', 'zstd', 'lz4'] as Codec[])(
  'what %s makes of any bytes becomes them again',
  (codec) => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 5000 }),
        fc.nat(40),
        (bytes, repeats) => {
          const plain = new Uint8Array(bytes.length * (repeats + 1));
          for (let at = 0; at < plain.length; at += bytes.length) plain.set(bytes, at);
          const stored = compress(plain, codec);
          expect(stored.bytes.byteLength).toBeLessThanOrEqual(plain.byteLength);
          const back = decompress(stored.bytes, stored.codec, plain.byteLength);
          expect(Buffer.compare(back, plain)).toBe(0);
        },
      ),
      { numRuns: 50 },
    );
  },
);

test('bytes that are cut short or too long when decompressed are damage', () => {
  const plain = new Uint8Array(10_000).fill(7);
  for (const codec of ['zstd', 'lz4'] as const) {
    const stored = compress(plain, codec).bytes;
    const cut = stored.subarray(0, stored.byteLength - 3);
    expect(() => decompress(cut, codec, plain.byteLength)).toThrow(/decompress|bytes where/);
    expect(() => decompress(stored, codec, 9_999)).toThrow(/decompress|bytes where/);
  }
});

test('random bytes are known by a look, text and binaries and small frames are not taken for them', () => {
  expect(looksRandom(random.bytes(65_536))).toBe(true);
  const text = new TextEncoder().encode(
    'The quick brown fox jumps over the lazy dog. '.repeat(2000),
  );
  expect(looksRandom(text)).toBe(false);
  const hexadecimal = new TextEncoder().encode(Buffer.from(random.bytes(32_768)).toString('hex'));
  expect(looksRandom(hexadecimal)).toBe(false);
  const half = random.bytes(65_536);
  half.fill(0, 0, 20_000);
  expect(looksRandom(half)).toBe(false);
  expect(looksRandom(random.bytes(4096))).toBe(false);
});

test('bytes that would shrink by next to nothing are stored as they are', () => {
  const nearlyRandom = random.bytes(65_536);
  nearlyRandom.fill(0, 0, 1500);
  expect(compress(nearlyRandom, 'zstd')).toEqual({ codec: 'none', bytes: nearlyRandom });
  nearlyRandom.fill(0, 0, 3000);
  const { codec, bytes } = compress(nearlyRandom, 'zstd');
  expect(codec).toBe('zstd');
  expect(bytes.byteLength).toBeLessThan(63_000);
});

test('bytes of a generator that leaves some bits of each word at zero count as random', () => {
  const sloppy = random.bytes(65_536);
  for (let at = 7; at < sloppy.length; at += 8) sloppy[at] = (sloppy[at] as number) & 0x1f;
  expect(looksRandom(sloppy)).toBe(true);
});
