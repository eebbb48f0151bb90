import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  coverOf,
  decodeSealedHeader,
  type ObjectSeal,
  openParts,
  sealedHeaderBytes,
  sealedLength,
  sealedPartBytes,
  sealInPlace,
} from './sealed-object.ts';
import { deriveKey } from './sealing.ts';

const secret = new Uint8Array(32).fill(5);
const place = 'volumes/00112233445566778899aabbccddeeff/segments/00000001-00000001';

function sealWith(salt: Uint8Array, cipher: ObjectSeal['cipher'] = 'aes-256-gcm'): ObjectSeal {
  return { cipher, generation: 3, salt, place, key: deriveKey(secret, salt, 'object') };
}

function sealed(plain: Uint8Array, seal = sealWith(new Uint8Array(32).fill(9))): Uint8Array {
  const into = new Uint8Array(new SharedArrayBuffer(sealedLength(plain.byteLength) + 100));
  into.set(plain);
  const length = sealInPlace(into, plain.byteLength, seal);
  return into.slice(0, length);
}

function patternOf(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, at) => (at * 31 + (at >> 8)) & 0xff);
}

test('any range of an object is opened by the parts that hold it', () => {
  const lengths = [1, 100, sealedPartBytes, sealedPartBytes + 1, 3 * sealedPartBytes - 7];
  for (const length of lengths) {
    const plain = patternOf(length);
    const object = sealed(plain);
    const header = decodeSealedHeader(object);
    expect(header).toMatchObject({ plainBytes: length, generation: 3, cipher: 'aes-256-gcm' });
    expect(object.byteLength).toBe(sealedLength(length));
    fc.assert(
      fc.property(fc.nat(length - 1), fc.nat(length), (from, more) => {
        const end = Math.min(length, from + 1 + more);
        const { firstPart, offset, lengthBytes } = coverOf(from, end, length);
        const stored = object.slice(offset, offset + lengthBytes);
        const skip = from - firstPart * sealedPartBytes;
        const seal = sealWith(header.salt);
        const found = openParts(header, seal, place, stored, { firstPart, from: 0, skip });
        expect(Buffer.compare(found.subarray(0, end - from), plain.subarray(from, end))).toBe(0);
      }),
      { numRuns: 20 },
    );
  }
});

test('a part opens in its own place alone, under its own header', () => {
  const plain = patternOf(2 * sealedPartBytes);
  const object = sealed(plain);
  const header = decodeSealedHeader(object);
  const seal = sealWith(header.salt);
  const stored = object.slice(sealedHeaderBytes, sealedHeaderBytes + sealedPartBytes + 16);
  const open = (of: typeof header, where: string, firstPart: number): Uint8Array =>
    openParts(of, seal, where, stored.slice(), { firstPart, from: 0, skip: 0 });
  expect(open(header, place, 0).byteLength).toBe(sealedPartBytes);
  expect(() => open(header, place, 1)).toThrow('part 1 of it fails its authentication');
  expect(() => open(header, `${place}0`, 0)).toThrow('part 0 of it fails its authentication');
  for (let at = 0; at < sealedHeaderBytes; at += 1) {
    const bytes = header.bytes.slice();
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    expect(() => open({ ...header, bytes }, place, 0)).toThrow('fails its authentication');
  }
});

test('what is the same under two salts has nothing in common', () => {
  const plain = patternOf(1000);
  const [one, two] = [1, 2].map((byte) => sealed(plain, sealWith(new Uint8Array(32).fill(byte))));
  const tails = [one, two].map((object) => Buffer.from(object?.subarray(80, 1096) ?? []));
  const same = tails[0]?.filter((byte, at) => byte === tails[1]?.[at]).length ?? 0;
  expect(same).toBeLessThan(30);
});
