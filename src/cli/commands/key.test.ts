import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { RegisterValue } from '../../base/object-store.ts';
import { LoopbackServer } from '../../crypto/testing/loopback-server.ts';
import { manifestKey } from '../../format/names.ts';
import { findVolumeId } from '../../volume/catalog.ts';
import { TestMachine } from '../testing/run-program.ts';

let directory: string;
let machine: TestMachine;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'elasticdrive-key-'));
  machine = machineWith({});
  await writeFile(join(directory, 'password'), 'correct horse\n');
  await writeFile(join(directory, 'wrong'), 'correct house\n');
});
afterEach(() => rm(directory, { recursive: true }));

const keyringPath = (): string => join(directory, '.config/elasticdrive/keys.json');
const auditPath = (): string => join(directory, 'elasticdrive-data/state/audit.log');
const withPassword = ['--password-file', 'password'];

function machineWith(environment: Readonly<Record<string, string>>): TestMachine {
  return new TestMachine(directory, {
    HOME: directory,
    PATH: process.env['PATH'] ?? '',
    ...environment,
  });
}

async function run(...argv: string[]): Promise<unknown> {
  const status = await machine.run(...argv, '--json');
  if (status !== 0) throw new Error(`${status}: ${machine.stderr.text}`);
  return JSON.parse(machine.stdout.text) as unknown;
}

/** A key that costs no passphrase, which takes a while each time. */
async function createKept(name: string): Promise<void> {
  const program = join(directory, 'cat');
  await writeFile(program, '#!/bin/sh\ncat\n', { mode: 0o755 });
  await run('key', 'create', name, '--command', program);
}

/** A volume whose manifest names a key; what is in it does not matter here. */
async function encryptedVolume(name: string, keyIds: readonly string[]): Promise<string> {
  await run('volume', 'create', name, '--size', '1GiB');
  const store = machine.storeAt(storeUrl());
  const id = await findVolumeId(store, name);
  const keys = keyIds.map((keyId, at) => ({
    generation: at + 1,
    wrapped: { provider: 'passphrase', keyName: 'main', keyId, keyVersion: 3 - at, fields: {} },
  }));
  await changeManifest(id, (manifest) => ({
    ...manifest,
    encryption: { cipher: 'aes-256-gcm', generation: keys.length, keys },
  }));
  return id;
}

async function changeManifest(id: string, change: (manifest: object) => object): Promise<void> {
  const store = machine.storeAt(storeUrl());
  const { value, version } = (await store.load(manifestKey(id))) as RegisterValue;
  const manifest = JSON.parse(Buffer.from(value).toString()) as object;
  await store.swap(manifestKey(id), version, Buffer.from(JSON.stringify(change(manifest))));
}

const storeUrl = (): string => pathToFileURL(join(directory, 'elasticdrive-data/store')).href;

