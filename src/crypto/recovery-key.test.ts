import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type HpkeSuite, openWith, publicKeyOf, sealTo } from './hpke.ts';
import {
  formatRecoveryKey,
  newRecoveryKey,
  parseRecoveryKey,
  unwrapByRecovery,
  wrapForRecovery,
} from './recovery-key.ts';

const hex = (text: string): Uint8Array => Buffer.from(text, 'hex');
const context = { volumeId: '0123456789abcdef0123456789abcdef', generation: 1 };

describe('HPKE', () => {
  // RFC 9180, A.1.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, base mode, sequence number 0.
  const suite: HpkeSuite = { cipher: 'aes-128-gcm', aeadId: 1, keyBytes: 16 };
  const info = hex('4f6465206f6e2061204772656369616e2055726e');
  const recipient = hex('4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8');
  const associated = hex('436f756e742d30');
  const plain = hex('4265617574792069732074727574682c20747275746820626561757479');
  const message = {
    enc: hex('37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431'),
    ciphertext: hex(
      'f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a',
    ),
  };

  it('opens the known message', () => {
    const known = '3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d';
    expect(Buffer.from(publicKeyOf(recipient)).toString('hex')).toBe(known);
    expect(Buffer.from(openWith(suite, recipient, info, associated, message))).toEqual(plain);
  });

  it('opens what it sealed, and nothing that was changed', () => {
    const made = sealTo(suite, publicKeyOf(recipient), info, associated, plain);
    expect(Buffer.from(openWith(suite, recipient, info, associated, made))).toEqual(plain);
    const { enc, ciphertext } = made;
    const changed = [
      { enc, ciphertext: Buffer.from(ciphertext).fill(0, 3, 4) },
      { enc: Buffer.alloc(32), ciphertext },
      { enc: enc.subarray(1), ciphertext },
      { enc, ciphertext: ciphertext.subarray(0, 12) },
    ];
    for (const each of changed) {
      expect(() => openWith(suite, recipient, info, associated, each)).toThrow(/not sealed/);
    }
    expect(() => openWith(suite, recipient, info, plain, made)).toThrow(/not sealed/);
    expect(() => openWith(suite, randomBytes(32), info, associated, made)).toThrow(/not sealed/);
  });
});

describe('a recovery key', () => {
  it('is read from paper as it was written', () => {
    for (let run = 0; run < 64; run += 1) {
      const secret = randomBytes(32);
      const text = formatRecoveryKey(secret);
      expect(text).toMatch(/^([0-9A-HJKMNP-TV-Z]{4}-){13}[0-9A-HJKMNP-TV-Z]{4}$/);
      expect(Buffer.from(parseRecoveryKey(text))).toEqual(secret);
      const sloppy = ` ${text.toLowerCase().replaceAll('-', ' ').replaceAll('0', 'o').replaceAll('1', 'l')}\n`;
      expect(Buffer.from(parseRecoveryKey(sloppy))).toEqual(secret);
    }
  });

  it('is refused when one character of it is another', () => {
    const { text } = newRecoveryKey();
    for (let at = 0; at < text.length; at += 1) {
      if (text[at] === '-') continue;
      const other = text[at] === 'Z' ? 'Y' : 'Z';
      const wrong = text.slice(0, at) + other + text.slice(at + 1);
      expect(() => parseRecoveryKey(wrong)).toThrow(/is wrong/);
    }
    expect(() => parseRecoveryKey(text.slice(1))).toThrow(/55 letters and digits instead of 56/);
    expect(() => parseRecoveryKey(text.replace(/^./, '!'))).toThrow(/no recovery key has/);
  });

  it('unwraps what was wrapped for its public half, for what it was wrapped for', () => {
    const made = newRecoveryKey();
    const secret = randomBytes(32);
    const wrapped = wrapForRecovery(made.publicKey, 'main', secret, context);
    const paper = parseRecoveryKey(made.text);
    expect(Buffer.from(unwrapByRecovery(paper, wrapped, context))).toEqual(secret);
    const other = { ...context, generation: 2 };
    expect(() => unwrapByRecovery(paper, wrapped, other)).toThrow(/not sealed/);
    const another = parseRecoveryKey(newRecoveryKey().text);
    expect(() => unwrapByRecovery(another, wrapped, context)).toThrow(/recovery key of the key/);
    expect(JSON.stringify(wrapped)).not.toContain(secret.toString('base64url'));
  });
});
