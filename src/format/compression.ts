import { createRequire } from 'node:module';
import { corrupt } from './binary.ts';
import { zstdCompress, zstdDecompress } from './zstd.ts';

/** How a run of bytes is stored. `none` is also what becomes of bytes that do not shrink. */
export type Codec = 'none' | 'zstd' | 'lz4';
export const codecNumber = { none: 0, zstd: 1, lz4: 2 } as const;
const codecNames: readonly Codec[] = ['none', 'zstd', 'lz4'];

interface Lz4 {
  compressSync(bytes: Uint8Array): Buffer;
  uncompressSync(bytes: Uint8Array): Buffer;
}

const require = createRequire(import.meta.url);
let lz4: Lz4 | undefined;

/** Loaded when first used: most volumes never need it. */
function loadLz4(): Lz4 {
  lz4 ??= require('lz4-napi') as Lz4;
  return lz4;
}

export function codecOf(number: number): Codec {
  const codec = codecNames[number];
  if (codec === undefined) throw corrupt(`unknown compression ${number}`);
  return codec;
}

export interface Compressed {
  readonly codec: Codec;
  readonly bytes: Uint8Array;
}

const sampleRuns = 16;
const sampleRunBytes = 256;
/**
 * Entropy in bits a byte above which a sample of 4 KiB is taken for random; uniform ones give 7.95,
 * those of a sloppy generator 7.89. What lies above it would shrink by a fortieth at most.
 */
const randomEntropyBits = 7.8;
/** What is saved must be worth unpacking at each read: at least one byte in so many. */
const worthwhileShare = 32;
/** By how often a byte occurs: its part of a sample's entropy, in bits. */
const weights = Float64Array.from({ length: sampleRuns * sampleRunBytes + 1 }, (_, count) =>
  count === 0 ? 0 : count * Math.log2(count),
);

/**
 * Whether a look at 4 KiB of the bytes says that compressing them is lost labour: encrypted data,
 * pictures, archives. The sample's Shannon entropy decides, as in btrfs's heuristic; that zstd could
 * still find long repetitions of random bytes is given up for packing such data ten times as fast.
 */
export function looksRandom(bytes: Uint8Array): boolean {
  if (bytes.byteLength < 2 * sampleRuns * sampleRunBytes) return false;
  const counts = new Uint16Array(256);
  const stride = Math.floor(bytes.byteLength / sampleRuns);
  for (let run = 0; run < sampleRuns; run += 1) {
    const start = run * stride;
    for (let at = start; at < start + sampleRunBytes; at += 1) {
      const byte = bytes[at] as number;
      counts[byte] = (counts[byte] as number) + 1;
    }
  }
  const total = sampleRuns * sampleRunBytes;
  let weight = 0;
  for (const count of counts) weight += weights[count] as number;
  return Math.log2(total) - weight / total > randomEntropyBits;
}

/**
 * `bytes` by `codec`, or as they are where that saves next to nothing. The result may be overwritten by the
 * next call: whoever keeps it, copies it.
 */
export function compress(bytes: Uint8Array, codec: Codec): Compressed {
  const packed = codec === 'none' ? bytes : compressWith(bytes, codec);
  const worthwhileBytes = bytes.byteLength - bytes.byteLength / worthwhileShare;
  return packed.byteLength <= worthwhileBytes ? { codec, bytes: packed } : { codec: 'none', bytes };
}

function compressWith(bytes: Uint8Array, codec: 'zstd' | 'lz4'): Uint8Array {
  return codec === 'lz4' ? loadLz4().compressSync(bytes) : zstdCompress(bytes);
}

/**
 * Undoes `compress`; `plainBytes` is the length that must come out. The result is `bytes` itself, or
 * may be overwritten by the next call: whoever keeps it, copies it.
 */
export function decompress(bytes: Uint8Array, codec: Codec, plainBytes: number): Uint8Array {
  const plain = codec === 'none' ? bytes : decompressWith(bytes, codec, plainBytes);
  if (plain.byteLength !== plainBytes) {
    throw corrupt(`${plain.byteLength} bytes where ${plainBytes} were stored`);
  }
  return plain;
}

function decompressWith(bytes: Uint8Array, codec: 'zstd' | 'lz4', plainBytes: number): Uint8Array {
  try {
    if (codec === 'lz4') return loadLz4().uncompressSync(bytes);
    return zstdDecompress(bytes, plainBytes);
  } catch (error) {
    throw corrupt(`${codec} data that does not decompress: ${String(error)}`);
  }
}