describe('key create', () => {
  it('makes a key with a passphrase, which nothing that is printed or kept shows', async () => {
    expect(await machine.run('key', 'create', 'main', ...withPassword)).toBe(0);
    expect(machine.stdout.text).toContain('volumes that name no key use it');
    expect((await stat(keyringPath())).mode & 0o777).toBe(0o600);
    expect((await stat(auditPath())).mode & 0o777).toBe(0o600);
    const audit = await readFile(auditPath(), 'utf8');
    const [line] = audit.trim().split('\n');
    expect(JSON.parse(line ?? '')).toMatchObject({
      ...{ uid: 1000, pid: 1, command: 'key create', action: 'create', result: 'ok' },
      ...{ provider: 'passphrase', key: 'main', keyVersion: 1 },
    });
    const everything = [machine.stdout.text, audit, await readFile(keyringPath(), 'utf8')].join();
    expect(everything).not.toContain('correct horse');
    expect(await machine.run('key', 'create', 'main', ...withPassword)).toBe(1);
    expect(machine.stderr.text).toContain('there is a key "main" already');
    expect(await machine.run('key', 'create', 'a/b', ...withPassword)).toBe(2);
  });

  it('takes the passphrase from standard input, a command and the credentials of systemd', async () => {
    machine.standardInput = 'one\n';
    expect(await machine.run('key', 'create', 'a', '--password-file', '-')).toBe(0);
    const line = ['--password-command', 'echo for-$ELASTICDRIVE_KEY'];
    expect(await machine.run('key', 'create', 'b', ...line)).toBe(0);
    await writeFile(join(directory, 'elasticdrive.c'), 'three');
    machine = machineWith({ CREDENTIALS_DIRECTORY: directory });
    expect(await machine.run('key', 'create', 'c')).toBe(0);
    await writeFile(join(directory, 'two'), 'for-b');
    expect(await machine.run('key', 'rotate', 'b', '--password-file', 'two')).toBe(0);
    await writeFile(join(directory, 'one'), 'one');
    expect(await machine.run('key', 'rotate', 'a', '--password-file', 'one')).toBe(0);
    expect(await machine.run('key', 'rotate', 'c', '--password-file', 'one')).toBe(12);
    machine = machineWith({});
    expect(await machine.run('key', 'create', 'd')).toBe(12);
    expect(machine.stderr.text).toContain('the passphrase of the key "d" is needed');
  });

  it('is found in the keyring that systemd gives to a service', async () => {
    await run('key', 'create', 'main', '--keyring', 'elasticdrive.keyring', ...withPassword);
    await chmod(join(directory, 'elasticdrive.keyring'), 0o440);
    machine = machineWith({ CREDENTIALS_DIRECTORY: directory });
    expect(await run('key', 'list')).toMatchObject([{ name: 'main' }]);
    machine = machineWith({});
    expect(await machine.run('key', 'list', '--keyring', 'elasticdrive.keyring')).toBe(1);
    expect(machine.stderr.text).toContain('chmod 600');
  });

  it('prints a recovery key once, for people alone', async () => {
    expect(await machine.run('key', 'create', 'main', '--recovery', ...withPassword)).toBe(0);
    const [text = ''] = /([0-9A-Z]{4}-){13}[0-9A-Z]{4}/.exec(machine.stdout.text) ?? [];
    expect(text).not.toBe('');
    const kept = [await readFile(keyringPath(), 'utf8'), await readFile(auditPath(), 'utf8')];
    expect(kept.join()).not.toContain(text);
    expect(await run('key', 'show', 'main')).toMatchObject({ hasRecoveryKey: true });
    expect(await machine.run('key', 'create', 'b', '--recovery', '--json', ...withPassword)).toBe(
      2,
    );
  });

  it('has a program keep it, and finds out at once when that cannot', async () => {
    const program = join(directory, 'keeper');
    const script = '#!/bin/sh\ncase $1 in *wrap) tr a-y b-z;; esac\n';
    await writeFile(program, script, { mode: 0o755 });
    expect(await machine.run('key', 'create', 'odd', '--command', program)).toBe(12);
    expect(machine.stderr.text).toContain('does not open the data key');
    await writeFile(program, '#!/bin/sh\ncat\n', { mode: 0o755 });
    expect(await machine.run('key', 'create', 'token', '--command', `${program} -s 9`)).toBe(0);
    expect(await run('key', 'list')).toMatchObject([
      { name: 'token', provider: 'command', where: `kept by the program ${program}` },
    ]);
    await writeFile(program, '#!/bin/sh\necho no card >&2; exit 4\n', { mode: 0o755 });
    expect(await machine.run('key', 'rotate', 'token')).toBe(12);
    expect(machine.stderr.text).toContain('rotate token: it ended with status 4 (no card)');
  });
});

