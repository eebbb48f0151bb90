import { createCipheriv, createDecipheriv, randomFillSync } from 'node:crypto';
import { StorageError } from '../base/errors.ts';

const nonceBytes = 12;
const tagBytes = 16;

/**
 * AES-256-GCM (NIST SP 800-38D) with a random nonce: nonce, ciphertext and tag, one after the other.
 * For few messages under each key: with 2^32 of them two nonces would be alike once in 2^32 times.
 */
export function seal(key: Uint8Array, plain: Uint8Array, associated: Uint8Array): Uint8Array {
  return sealWith(key, randomFillSync(new Uint8Array(nonceBytes)), plain, associated);
}

export function sealWith(
  key: Uint8Array,
  nonce: Uint8Array,
  plain: Uint8Array,
  associated: Uint8Array,
): Uint8Array {
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes });
  cipher.setAAD(associated);
  const parts = [nonce, cipher.update(plain), cipher.final()];
  return Buffer.concat([...parts, cipher.getAuthTag()]);
}

/** What `seal` was given; an error of code `wrong-key` when one bit of anything is another. */
export function open(key: Uint8Array, sealed: Uint8Array, associated: Uint8Array): Uint8Array {
  const end = sealed.length - tagBytes;
  if (end < nonceBytes) throw new StorageError('wrong-key', 'a sealed secret that is too short');
  const nonce = sealed.subarray(0, nonceBytes);
  const cipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes });
  cipher.setAAD(associated).setAuthTag(sealed.subarray(end));
  const plain = cipher.update(sealed.subarray(nonceBytes, end));
  try {
    cipher.final();
  } catch {
    plain.fill(0);
    throw new StorageError('wrong-key', 'a secret that this key did not seal');
  }
  return plain;
}
