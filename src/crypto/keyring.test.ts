import { randomBytes, scryptSync } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Keyring } from './keyring.ts';
import { encodableEntry, type KeyEntry } from './keyring-entry.ts';
import { newPassphraseKey, PassphraseKey } from './passphrase-key.ts';
import { deriveByScrypt } from './scrypt.ts';

const context = { volumeId: '0123456789abcdef0123456789abcdef', generation: 1 };
const createdAt = '2026-11-20T12:00:00.000Z';

let directory: string;
let keyring: Keyring;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'elasticdrive-keyring-'));
  keyring = new Keyring(join(directory, 'made', 'keys.json'));
});
afterEach(() => rm(directory, { recursive: true }));

async function add(entry: KeyEntry): Promise<void> {
  await keyring.change(({ keys, defaultKey }) => ({ keys: [...keys, entry], defaultKey }));
}

function providerOf(entry: KeyEntry, passphrase: string): PassphraseKey {
  return new PassphraseKey({
    entry,
    keyring: keyring.path,
    ask: async () => ({ bytes: Buffer.from(passphrase), from: 'of the test' }),
    save: (saved) => keyring.change(({ defaultKey }) => ({ keys: [saved], defaultKey })),
  });
}

describe('scrypt', () => {
  it('gives the known answers of RFC 7914, section 12', async () => {
    const derived = await deriveByScrypt(
      Buffer.from('pleaseletmein'),
      { N: 16_384, r: 8, p: 1, salt: Buffer.from('SodiumChloride') },
      64,
    );
    expect(Buffer.from(derived).toString('hex')).toBe(
      '7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2' +
        'd5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887',
    );
    const empty = { N: 16, r: 1, p: 1, salt: new Uint8Array(0) };
    expect(await deriveByScrypt(new Uint8Array(0), empty, 64)).toEqual(
      scryptSync('', '', 64, { N: 16, r: 1, p: 1 }),
    );
  });

  it('takes no more memory than a file may ask for', async () => {
    const huge = { N: 2 ** 24, r: 8, p: 1, salt: randomBytes(16) };
    await expect(deriveByScrypt(Buffer.from('x'), huge, 32)).rejects.toMatchObject({
      code: 'unsupported',
    });
    const odd = { N: 3, r: 8, p: 1, salt: randomBytes(16) };
    await expect(deriveByScrypt(Buffer.from('x'), odd, 32)).rejects.toMatchObject({
      code: 'unsupported',
    });
  });
});

describe('a keyring', () => {
  it('keeps keys in a file of its owner alone', async () => {
    const entry = await newPassphraseKey('main', createdAt, Buffer.from('correct horse'));
    await add(entry);
    const read = await keyring.find('main');
    expect(encodableEntry(read)).toEqual(encodableEntry(entry));
    expect((await stat(keyring.path)).mode & 0o777).toBe(0o600);
    expect((await stat(join(keyring.path, '..'))).mode & 0o777).toBe(0o700);
    expect(await readdir(join(keyring.path, '..'))).toEqual(['keys.json']);
    const text = await readFile(keyring.path, 'utf8');
    expect(text).not.toContain('correct horse');
    expect(JSON.parse(text)).toMatchObject({ keys: [{ sealed: { scrypt: { N: 131072 } } }] });
  });

  it('says what is missing and what there is', async () => {
    await expect(keyring.find('main')).rejects.toThrow(/make one with "elasticdrive key create"/);
    await add(await newPassphraseKey('main', createdAt, Buffer.from('x')));
    await expect(keyring.find('other')).rejects.toThrow(/no key "other" .*only main/);
    await expect(keyring.find()).rejects.toThrow(/is the default one/);
  });

  it('is not read when others may, and not changed by two commands at once', async () => {
    await add(await newPassphraseKey('main', createdAt, Buffer.from('x')));
    await chmod(keyring.path, 0o640);
    await expect(keyring.read()).rejects.toThrow(/chmod 600/);
    await chmod(keyring.path, 0o600);
    await writeFile(`${keyring.path}.new`, '');
    await expect(keyring.change((content) => content)).rejects.toMatchObject({ code: 'held' });
    await rm(`${keyring.path}.new`);
    await expect(
      keyring.change(() => {
        throw new Error('no');
      }),
    ).rejects.toThrow(/cannot change/);
    expect((await keyring.read()).keys).toHaveLength(1);
    expect(await readdir(join(keyring.path, '..'))).toEqual(['keys.json']);
  });

  it('is refused when it is of something else', async () => {
    await add(await newPassphraseKey('main', createdAt, Buffer.from('x')));
    const text = await readFile(keyring.path, 'utf8');
    const wrong = ['', '[]', text.replace('-keyring', '-volume'), text.replace(': 1,', ': 9,')];
    wrong.push(text.replace('"provider": "passphrase"', '"provider": "tang"'));
    for (const each of wrong) {
      await writeFile(keyring.path, each);
      await expect(keyring.read()).rejects.toMatchObject({ code: 'corrupt' });
    }
  });
});

describe('a key with a passphrase', () => {
  it('wraps and unwraps, and notices a wrong passphrase', async () => {
    const entry = await newPassphraseKey('main', createdAt, Buffer.from('right'));
    const secret = randomBytes(32);
    const wrapped = await providerOf(entry, 'right').wrap(secret, context);
    expect(wrapped).toMatchObject({ provider: 'passphrase', keyName: 'main', keyVersion: 1 });
    expect(Buffer.from(await providerOf(entry, 'right').unwrap(wrapped, context))).toEqual(secret);
    for (const wrong of ['Right', 'right ', 'r', 'x'.repeat(4096)]) {
      const unwrapping = providerOf(entry, wrong).unwrap(wrapped, context);
      await expect(unwrapping).rejects.toMatchObject({
        code: 'wrong-key',
        message: `the passphrase of the test does not open the key "main" in the keyring ${keyring.path}`,
      });
    }
  });

  it('rotates: what the older version wrapped is still unwrapped, by what the file says', async () => {
    const entry = await newPassphraseKey('main', createdAt, Buffer.from('one'));
    await add(entry);
    const secret = randomBytes(32);
    const old = await providerOf(entry, 'one').wrap(secret, context);
    expect(await providerOf(entry, 'one').rotate()).toBe(2);
    const second = await keyring.find('main');
    const next = { bytes: Buffer.from('two'), from: 'of the test' };
    await providerOf(second, 'one').changePassphrase(next);
    expect(next.bytes.toString()).toBe('\0\0\0');
    const third = await keyring.find('main');
    expect(third.version).toBe(2);
    const renewed = await providerOf(third, 'two').wrap(secret, context);
    expect(renewed.keyVersion).toBe(2);
    for (const wrapped of [old, renewed]) {
      expect(Buffer.from(await providerOf(third, 'two').unwrap(wrapped, context))).toEqual(secret);
    }
    await expect(providerOf(third, 'one').verify()).rejects.toMatchObject({ code: 'wrong-key' });
    await expect(providerOf(entry, 'one').unwrap(renewed, context)).rejects.toThrow(/version 2/);
  });
});
