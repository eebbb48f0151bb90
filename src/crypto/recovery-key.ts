import { createHash, randomFillSync } from 'node:crypto';
import { StorageError } from '../base/errors.ts';
import type { KeyContext, WrappedKey } from '../format/wrapped-key.ts';
import { hpkeAes256, openWith, publicKeyOf, sealTo } from './hpke.ts';
import { wipe } from './wiping.ts';

/**
 * A key that is kept on paper. Its public half stays with the key that it stands in for, and each data
 * key is wrapped for it as well (HPKE, RFC 9180: X25519, HKDF-SHA256, AES-256-GCM), so nobody needs the
 * paper to make volumes.
 */
export interface RecoveryKey {
  /** For paper: 14 groups of 4 letters and digits. */
  readonly text: string;
  readonly publicKey: string;
}

const secretBytes = 32;
const checksumBytes = 3;
const groupLength = 4;
/** Crockford's: no letter that is taken for a digit. */
const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

export function newRecoveryKey(): RecoveryKey {
  const secret = randomFillSync(new Uint8Array(secretBytes));
  try {
    return { text: formatRecoveryKey(secret), publicKey: base64(publicKeyOf(secret)) };
  } finally {
    wipe(secret);
  }
}

export function formatRecoveryKey(secret: Uint8Array): string {
  const bytes = Buffer.concat([secret, checksumOf(secret)]);
  let digits = '';
  let bits = 0;
  let bitCount = 0;
  for (const byte of bytes) {
    bits = (bits << 8) | byte;
    bitCount += 8;
    for (; bitCount >= 5; bitCount -= 5) digits += alphabet[(bits >>> (bitCount - 5)) & 31];
    bits &= (1 << bitCount) - 1;
  }
  wipe(bytes);
  const groups = digits.match(new RegExp(`.{${groupLength}}`, 'g')) ?? [];
  return groups.join('-');
}

/** The secret that was written down; `wrong-key` when a letter of it is another. */
export function parseRecoveryKey(text: string): Uint8Array {
  const digits = text
    .toUpperCase()
    .replaceAll(/[\s-]/g, '')
    .replaceAll(/[IL]/g, '1')
    .replaceAll('O', '0');
  const length = ((secretBytes + checksumBytes) * 8) / 5;
  if (digits.length !== length) {
    throw notOne(`it has ${digits.length} letters and digits instead of ${length}`);
  }
  const bytes = new Uint8Array(secretBytes + checksumBytes);
  let bits = 0;
  let bitCount = 0;
  let at = 0;
  for (const digit of digits) {
    const value = alphabet.indexOf(digit);
    if (value === -1) throw notOne('it has a character that no recovery key has');
    bits = (bits << 5) | value;
    bitCount += 5;
    if (bitCount < 8) continue;
    bitCount -= 8;
    bytes[at] = bits >>> bitCount;
    at += 1;
    bits &= (1 << bitCount) - 1;
  }
  const secret = Uint8Array.from(bytes.subarray(0, secretBytes));
  const isSound = checksumOf(secret).equals(bytes.subarray(secretBytes));
  wipe(bytes);
  if (isSound) return secret;
  wipe(secret);
  throw notOne('a letter or digit of it is wrong');
}

function notOne(why: string): StorageError {
  return new StorageError('wrong-key', `this is not a recovery key: ${why}`);
}

function checksumOf(secret: Uint8Array): Buffer {
  const hash = createHash('sha256').update('elasticdrive recovery key 1').update(secret);
  return hash.digest().subarray(0, checksumBytes);
}

/** Wraps for the public half, which a keyring holds. */
export function wrapForRecovery(
  publicKey: string,
  keyName: string,
  secret: Uint8Array,
  context: KeyContext,
): WrappedKey {
  const recipient = Buffer.from(publicKey, 'base64url');
  const { enc, ciphertext } = sealTo(hpkeAes256, recipient, info, bindingOf(context), secret);
  return {
    ...{ provider: 'recovery', keyName, keyId: idOf(publicKey), keyVersion: 1 },
    fields: { enc: base64(enc), sealed: base64(ciphertext) },
  };
}

/** With the key from the paper; `wrong-key` when the data key was wrapped for another. */
export function unwrapByRecovery(
  recoverySecret: Uint8Array,
  { provider, keyName, keyId, fields }: WrappedKey,
  context: KeyContext,
): Uint8Array {
  if (provider !== 'recovery' || keyId !== idOf(base64(publicKeyOf(recoverySecret)))) {
    throw new StorageError('wrong-key', `this is not the recovery key of the key "${keyName}"`);
  }
  return openWith(hpkeAes256, recoverySecret, info, bindingOf(context), {
    enc: Buffer.from(fields['enc'] ?? '', 'base64url'),
    ciphertext: Buffer.from(fields['sealed'] ?? '', 'base64url'),
  });
}

const info = Buffer.from('elasticdrive recovery 1');

/** Which recovery key it is: part of the hash of its public half. */
function idOf(publicKey: string): string {
  return createHash('sha256').update(publicKey).digest('hex').slice(0, 32);
}

function bindingOf({ volumeId, generation }: KeyContext): Uint8Array {
  return Buffer.from(JSON.stringify(['elasticdrive data key 1', volumeId, generation]));
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url');
}
