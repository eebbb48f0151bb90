/** Keys on a real Tang server, with Debian's clevis as the other client of it. */
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Keyring } from '../../src/crypto/keyring.ts';
import type { KeyEntry } from '../../src/crypto/keyring-entry.ts';
import { providerFor, providerOf, type KeySurroundings } from '../../src/crypto/providers.ts';
import { fetchAdvertisement, tangKeeper } from '../../src/crypto/tang.ts';
import type { WrappedKey } from '../../src/format/wrapped-key.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';
import { TangServer } from './tang-server.ts';

const missing =
  TangServer.missing ??
  missingPrograms({ clevis: 'clevis', jose: 'jose', 'tang-show-keys': 'tang' });
const context = { volumeId: '0123456789abcdef0123456789abcdef', generation: 1 };

function surroundingsIn(root: TemporaryDirectory): KeySurroundings {
  return {
    keyring: new Keyring(root.join('keys.json')),
    ask: () => Promise.reject(new Error('no passphrase is needed')),
    environment: {},
    signForAws: () => Promise.reject(new Error('nothing is signed here')),
  };
}

async function tangKey(url: string, thumbprint?: string): Promise<KeyEntry> {
  const settings = { ...(await fetchAdvertisement(url, thumbprint)) };
  const id = 'a'.repeat(32);
  return { name: 'rack', id, provider: 'tang', createdAt: '', version: 1, settings };
}

/** The same text but for its first letter. */
const otherStart = (text: string): string => `${text.startsWith('A') ? 'B' : 'A'}${text.slice(1)}`;

const clevis = (args: readonly string[], input: string): Promise<string> =>
  run('clevis', args, { input }).then(({ stdout }) => stdout);

