import {
  beginHeader,
  corrupt,
  endHeader,
  type HeaderShape,
  readUint64,
  requireHeader,
  requireZero,
  viewOf,
  writeUint64,
} from './binary.ts';
import { maximumObjectBytes } from './segment-object.ts';
import {
  type CipherName,
  cipherNumber,
  cipherOf,
  nonceOf,
  openMessage,
  saltBytes,
  sealMessage,
  type Subkey,
  tagBytes,
} from './sealing.ts';

/**
 * An object of an encrypted volume: a header, then the object that a volume in the clear would have,
 * in parts of 32 KiB, each encrypted and followed by its tag. Parts are opened each for itself, so
 * that a range is read without the rest.
 */
export const sealedHeaderBytes = 80;
export const sealedPartBytes = 32_768;
export const sealedHeaderOffset = {
  magic: 0, // 8 bytes
  version: 8, // u32
  cipher: 12, // u8
  reserved1: 13, // 3 bytes, zero
  generation: 16, // u32, which of the volume's data keys
  reserved2: 20, // 4 bytes, zero
  plainBytes: 24, // u64, length of the object inside
  salt: 32, // 32 bytes, random
  reserved3: 64, // 12 bytes, zero
  checksum: 76, // u32, of bytes 0 to 75
} as const;

const shape: HeaderShape = {
  what: 'sealed object',
  magic: new TextEncoder().encode('EDSEAL\r\n'),
  version: 1,
  versionOffset: sealedHeaderOffset.version,
  checksumOffset: sealedHeaderOffset.checksum,
};
const storedPartBytes = sealedPartBytes + tagBytes;

/** With what one object is sealed. It can be sent to a worker thread. */
export interface ObjectSeal extends Subkey {
  readonly generation: number;
  /** From which the subkey was derived; never used for another object, nor for one with other bytes. */
  readonly salt: Uint8Array;
  /** The object's key in the store, which says whose it is, of what kind and where it belongs. */
  readonly place: string;
}

export interface SealedHeader {
  readonly cipher: CipherName;
  readonly generation: number;
  readonly plainBytes: number;
  readonly salt: Uint8Array;
  /** All of it, as stored: every part vouches for it. */
  readonly bytes: Uint8Array;
}

/** What a plain object becomes that is so long. */
export function sealedLength(plainBytes: number): number {
  return sealedHeaderBytes + plainBytes + Math.ceil(plainBytes / sealedPartBytes) * tagBytes;
}

/** Length of the longest object that a segment can become, sealed or not. */
export const maximumStoredBytes = sealedLength(maximumObjectBytes);

function encodeSealedHeader(seal: ObjectSeal, plainBytes: number): Uint8Array {
  const bytes = new Uint8Array(sealedHeaderBytes);
  const view = viewOf(bytes);
  beginHeader(bytes, shape);
  view.setUint8(sealedHeaderOffset.cipher, cipherNumber[seal.cipher]);
  view.setUint32(sealedHeaderOffset.generation, seal.generation, true);
  writeUint64(view, sealedHeaderOffset.plainBytes, plainBytes);
  bytes.set(seal.salt, sealedHeaderOffset.salt);
  endHeader(bytes, shape);
  return bytes;
}

/** The header from the start of an object. */
export function decodeSealedHeader(start: Uint8Array): SealedHeader {
  const at = sealedHeaderOffset;
  requireHeader(start, shape);
  const view = viewOf(start);
  requireZero(start, at.reserved1, at.generation, 'sealed header');
  requireZero(start, at.reserved2, at.plainBytes, 'sealed header');
  requireZero(start, at.reserved3, at.checksum, 'sealed header');
  return {
    cipher: cipherOf(view.getUint8(at.cipher)),
    generation: view.getUint32(at.generation, true),
    plainBytes: readUint64(view, at.plainBytes),
    salt: start.slice(at.salt, at.salt + saltBytes),
    bytes: start.slice(0, sealedHeaderBytes),
  };
}

