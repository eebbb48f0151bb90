import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Keyring } from './keyring.ts';
import type { KeyEntry } from './keyring-entry.ts';
import { type KeySurroundings, providerFor, providerOf } from './providers.ts';
import { type Answer, LoopbackServer, type Received } from './testing/loopback-server.ts';
import { vaultKeeper } from './vault.ts';

const token = 'hvs.a-token-of-the-test';
const context = { volumeId: '0123456789abcdef0123456789abcdef', generation: 1 };
const json = (status: number, body: unknown): Answer => ({ status, body: JSON.stringify(body) });

/** A transit engine as its API is documented, with one key. */
function transit(key: string): (received: Received) => Answer {
  const kept: string[] = [];
  let version = 1;
  return ({ method, path, headers, body }) => {
    if (headers['x-vault-token'] !== token) return json(403, { errors: ['permission denied'] });
    if (method !== 'POST') return json(405, { errors: [] });
    const asked = JSON.parse(body) as { readonly plaintext?: string; readonly ciphertext?: string };
    if (path === `/v1/transit/encrypt/${key}` && asked.plaintext !== undefined) {
      const at = kept.push(asked.plaintext) - 1;
      return json(200, { data: { ciphertext: `vault:v${version}:${at}`, key_version: version } });
    }
    if (path === `/v1/transit/decrypt/${key}`) {
      const plaintext = kept[Number(asked.ciphertext?.split(':')[2] ?? NaN)];
      if (plaintext === undefined) return json(400, { errors: ['invalid ciphertext: no prefix'] });
      return json(200, { data: { plaintext } });
    }
    if (path === `/v1/transit/keys/${key}/rotate`) {
      version += 1;
      return { status: 204, body: '' };
    }
    return json(404, { errors: [] });
  };
}

function surroundings(environment: KeySurroundings['environment']): KeySurroundings {
  return {
    keyring: new Keyring('/nowhere/keys.json'),
    ask: () => Promise.reject(new Error('no passphrase is needed')),
    signForAws: () => Promise.reject(new Error('nothing is signed here')),
    environment,
  };
}

function entryOf(address: string, more: Readonly<Record<string, string>> = {}): KeyEntry {
  const settings = {
    address,
    mount: 'transit',
    key: 'team',
    namespace: '',
    tokenFile: '',
    ...more,
  };
  return {
    name: 'main',
    id: 'b'.repeat(32),
    provider: 'vault',
    createdAt: '',
    version: 1,
    settings,
  };
}

