import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { decodeWrappedGeneration, decodeWrappedKey } from '../format/wrapped-key.ts';
import { open, sealWith } from './aead.ts';
import { SymmetricKey } from './symmetric-key.ts';
import { memoryVolumeKeys } from './testing/memory-volume-keys.ts';

const hex = (text: string): Uint8Array => Buffer.from(text, 'hex');
const context = { volumeId: '0123456789abcdef0123456789abcdef', generation: 1 };

function keyOf(id: string): SymmetricKey {
  return new SymmetricKey({ name: 'main', id, where: 'here', versions: [randomBytes(32)] });
}

describe('AES-256-GCM', () => {
  // The algorithm's specification (McGrew, Viega: The Galois/Counter Mode of Operation), test case 16.
  const key = hex('feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308');
  const nonce = hex('cafebabefacedbaddecaf888');
  const associated = hex('feedfacedeadbeeffeedfacedeadbeefabaddad2');
  const plain = hex(
    'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72' +
      '1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39',
  );
  const sealed = hex(
    '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa' +
      '8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662' +
      '76fc6ece0f4e1768cddf8853bb2d551b',
  );

  it('gives the known answer', () => {
    expect(Buffer.from(sealWith(key, nonce, plain, associated))).toEqual(
      Buffer.concat([nonce, sealed]),
    );
    expect(open(key, Buffer.concat([nonce, sealed]), associated)).toEqual(plain);
  });

  it('opens nothing of which one bit is another', () => {
    const whole = Buffer.concat([nonce, sealed]);
    for (let bit = 0; bit < whole.length * 8; bit += 1) {
      const flipped = Buffer.from(whole);
      flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      expect(() => open(key, flipped, associated)).toThrow(/did not seal/);
    }
    expect(() => open(key, whole, associated.subarray(1))).toThrow(/did not seal/);
    expect(() => open(key, whole.subarray(0, 27), associated)).toThrow(/too short/);
  });
});

describe('a symmetric key', () => {
  it('gives back what it wrapped, also after a manifest has held it', async () => {
    const key = keyOf('a');
    const secret = randomBytes(32);
    const generation = { generation: 1, wrapped: await key.wrap(secret, context) };
    const read = decodeWrappedGeneration(JSON.parse(JSON.stringify(generation)));
    expect(read).toEqual(generation);
    expect(Buffer.from(await key.unwrap(read.wrapped, context))).toEqual(secret);
    expect(JSON.stringify(generation)).not.toContain(secret.toString('base64url'));
  });

  it('unwraps what an older version wrapped', async () => {
    const key = keyOf('a');
    const secret = randomBytes(32);
    const old = await key.wrap(secret, context);
    expect(await key.rotate()).toBe(2);
    const renewed = await key.wrap(secret, context);
    expect([old.keyVersion, renewed.keyVersion]).toEqual([1, 2]);
    for (const wrapped of [old, renewed]) {
      expect(Buffer.from(await key.unwrap(wrapped, context))).toEqual(secret);
    }
    const mixed = { ...old, keyVersion: 2 };
    await expect(key.unwrap(mixed, context)).rejects.toMatchObject({ code: 'wrong-key' });
  });

  it('unwraps for what it wrapped for alone', async () => {
    const key = keyOf('a');
    const wrapped = await key.wrap(randomBytes(32), context);
    const wrong = [
      { ...context, generation: 2 },
      { ...context, volumeId: 'f123456789abcdef0123456789abcdef' },
    ];
    for (const other of wrong) {
      await expect(key.unwrap(wrapped, other)).rejects.toMatchObject({ code: 'wrong-key' });
    }
    await expect(keyOf('a').unwrap(wrapped, context)).rejects.toMatchObject({ code: 'wrong-key' });
    await expect(keyOf('b').unwrap(wrapped, context)).rejects.toThrow(/another key/);
    await expect(key.unwrap({ ...wrapped, keyVersion: 3 }, context)).rejects.toThrow(/version 3/);
  });

  it('refuses wrapped keys that are none', () => {
    expect(() => decodeWrappedKey({ provider: 'paper' })).toThrow(/provider/);
    expect(() => decodeWrappedGeneration({ generation: 1, recovery: null })).toThrow(/wrapped/);
  });
});

describe('the keys of volumes in memory', () => {
  it('are unwrapped each for its own volume', async () => {
    const keys = memoryVolumeKeys();
    const secrets = [randomBytes(32), randomBytes(32)];
    const contexts = [context, { volumeId: 'e'.repeat(32), generation: 4 }];
    const wrapped = await Promise.all(
      contexts.map(async (each, at) => ({
        volumeId: each.volumeId,
        ...(await keys.wrapNew('data', secrets[at] as Uint8Array, each)),
      })),
    );
    const unwrapped = await keys.unwrapAll('data', wrapped);
    expect(unwrapped.map((secret) => Buffer.from(secret))).toEqual(secrets);
    await expect(memoryVolumeKeys().unwrapAll('data', wrapped)).rejects.toThrow(/did not seal/);
  });
});
