import { crc32 } from 'node:zlib';
import { StorageError } from '../base/errors.ts';
import { blockBytes } from './geometry.ts';

/** All numbers of the format are little-endian. Offsets and counts of 64 bits stay below 2^53. */

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function readUint64(view: DataView, offset: number): number {
  const high = view.getUint32(offset + 4, true);
  if (high > 0x1f_ffff) throw corrupt(`a 64-bit number at byte ${offset} is above 2^53`);
  return high * 0x1_0000_0000 + view.getUint32(offset, true);
}

export function writeUint64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value % 0x1_0000_0000, true);
  view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** CRC-32 (ISO 3309, as in zlib), continued from `seed`. */
export function checksum(bytes: Uint8Array, seed = 0): number {
  return crc32(bytes, seed);
}

/**
 * The sum that `checksum` gives, from `seed`, of blocks one after the other of which only their own
 * sums are known. What 4 KiB do to the sum of all before them is linear in each of its bits: so
 * four tables of what each byte becomes say it (built of zlib's own sums of 4 KiB of zeroes).
 */
export function joinChecksums(seed: number, blockChecksums: Uint32Array): number {
  shifts ??= blockShifts();
  const [first, second, third, fourth] = shifts;
  let sum = seed;
  for (const blockChecksum of blockChecksums) {
    sum =
      (first[sum & 0xff] as number) ^
      (second[(sum >>> 8) & 0xff] as number) ^
      (third[(sum >>> 16) & 0xff] as number) ^
      (fourth[sum >>> 24] as number) ^
      blockChecksum;
  }
  return sum >>> 0;
}

type Shifts = readonly [Uint32Array, Uint32Array, Uint32Array, Uint32Array];
let shifts: Shifts | undefined;

function blockShifts(): Shifts {
  const zeroes = new Uint8Array(blockBytes);
  const nothing = checksum(zeroes);
  const table = (shift: number): Uint32Array =>
    Uint32Array.from({ length: 256 }, (_, byte) => {
      return checksum(zeroes, (byte << shift) >>> 0) ^ nothing;
    });
  return [table(0), table(8), table(16), table(24)];
}

export function corrupt(what: string): StorageError {
  return new StorageError('corrupt', what);
}

/** Refuses reserved bytes that are not zero: they will mean something in a later version. */
export function requireZero(bytes: Uint8Array, from: number, to: number, what: string): void {
  for (let at = from; at < to; at += 1) {
    if (bytes[at] !== 0) throw corrupt(`${what}: reserved byte ${at} is not zero`);
  }
}

/** What an object or file of ours begins with: magic, version, and a checksum over all before it. */
export interface HeaderShape {
  readonly what: string;
  readonly magic: Uint8Array;
  readonly version: number;
  readonly versionOffset: number;
  readonly checksumOffset: number;
}

export function beginHeader(bytes: Uint8Array, shape: HeaderShape): void {
  bytes.set(shape.magic, 0);
  viewOf(bytes).setUint32(shape.versionOffset, shape.version, true);
}

/** Writes the checksum; the header is complete. */
export function endHeader(bytes: Uint8Array, shape: HeaderShape): void {
  const sum = checksum(bytes.subarray(0, shape.checksumOffset));
  viewOf(bytes).setUint32(shape.checksumOffset, sum, true);
}

/** Refuses a header that is cut short, another's, damaged, or of a version that is not known. */
export function requireHeader(bytes: Uint8Array, shape: HeaderShape): void {
  const { what, magic, version, versionOffset, checksumOffset } = shape;
  if (bytes.byteLength < checksumOffset + 4) throw corrupt(`${what} shorter than its header`);
  const view = viewOf(bytes);
  if (magic.some((byte, index) => bytes[index] !== byte)) throw corrupt(`not a ${what}`);
  if (view.getUint32(checksumOffset, true) !== checksum(bytes.subarray(0, checksumOffset))) {
    throw corrupt(`${what} whose header fails its checksum`);
  }
  const found = view.getUint32(versionOffset, true);
  if (found !== version) {
    throw corrupt(`${what} of version ${found}, this program knows ${version}`);
  }
}

export function bytesToHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

export function hexToBytes(hex: string): Uint8Array {
  if (!/^(?:[0-9a-f]{2})*$/.test(hex)) throw corrupt(`not lower-case hexadecimal: "${hex}"`);
  return new Uint8Array(Buffer.from(hex, 'hex'));
}
