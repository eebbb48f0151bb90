import { createHmac, type KeyObject } from 'node:crypto';
import { expect, test } from 'vitest';
import {
  type CipherName,
  deriveKey,
  nonceOf,
  openMessage,
  sealMessage,
  type SubkeyPurpose,
  takeKey,
} from './sealing.ts';

const hex = (text: string): Uint8Array =>
  new Uint8Array(Buffer.from(text.replace(/\s/g, ''), 'hex'));
const text = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');

/** HKDF as RFC 5869 has it, in two steps of HMAC-SHA256. */
function hkdf(secret: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  const extracted = createHmac('sha256', salt).update(secret).digest();
  let block = Buffer.alloc(0);
  const blocks: Buffer[] = [];
  for (let counter = 1; Buffer.concat(blocks).length < length; counter += 1) {
    const hmac = createHmac('sha256', extracted).update(block).update(info);
    block = hmac.update(Uint8Array.of(counter)).digest();
    blocks.push(block);
  }
  return new Uint8Array(Buffer.concat(blocks).subarray(0, length));
}

test('subkeys are those of HKDF, each purpose its own', () => {
  // RFC 5869, appendix A.1: what is compared with is itself right.
  const given = hkdf(
    hex('0b'.repeat(22)),
    hex('000102030405060708090a0b0c'),
    hex('f0f1f2f3f4f5f6f7f8f9'),
    42,
  );
  expect(text(given)).toBe(
    '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
  );
  const secret = hex('42'.repeat(32));
  const salt = hex('17'.repeat(32));
  const purposes: SubkeyPurpose[] = ['object', 'journal', 'manifest', 'salt'];
  for (const purpose of purposes) {
    const info = Buffer.from(`elasticdrive 1 ${purpose}`);
    const found = deriveKey(secret, salt, purpose).export();
    expect(text(found)).toBe(text(hkdf(secret, salt, info, 32)));
  }
});

interface KnownAnswer {
  readonly cipher: CipherName;
  readonly key: KeyObject;
  readonly nonce: Uint8Array;
  readonly associated: Uint8Array;
  readonly plain: Uint8Array;
  readonly sealed: string;
  readonly tag: string;
}

const knownAnswers: readonly KnownAnswer[] = [
  {
    // McGrew, Viega: The Galois/Counter Mode of Operation, test case 16.
    cipher: 'aes-256-gcm',
    key: takeKey(hex('feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308')),
    nonce: hex('cafebabefacedbaddecaf888'),
    associated: hex('feedfacedeadbeeffeedfacedeadbeefabaddad2'),
    plain: hex(
      `d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
       1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39`,
    ),
    sealed:
      '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa' +
      '8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662',
    tag: '76fc6ece0f4e1768cddf8853bb2d551b',
  },
  {
    // RFC 8439, 2.8.2.
    cipher: 'chacha20-poly1305',
    key: takeKey(hex('808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f')),
    nonce: hex('070000004041424344454647'),
    associated: hex('50515253c0c1c2c3c4c5c6c7'),
    plain: new Uint8Array(
      Buffer.from(
        "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
      ),
    ),
    sealed:
      'd31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6' +
      '3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36' +
      '92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc' +
      '3ff4def08e4b7a9de576d26586cec64b6116',
    tag: '1ae10b594f09e26a7e902ecbd0600691',
  },
];

test.each(knownAnswers)('$cipher gives the known answer, in pieces too', (known) => {
  const { nonce, associated, plain } = known;
  const { pieces, tag } = sealMessage(known, nonce, associated, [
    plain.subarray(0, 5),
    plain.subarray(5),
  ]);
  expect(text(Buffer.concat(pieces))).toBe(known.sealed);
  expect(text(tag)).toBe(known.tag);
  const opened = openMessage(known, nonce, associated, { pieces: [hex(known.sealed)], tag });
  expect(text(opened?.[0])).toBe(text(plain));
});

test.each(knownAnswers)('$cipher opens nothing of which one bit is another', (known) => {
  const { nonce, associated } = known;
  const inputs = { nonce, associated, sealed: hex(known.sealed), tag: hex(known.tag) };
  for (const name of Object.keys(inputs) as (keyof typeof inputs)[]) {
    for (let bit = 0; bit < inputs[name].byteLength * 8; bit += 1) {
      const bytes = inputs[name].slice();
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const changed = { ...inputs, [name]: bytes };
      const sealed = { pieces: [changed.sealed], tag: changed.tag };
      expect(openMessage(known, changed.nonce, changed.associated, sealed)).toBeUndefined();
    }
  }
});

test('each part has a nonce of its own', () => {
  expect(text(nonceOf(0))).toBe('00'.repeat(12));
  expect(text(nonceOf(258))).toBe(`02010000${'00'.repeat(8)}`);
});
