import fc from 'fast-check';
import { expect, test } from 'vitest';
import { seededRandom } from '../base/random.ts';
import { checksum, joinChecksums } from './binary.ts';
import { blockBytes } from './geometry.ts';

test('the sums of blocks join to the sum of them all, from any seed', () => {
  const random = seededRandom(5);
  fc.assert(
    fc.property(fc.nat(16), fc.integer({ min: 0, max: 0xffff_ffff }), (count, seed) => {
      const bytes = random.bytes(count * blockBytes);
      const sums = Uint32Array.from({ length: count }, (_, index) =>
        checksum(bytes.subarray(index * blockBytes, (index + 1) * blockBytes)),
      );
      expect(joinChecksums(seed, sums)).toBe(checksum(bytes, seed));
    }),
    { numRuns: 50 },
  );
});
