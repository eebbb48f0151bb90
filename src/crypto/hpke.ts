import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto';
import { StorageError } from '../base/errors.ts';
import { wipe } from './wiping.ts';

/**
 * HPKE (RFC 9180), base mode, one message for each encapsulation: DHKEM(X25519, HKDF-SHA256),
 * HKDF-SHA256 and an AES-GCM. On Node's primitives alone.
 */
export interface HpkeSuite {
  readonly cipher: 'aes-256-gcm' | 'aes-128-gcm';
  readonly aeadId: number;
  readonly keyBytes: number;
}

/** What ElasticDrive uses. */
export const hpkeAes256: HpkeSuite = { cipher: 'aes-256-gcm', aeadId: 2, keyBytes: 32 };

interface HpkeMessage {
  /** The sender's public half, made for this message alone. */
  readonly enc: Uint8Array;
  readonly ciphertext: Uint8Array;
}

const kemId = 0x0020;
const kdfId = 0x0001;
const nonceBytes = 12;
const tagBytes = 16;
const kemSuite = Buffer.concat([Buffer.from('KEM'), twoBytes(kemId)]);
// RFC 8410: what stands before the 32 bytes of an X25519 key.
const privatePrefix = Buffer.from('302e020100300506032b656e04220420', 'hex');
const publicPrefix = Buffer.from('302a300506032b656e032100', 'hex');

export function sealTo(
  suite: HpkeSuite,
  recipientPublic: Uint8Array,
  info: Uint8Array,
  associated: Uint8Array,
  plain: Uint8Array,
): HpkeMessage {
  const own = generateKeyPairSync('x25519');
  const enc = rawPublicKey(own.publicKey);
  const shared = agree(own.privateKey, publicKeyFrom(recipientPublic), enc, recipientPublic);
  const { key, nonce } = schedule(suite, shared, info);
  const cipher = createCipheriv(suite.cipher, key, nonce, { authTagLength: tagBytes });
  cipher.setAAD(associated);
  const parts = [cipher.update(plain), cipher.final()];
  wipe(key, nonce, shared);
  return { enc, ciphertext: Buffer.concat([...parts, cipher.getAuthTag()]) };
}

/** `wrong-key` for whatever was not sealed to this key with this info and these associated bytes. */
export function openWith(
  suite: HpkeSuite,
  recipientPrivate: Uint8Array,
  info: Uint8Array,
  associated: Uint8Array,
  { enc, ciphertext }: HpkeMessage,
): Uint8Array {
  const own = privateKeyFrom(recipientPrivate);
  const end = ciphertext.length - tagBytes;
  let plain: Uint8Array | undefined;
  const wiped: Uint8Array[] = [];
  try {
    const shared = agree(own, publicKeyFrom(enc), enc, rawPublicKey(createPublicKey(own)));
    const { key, nonce } = schedule(suite, shared, info);
    wiped.push(shared, key, nonce);
    const cipher = createDecipheriv(suite.cipher, key, nonce, { authTagLength: tagBytes });
    cipher.setAAD(associated).setAuthTag(ciphertext.subarray(end));
    plain = cipher.update(ciphertext.subarray(0, end));
    cipher.final();
    return plain;
  } catch (cause) {
    wipe(plain);
    throw new StorageError('wrong-key', 'a message that was not sealed to this key', { cause });
  } finally {
    wipe(...wiped);
  }
}

/** The public half of 32 bytes that are a private key. */
export function publicKeyOf(privateKey: Uint8Array): Uint8Array {
  return rawPublicKey(createPublicKey(privateKeyFrom(privateKey)));
}

function privateKeyFrom(raw: Uint8Array): KeyObject {
  const der = Buffer.concat([privatePrefix, raw]);
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  } finally {
    wipe(der);
  }
}

function publicKeyFrom(raw: Uint8Array): KeyObject {
  const der = Buffer.concat([publicPrefix, raw]);
  return createPublicKey({ key: der, format: 'der', type: 'spki' });
}

function rawPublicKey(key: KeyObject): Uint8Array {
  return key.export({ format: 'der', type: 'spki' }).subarray(publicPrefix.length);
}

/** ExtractAndExpand of section 4.1; Node refuses a point that would make the secret zero. */
function agree(
  own: KeyObject,
  other: KeyObject,
  enc: Uint8Array,
  recipientPublic: Uint8Array,
): Uint8Array {
  const secret = diffieHellman({ privateKey: own, publicKey: other });
  const pseudorandom = extract(kemSuite, new Uint8Array(0), 'eae_prk', secret);
  const context = Buffer.concat([enc, recipientPublic]);
  const shared = expand(kemSuite, pseudorandom, 'shared_secret', context, 32);
  wipe(secret, pseudorandom);
  return shared;
}

/** KeySchedule of section 5.1 without a pre-shared key. */
function schedule(
  { aeadId, keyBytes }: HpkeSuite,
  shared: Uint8Array,
  info: Uint8Array,
): { readonly key: Uint8Array; readonly nonce: Uint8Array } {
  const ids = [kemId, kdfId, aeadId].map(twoBytes);
  const suite = Buffer.concat([Buffer.from('HPKE'), ...ids]);
  const none = new Uint8Array(0);
  const context = Buffer.concat([
    Uint8Array.of(0),
    extract(suite, none, 'psk_id_hash', none),
    extract(suite, none, 'info_hash', info),
  ]);
  const secret = extract(suite, shared, 'secret', none);
  const key = expand(suite, secret, 'key', context, keyBytes);
  const nonce = expand(suite, secret, 'base_nonce', context, nonceBytes);
  wipe(secret);
  return { key, nonce };
}

function extract(suite: Uint8Array, salt: Uint8Array, label: string, input: Uint8Array): Buffer {
  const hmac = createHmac('sha256', salt).update('HPKE-v1').update(suite).update(label);
  return hmac.update(input).digest();
}

/** All lengths here are of one hash at most. */
function expand(
  suite: Uint8Array,
  pseudorandom: Uint8Array,
  label: string,
  info: Uint8Array,
  byteCount: number,
): Buffer {
  const hmac = createHmac('sha256', pseudorandom).update(twoBytes(byteCount)).update('HPKE-v1');
  hmac.update(suite).update(label).update(info).update(Uint8Array.of(1));
  return hmac.digest().subarray(0, byteCount);
}

function twoBytes(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff]);
}