describe('a key of a transit engine', () => {
  it('speaks as the documentation of the API shows it', async () => {
    // Its samples of "Encrypt data" and "Decrypt data".
    const plaintext = 'dGhlIHF1aWNrIGJyb3duIGZveAo=';
    const ciphertext = 'vault:v1:XjsPWPjqPrBi1N2Ms2s1QM798YyFWnO4TR4lsFA=';
    await using server = await LoopbackServer.start(({ path }) =>
      json(200, { data: path.includes('/encrypt/') ? { ciphertext } : { plaintext } }),
    );
    const { settings } = entryOf(server.url, { key: 'my-key', namespace: 'team/a' });
    const keeper = vaultKeeper(settings, { VAULT_TOKEN: token });
    const fields = await keeper.protect(Buffer.from(plaintext, 'base64'), context);
    expect(fields).toEqual({ mount: 'transit', key: 'my-key', namespace: 'team/a', ciphertext });
    expect(Buffer.from(await keeper.recover(fields, context)).toString()).toBe(
      'the quick brown fox\n',
    );
    const [encrypt, decrypt] = server.received;
    expect(encrypt).toMatchObject({
      ...{
        method: 'POST',
        path: '/v1/transit/encrypt/my-key',
        body: JSON.stringify({ plaintext }),
      },
      headers: { 'x-vault-token': token, 'x-vault-namespace': 'team/a' },
    });
    expect(decrypt).toMatchObject({
      ...{
        method: 'POST',
        path: '/v1/transit/decrypt/my-key',
        body: JSON.stringify({ ciphertext }),
      },
    });
  });

  it('wraps and unwraps, also what it wrapped before it was rotated, and never sends the data key', async () => {
    await using server = await LoopbackServer.start(transit('team'));
    const there = surroundings({ VAULT_TOKEN: token });
    const provider = providerOf(entryOf(server.url), there);
    const secret = randomBytes(32);
    const old = await provider.wrap(secret, context);
    await vaultKeeper(entryOf(server.url).settings, there.environment).rotate();
    const fresh = await provider.wrap(secret, context);
    expect([old, fresh].map(({ fields }) => fields['ciphertext'])).toEqual([
      'vault:v1:0',
      'vault:v2:1',
    ]);
    for (const wrapped of [old, fresh]) {
      expect(Buffer.from(await provider.unwrap(wrapped, context))).toEqual(secret);
    }
    const moved = provider.unwrap(old, { ...context, generation: 2 });
    await expect(moved).rejects.toMatchObject({ code: 'wrong-key' });
    const sent = server.received.map(({ body }) => body).join();
    expect(sent).not.toContain(secret.toString('base64'));
  });

  it('is had on another host by the vault that its environment names, and its token goes nowhere else', async () => {
    await using server = await LoopbackServer.start(transit('team'));
    await using thief = await LoopbackServer.start(() => json(200, {}));
    const secret = randomBytes(32);
    const here = surroundings({ VAULT_TOKEN: token });
    const made = await providerOf(entryOf(server.url), here).wrap(secret, context);
    const there = surroundings({ VAULT_TOKEN: token, VAULT_ADDR: server.url });
    const provider = await providerFor(made, there);
    expect(Buffer.from(await provider.unwrap(made, context))).toEqual(secret);
    await expect(providerFor(made, here)).rejects.toThrow(
      /"transit\/team" of a vault: set VAULT_ADDR/,
    );
    const forged = { ...made, fields: { ...made.fields, address: thief.url } };
    await (await providerFor(forged, there)).unwrap(forged, context);
    const climbing = { ...made, fields: { ...made.fields, key: '../../sys/seal' } };
    const climbed = (await providerFor(climbing, there)).unwrap(climbing, context);
    await expect(climbed).rejects.toThrow(/cannot be a key of a vault/);
    expect(thief.received).toEqual([]);
  });

  it('says what the vault says when it refuses, and what is missing', async () => {
    await using server = await LoopbackServer.start(transit('team'));
    const wrap = (environment: KeySurroundings['environment'], more = {}): Promise<unknown> =>
      providerOf(entryOf(server.url, more), surroundings(environment)).wrap(
        randomBytes(32),
        context,
      );
    await expect(wrap({ VAULT_TOKEN: 'other' })).rejects.toMatchObject({
      code: 'wrong-key',
      message: `the vault ${server.url} refuses (403): permission denied`,
    });
    await expect(wrap({})).rejects.toThrow(/no token for the vault: set VAULT_TOKEN/);
    await expect(wrap({ VAULT_TOKEN: token }, { key: 'other' })).rejects.toThrow(/refuses \(404\)/);
    await expect(wrap({ VAULT_TOKEN: token, VAULT_CACERT: '/nowhere' })).rejects.toThrow(
      /authorities/,
    );
    await using odd = await LoopbackServer.start(() => ({ status: 200, body: 'hello' }));
    const oddly = wrap({ VAULT_TOKEN: token }, { address: odd.url });
    await expect(oddly).rejects.toThrow(/something else/);
  });

  it('finds its token in a file, read anew each time, and where the vault client leaves it', async () => {
    await using server = await LoopbackServer.start(transit('team'));
    const directory = await mkdtemp(join(tmpdir(), 'elasticdrive-vault-'));
    try {
      const tokenFile = join(directory, 'sink');
      const provider = providerOf(entryOf(server.url, { tokenFile }), surroundings({}));
      await expect(provider.wrap(randomBytes(32), context)).rejects.toThrow(
        /no token .* in .*sink/,
      );
      await writeFile(tokenFile, `${token}\n`);
      await provider.wrap(randomBytes(32), context);
      await writeFile(join(directory, '.vault-token'), token);
      const usual = providerOf(entryOf(server.url), surroundings({ HOME: directory }));
      await usual.wrap(randomBytes(32), context);
      await writeFile(join(directory, 'elasticdrive.vault-token'), `${token}\n`);
      const service = surroundings({ CREDENTIALS_DIRECTORY: directory, HOME: '/' });
      await providerOf(entryOf(server.url), service).wrap(randomBytes(32), context);
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
