import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';
import { corrupt } from './binary.ts';
import { Fields } from './json-fields.ts';
import { type CipherName, cipherNames } from './sealing.ts';
import { decodeWrappedGeneration, type WrappedGeneration } from './wrapped-key.ts';

/** How a volume is encrypted, and where to find with what. Nothing in it is secret. */
export interface Encryption {
  readonly cipher: CipherName;
  /** Which of the data keys seals what is written now. */
  readonly generation: number;
  /** All data keys that anything is sealed with, wrapped, in order of their generations. */
  readonly keys: readonly WrappedGeneration[];
}

export function decodeEncryption(value: unknown): Encryption {
  const fields = new Fields(value, 'encryption');
  const encryption = {
    cipher: fields.oneOf('cipher', cipherNames),
    generation: fields.count('generation'),
    keys: fields.list('keys').map(decodeWrappedGeneration),
  };
  const rises = encryption.keys.every(
    ({ generation }, at) => generation > (encryption.keys[at - 1]?.generation ?? 0),
  );
  if (!rises || encryption.keys.at(-1)?.generation !== encryption.generation)
    throw corrupt('manifest with data keys out of order');
  return encryption;
}

/**
 * The manifest of an encrypted volume ends so: HMAC-SHA256 of all before the digits. It is the last
 * field, so that what is authenticated is bytes, not what a reader makes of them.
 */
const trailer = /"mac": "([0-9a-f]{64}|)"\n}\n$/;
const trailerReachBytes = 80;

/** The document, whatever its `mac` says, with the right one. */
export function authenticateManifest(document: Uint8Array, key: KeyObject): Uint8Array {
  const { covered, mac } = trailerOf(document);
  const digits = createHmac('sha256', key).update(document.subarray(0, covered)).digest('hex');
  return Buffer.concat([
    document.subarray(0, covered),
    Buffer.from(digits),
    document.subarray(covered + mac.length),
  ]);
}

/** Whether whoever has the key wrote the document as it is. */
export function isAuthentic(document: Uint8Array, key: KeyObject): boolean {
  const { covered, mac } = trailerOf(document);
  if (mac === '') return false;
  const expected = createHmac('sha256', key).update(document.subarray(0, covered)).digest();
  return timingSafeEqual(expected, Buffer.from(mac, 'hex'));
}

function trailerOf(document: Uint8Array): { readonly covered: number; readonly mac: string } {
  const end = document.subarray(Math.max(0, document.byteLength - trailerReachBytes));
  const found = trailer.exec(Buffer.from(end).toString('latin1'));
  if (found === null)
    throw corrupt('the manifest of an encrypted volume that does not end as one does');
  const mac = found[1] ?? '';
  // From the end: quote, line break, brace, line break come after the digits.
  return { covered: document.byteLength - mac.length - 4, mac };
}