/** What each part is bound to: header, number of the part, place. */
function associatedOf(header: Uint8Array, part: number, place: string): Uint8Array {
  const where = new TextEncoder().encode(place);
  const bytes = new Uint8Array(sealedHeaderBytes + 4 + where.byteLength);
  bytes.set(header, 0);
  viewOf(bytes).setUint32(sealedHeaderBytes, part, true);
  bytes.set(where, sealedHeaderBytes + 4);
  return bytes;
}

/**
 * Seals the object that lies in the first `plainBytes` of `into`, where it lies; returns how long it
 * is then. From the last part to the first: none is written over before it was read.
 */
export function sealInPlace(into: Uint8Array, plainBytes: number, seal: ObjectSeal): number {
  for (const _ of sealingInPlace(into, plainBytes, seal));
  return sealedLength(plainBytes);
}

/** As `sealInPlace`, for those who let others in after each part. */
export function* sealingInPlace(
  into: Uint8Array,
  plainBytes: number,
  seal: ObjectSeal,
): Generator<void> {
  const header = encodeSealedHeader(seal, plainBytes);
  for (let part = Math.ceil(plainBytes / sealedPartBytes) - 1; part >= 0; part -= 1) {
    const from = part * sealedPartBytes;
    const plain = into.subarray(from, Math.min(plainBytes, from + sealedPartBytes));
    const associated = associatedOf(header, part, seal.place);
    const { pieces, tag } = sealMessage(seal, nonceOf(part), associated, [plain]);
    const at = sealedHeaderBytes + part * storedPartBytes;
    into.set(pieces[0] as Uint8Array, at);
    into.set(tag, at + plain.byteLength);
    yield;
  }
  into.set(header, 0);
}

/** The parts that hold a range of the object inside, and where they are stored. */
export interface PartsCover {
  readonly firstPart: number;
  readonly offset: number;
  readonly lengthBytes: number;
}

/** `plainBytes`: of the whole object; what is past its end is not in the cover. */
export function coverOf(from: number, end: number, plainBytes: number): PartsCover {
  const firstPart = Math.floor(from / sealedPartBytes);
  const stop = Math.min(Math.ceil(end / sealedPartBytes) * sealedPartBytes, plainBytes);
  const offset = sealedHeaderBytes + firstPart * storedPartBytes;
  return { firstPart, offset, lengthBytes: sealedLength(stop) - offset };
}

/**
 * Opens whole parts that lie one after the other in `stored`, from byte `at` on; `firstPart` is the
 * first of them. The plain bytes, without the first `skip`, go to the start of `stored`. `corrupt`
 * says which part is not what was sealed there.
 */
export function openParts(
  header: SealedHeader,
  subkey: Subkey,
  place: string,
  stored: Uint8Array,
  { firstPart, from, skip }: { firstPart: number; from: number; skip: number },
): Uint8Array {
  let part = firstPart;
  let end = 0;
  for (let at = from; at < stored.byteLength; at += storedPartBytes) {
    const length = Math.min(sealedPartBytes, header.plainBytes - part * sealedPartBytes);
    const tag = stored.slice(at + length, at + length + tagBytes);
    const pieces = [stored.subarray(at, at + length)];
    const associated = associatedOf(header.bytes, part, place);
    const isWhole = length > 0 && tag.byteLength === tagBytes;
    const opened = isWhole
      ? openMessage(subkey, nonceOf(part), associated, { pieces, tag })
      : undefined;
    if (opened === undefined) {
      throw corrupt(
        `part ${part} of it fails its authentication: it was changed, or was not sealed for this place with the volume's key`,
      );
    }
    const plain = (opened[0] as Uint8Array).subarray(end === 0 ? skip : 0);
    stored.set(plain, end);
    end += plain.byteLength;
    part += 1;
  }
  return stored.subarray(0, end);
}