describe('key create, for a key that somebody else keeps', () => {
  it('takes it as the transit key of a vault, and remembers where it is', async () => {
    let kept = '';
    await using vault = await LoopbackServer.start(({ path, body }) => {
      const asked = JSON.parse(body) as { readonly plaintext?: string };
      kept = asked.plaintext ?? kept;
      const data = path.includes('/encrypt/') ? { ciphertext: 'vault:v1:x' } : { plaintext: kept };
      return { status: 200, body: JSON.stringify({ data }) };
    });
    await writeFile(join(directory, 'token'), 'hvs.secret');
    const place = ['--vault', vault.url, '--vault-mount', 'disks', '--vault-token-file', 'token'];
    await run('key', 'create', 'team', ...place);
    expect(vault.received[0]).toMatchObject({
      path: '/v1/disks/encrypt/team',
      headers: { 'x-vault-token': 'hvs.secret' },
    });
    expect(await run('key', 'show', 'team')).toMatchObject({
      provider: 'vault',
      where: `as the transit key "disks/team" in the vault ${vault.url}`,
      settings: { address: vault.url, tokenFile: join(directory, 'token') },
    });
    await run('key', 'rotate', 'team');
    expect(vault.received.at(-1)?.path).toBe('/v1/disks/keys/team/rotate');
    expect(await readFile(keyringPath(), 'utf8')).not.toContain('hvs.secret');
    await run('key', 'export', 'team', '--to', 'team.key');
    await run('key', 'import', 'team.key', '--keyring', 'other.json');
    // A file from elsewhere does not say which file of this host goes to a server.
    expect(await run('key', 'show', 'team', '--keyring', 'other.json')).toMatchObject({
      settings: { address: vault.url, tokenFile: '' },
    });
  });

  it('makes none when the keeper refuses, and says why', async () => {
    await using kms = await LoopbackServer.start(() => ({
      status: 400,
      body: '{"__type":"AccessDeniedException","Message":"User is not authorized"}',
    }));
    const arn = 'arn:aws:kms:eu-west-1:111122223333:alias/disks';
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIDEXAMPLE').stubEnv('AWS_SECRET_ACCESS_KEY', 'x');
    try {
      const place = ['--aws-kms', arn, '--aws-endpoint', kms.url];
      expect(await machine.run('key', 'create', 'main', ...place)).toBe(12);
    } finally {
      vi.unstubAllEnvs();
    }
    expect(machine.stderr.text).toContain(
      'AWS KMS in eu-west-1 refuses (400): AccessDeniedException: User is not authorized',
    );
    expect(kms.received[0]?.headers['x-amz-target']).toBe('TrentService.Encrypt');
    expect(await run('key', 'list')).toEqual([]);
  });

  it('wants one place, as a URL or a name that can be', async () => {
    const url = 'http://127.0.0.1:1';
    for (const place of [
      ['--tang', url, '--vault', url],
      ['--tang', 'tang.example.org'],
      ['--vault', 'http://user@vault'],
      ['--aws-kms', 'alias/disks'],
    ]) {
      expect(await machine.run('key', 'create', 'main', ...place)).toBe(2);
    }
    expect(await machine.run('key', 'create', 'main', '--tang', url)).toBe(12);
    expect(machine.stderr.text).toContain(`the Tang server ${url} cannot be reached`);
  });
});

