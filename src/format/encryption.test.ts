import { createHmac, createSecretKey } from 'node:crypto';
import { expect, test } from 'vitest';
import { authenticateManifest, decodeEncryption, isAuthentic } from './encryption.ts';

const key = createSecretKey(new Uint8Array(32).fill(3));
const document = Buffer.from('{\n  "tags": {\n    "mac": "00"\n  },\n  "mac": ""\n}\n');

test('a manifest ends with the HMAC of all that comes before it', () => {
  const made = Buffer.from(authenticateManifest(document, key)).toString();
  const covered = made.slice(0, made.lastIndexOf('"mac": "') + 8);
  const digits = createHmac('sha256', key).update(covered).digest('hex');
  expect(made).toBe(`${covered}${digits}"\n}\n`);
  expect(isAuthentic(Buffer.from(made), key)).toBe(true);
  // What is stored again is authenticated again.
  expect(Buffer.from(authenticateManifest(Buffer.from(made), key)).toString()).toBe(made);
});

test('another bit, another key, no HMAC: none of that is authentic', () => {
  const made = authenticateManifest(document, key);
  expect(isAuthentic(made, createSecretKey(new Uint8Array(32)))).toBe(false);
  expect(isAuthentic(document, key)).toBe(false);
  for (let bit = 0; bit < made.byteLength * 8; bit += 1) {
    const changed = made.slice();
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    let isTaken: boolean;
    try {
      isTaken = isAuthentic(changed, key);
    } catch (error) {
      expect(error).toMatchObject({ code: 'corrupt' });
      isTaken = false;
    }
    expect(isTaken, `bit ${bit}`).toBe(false);
  }
});

test('data keys that contradict themselves are refused', () => {
  const wrapped = { provider: 'command', keyName: 'main', keyId: 'k', keyVersion: 1, fields: {} };
  const keys = [1, 2].map((generation) => ({ generation, wrapped }));
  const encryption = { cipher: 'aes-256-gcm', generation: 2, keys };
  expect(decodeEncryption(encryption)).toEqual(encryption);
  for (const [wrong, says] of [
    [{ ...encryption, cipher: 'rot13' }, /one of aes-256-gcm/],
    [{ ...encryption, generation: 1 }, /data keys out of order/],
    [{ ...encryption, keys: [...keys].reverse() }, /data keys out of order/],
    [{ ...encryption, keys: [] }, /data keys out of order/],
  ] as const) {
    expect(() => decodeEncryption(wrong)).toThrow(says);
  }
});