describe('a key on a Tang server', () => {
  it('wraps without asking the server, and unwraps without telling it anything', async ({
    skip,
  }) => {
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    await using server = await TangServer.start(root.join('db'));
    const surroundings = surroundingsIn(root);
    const provider = providerOf(await tangKey(server.url), surroundings);
    const before = server.received.length;
    const secret = randomBytes(32);
    const wrapped = await provider.wrap(secret, context);
    expect(server.received.length).toBe(before);
    expect(Buffer.from(await provider.unwrap(wrapped, context))).toEqual(secret);
    expect(server.received.slice(before)).toMatch(/^POST \/rec\/[\w-]{43} HTTP/);
    // Another point each time: not even that it is the same key can be told.
    const pointsSent = (): string[] =>
      [...server.received.matchAll(/"x":"([\w-]+)"/g)].map(([, x]) => x ?? '');
    await provider.unwrap(wrapped, context);
    const sent = pointsSent();
    expect(sent).toHaveLength(2);
    expect(new Set(sent).size).toBe(2);
    const [header = ''] = (wrapped.fields['jwe'] ?? '').split('.');
    const kept = Buffer.from(header, 'base64url').toString();
    for (const point of sent) expect(kept).not.toContain(point);
    const other = provider.unwrap(wrapped, { ...context, generation: 2 });
    await expect(other).rejects.toMatchObject({ code: 'wrong-key' });
  });

  it('is had on any host that reaches the server, by what the manifest says', async ({ skip }) => {
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    const server = await TangServer.start(root.join('db'));
    const surroundings = surroundingsIn(root);
    const secret = randomBytes(32);
    const made = await providerOf(await tangKey(server.url), surroundings).wrap(secret, context);
    const read = JSON.parse(JSON.stringify(made)) as WrappedKey;
    const there = await providerFor(read, surroundings);
    expect(Buffer.from(await there.unwrap(read, context))).toEqual(secret);
    await server[Symbol.asyncDispose]();
    const away = there.unwrap(read, context);
    await expect(away).rejects.toMatchObject({
      code: 'wrong-key',
      message: `the Tang server ${server.url} cannot be reached (ECONNREFUSED)`,
    });
  });

  it('is believed by its thumbprint alone, which is that of tang-show-keys', async ({ skip }) => {
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    await using server = await TangServer.start(root.join('db'));
    await using impostor = await TangServer.start(root.join('impostor'));
    const { port } = new URL(server.url);
    const shown = await run('tang-show-keys', [port]);
    const { settings } = await tangKey(server.url);
    expect(shown.stdout.trim()).toBe(settings['thumbprint']);
    await tangKey(server.url, settings['thumbprint']);
    const refused = tangKey(impostor.url, settings['thumbprint']);
    await expect(refused).rejects.toThrow(/does not sign with the key/);
  });

  it('opens what it wrapped before its server made new keys, until those are gone', async ({
    skip,
  }) => {
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    await using server = await TangServer.start(root.join('db'));
    const surroundings = surroundingsIn(root);
    const entry = await tangKey(server.url);
    await surroundings.keyring.change(() => ({ keys: [entry], defaultKey: undefined }));
    const provider = providerOf(entry, surroundings);
    const secret = randomBytes(32);
    const old = await provider.wrap(secret, context);
    await server.rotateKeys();
    expect(Buffer.from(await provider.unwrap(old, context))).toEqual(secret);
    expect(await provider.rotate()).toBe(2);
    const renewed = await surroundings.keyring.find('rack');
    expect(renewed.settings['thumbprint']).not.toBe(entry.settings['thumbprint']);
    const again = providerOf(renewed, surroundings);
    const fresh = await again.wrap(secret, context);
    const kid = ({ fields }: WrappedKey): unknown => {
      const [header = ''] = (fields['jwe'] ?? '').split('.');
      const text = Buffer.from(header, 'base64url').toString();
      return (JSON.parse(text) as { readonly kid?: string }).kid;
    };
    expect(kid(fresh)).not.toBe(kid(old));
    for (const wrapped of [old, fresh]) {
      expect(Buffer.from(await again.unwrap(wrapped, context))).toEqual(secret);
    }
    await server.loseKeys();
    await expect(again.unwrap(fresh, context)).rejects.toThrow(/does not have its key .* any more/);
    await expect(again.rotate()).rejects.toThrow(/does not have the key any more/);
  });

  it('reads what clevis wrapped, and clevis reads what it wrapped', async ({ skip }) => {
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    await using server = await TangServer.start(root.join('db'));
    const { settings } = await tangKey(server.url);
    const keeper = tangKeeper(settings);
    const secret = randomBytes(32).toString('hex');
    const { jwe = '' } = await keeper.protect(Buffer.from(secret), context);
    expect(await clevis(['decrypt'], jwe)).toBe(secret);
    const pin = JSON.stringify({ url: server.url, thp: settings['thumbprint'] });
    const theirs = await clevis(['encrypt', 'tang', pin], secret);
    expect(Buffer.from(await keeper.recover({ jwe: theirs }, context)).toString()).toBe(secret);
  });

  it('opens nothing of which a part is another', async ({ skip }) => {
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    await using server = await TangServer.start(root.join('db'));
    await using other = await TangServer.start(root.join('other'));
    const provider = providerOf(await tangKey(server.url), surroundingsIn(root));
    const wrapped = await provider.wrap(randomBytes(32), context);
    const parts = (wrapped.fields['jwe'] ?? '').split('.');
    const header = JSON.parse(Buffer.from(parts[0] ?? '', 'base64url').toString()) as object;
    const encode = (changed: object): string =>
      Buffer.from(JSON.stringify({ ...header, ...changed })).toString('base64url');
    const wrong = [
      ['', ...parts.slice(1)],
      [encode({ kid: 'x' }), ...parts.slice(1)],
      [encode({ note: 'added' }), ...parts.slice(1)],
      [encode({ epk: { kty: 'EC', crv: 'P-521', x: 'AA', y: 'AA' } }), ...parts.slice(1)],
      ...[2, 3, 4].map((at) =>
        parts.map((part, index) => (index === at ? otherStart(part) : part)),
      ),
    ];
    for (const each of wrong) {
      const fields = { ...wrapped.fields, jwe: each.join('.') };
      await expect(provider.unwrap({ ...wrapped, fields }, context)).rejects.toMatchObject({
        code: 'wrong-key',
      });
    }
    const elsewhere = {
      ...(await tangKey(server.url)),
      settings: { ...(await tangKey(other.url)).settings },
    };
    const wrongServer = providerOf(elsewhere, surroundingsIn(root));
    await expect(wrongServer.unwrap(wrapped, context)).rejects.toThrow(/does not have its key/);
  });
});

describe('elasticdrive key create --tang', () => {
  it('makes a key on the server, says what was believed, and notices the wrong server', async ({
    skip,
  }) => {
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    await using server = await TangServer.start(root.join('db'));
    const key = (args: readonly string[], statuses = [0]) =>
      run(process.execPath, [`${process.cwd()}/bin/elasticdrive.js`, 'key', ...args], {
        ...{ directory: root.path, environment: { HOME: root.path }, statuses },
      });
    const keyring = ['--keyring', root.join('keys.json')];
    const made = await key(['create', 'rack', '--tang', server.url, ...keyring]);
    expect(made.stderr).toContain(`warning: ${server.url} was believed to be the right server`);
    const thumbprint = /must print ([\w-]{43})/.exec(made.stderr)?.[1] ?? '';
    const named = ['--tang', server.url, '--thumbprint', thumbprint];
    const quiet = await key(['create', 'second', ...named, ...keyring]);
    expect(quiet.stderr).toBe('');
    const wrong = ['--tang', server.url, '--thumbprint', 'A'.repeat(43)];
    const refused = await key(['create', 'third', ...wrong, ...keyring], [12]);
    expect(refused.stderr).toContain('does not sign with the key AAAA');
    const listed = await key(['list', ...keyring]);
    expect(listed.stdout).toMatch(
      new RegExp(`^rack \\(default\\) +tang +1 +on the Tang server ${server.url} +-$`, 'm'),
    );
  });
});