describe('the keys of a keyring', () => {
  it('rotate, under the same passphrase or the next one', async () => {
    await run('key', 'create', 'main', ...withPassword);
    expect(await run('key', 'rotate', 'main', ...withPassword)).toMatchObject({ version: 2 });
    const next = ['--new-password-file', 'wrong'];
    const [both] = [[...withPassword, ...next, '--only-volumes']];
    expect(await machine.run('key', 'rotate', 'main', ...both)).toBe(2);
    expect(await run('key', 'rotate', 'main', ...withPassword, ...next)).toMatchObject({
      passphrase: 'changed',
    });
    expect(await machine.run('key', 'rotate', 'main', ...withPassword)).toBe(12);
    expect(machine.stderr.text).toContain(`the passphrase in ${directory}/password does not open`);
    expect(await run('key', 'show', 'main')).toMatchObject({ version: 2, dependants: [] });
  });

  it('go to another host in a file, where a wrong passphrase is noticed', async () => {
    await run('key', 'create', 'main', ...withPassword);
    await run('key', 'export', 'main', '--to', 'main.key');
    expect((await stat(join(directory, 'main.key'))).mode & 0o777).toBe(0o600);
    expect(await machine.run('key', 'export', 'main', '--to', 'main.key')).toBe(1);
    const there = ['--keyring', 'other.json'];
    const wrong = ['--password-file', 'wrong'];
    expect(await machine.run('key', 'import', 'main.key', ...there, ...wrong)).toBe(12);
    expect(await machine.run('key', 'list', ...there)).toBe(0);
    expect(machine.stdout.text).toContain('no key in');
    const named = ['--as', 'theirs', ...there, ...withPassword];
    expect(await run('key', 'import', 'main.key', ...named)).toMatchObject({ imported: 'theirs' });
    expect(await machine.run('key', 'import', 'main.key', ...there, ...withPassword)).toBe(1);
    await run('key', 'rotate', 'main', ...withPassword);
    await run('key', 'export', 'main', '--to', 'newer.key');
    await run('key', 'import', 'newer.key', ...there, ...withPassword);
    expect(await run('key', 'list', ...there)).toMatchObject([{ name: 'theirs', version: 2 }]);
    expect(await machine.run('key', 'import', 'password')).toBe(13);
    expect(await machine.run('key', 'import', 'missing')).toBe(10);
  });

  it('never come with a program to run out of a file', async () => {
    const program = join(directory, 'keeper');
    await writeFile(program, '#!/bin/sh\ncat\n', { mode: 0o755 });
    await run('key', 'create', 'token', '--command', program);
    await run('key', 'export', 'token', '--to', 'token.key');
    expect(await machine.run('key', 'import', 'token.key', '--keyring', 'other.json')).toBe(1);
    expect(machine.stderr.text).toContain('--command PROGRAM --id');
  });

  it('are listed with what depends on them, and are not deleted while anything does', async () => {
    await createKept('main');
    const { id } = (await run('key', 'show', 'main')) as { id: string };
    const volumeId = await encryptedVolume('ledger', [id, 'f'.repeat(32), id]);
    const dependants = [
      { ...{ volume: 'ledger', volumeId, snapshots: [] }, isClone: false, versions: [1, 3] },
    ];
    const listed = await run('key', 'list');
    expect(listed).toMatchObject([
      { name: 'main', isDefault: true, dependants },
      { name: 'main', id: 'f'.repeat(32), where: 'not in this keyring' },
    ]);
    expect(await machine.run('key', 'list')).toBe(0);
    expect(machine.stdout.text).toMatch(
      /^main \(default\) +command +1 +kept by the program .* ledger$/m,
    );
    expect(await machine.run('key', 'delete', 'main', '--confirm', 'main')).toBe(1);
    expect(machine.stderr.text).toContain('the key "main" is needed by ledger');
    expect(await run('key', 'show', 'main')).toMatchObject({ dependants });
  });

  it('are not deleted when a manifest cannot be read', async () => {
    await createKept('main');
    const volumeId = await encryptedVolume('ledger', ['e'.repeat(32)]);
    await changeManifest(volumeId, () => ({ format: 'none' }));
    expect(await machine.run('key', 'delete', 'main', '--confirm', 'main')).toBe(13);
    expect(machine.stderr.text).toContain('which keys are needed cannot be known: volume ledger');
  });

  it('are deleted when nothing depends on them', async () => {
    await createKept('main');
    expect(await machine.run('key', 'delete', 'main', '--confirm', 'mian')).toBe(2);
    await run('key', 'delete', 'main', '--confirm', 'main');
    expect(await machine.run('key', 'show', 'main')).toBe(10);
    const actions = (await readFile(auditPath(), 'utf8')).trim().split('\n');
    expect(actions.map((line) => (JSON.parse(line) as { action: string }).action)).toEqual([
      'create',
      'delete',
    ]);
  });
});
