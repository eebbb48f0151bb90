import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { X509Certificate } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestMachine } from '../testing/run-program.ts';

let directory: string;
let machine: TestMachine;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'elasticdrive-tls-'));
  machine = new TestMachine(directory, { HOME: directory });
});
afterEach(() => rm(directory, { recursive: true }));

const certificateIn = async (name: string): Promise<X509Certificate> =>
  new X509Certificate(await readFile(join(directory, name)));

it('makes an authority, and a server and clients that it signed', async () => {
  const line = ['tls', 'create', 'pki', '--server', 'disks.example.org', '192.0.2.7'];
  expect(await machine.run(...line, '--client', 'backup', 'web')).toBe(0);
  const authority = await certificateIn('pki/ca-cert.pem');
  const server = await certificateIn('pki/server-cert.pem');
  const client = await certificateIn('pki/clients/backup/client-cert.pem');
  expect(authority.ca).toBe(true);
  expect(server.verify(authority.publicKey) && server.checkIssued(authority)).toBe(true);
  expect(server.checkHost('disks.example.org')).toBe('disks.example.org');
  expect(server.checkIP('192.0.2.7')).toBe('192.0.2.7');
  expect(client.verify(authority.publicKey)).toBe(true);
  expect(client.subject).toBe('CN=backup');
  expect((await readdir(join(directory, 'pki/clients/web'))).sort()).toEqual([
    'ca-cert.pem',
    'client-cert.pem',
    'client-key.pem',
  ]);
  for (const key of ['ca-key.pem', 'server-key.pem', 'clients/web/client-key.pem']) {
    expect((await stat(join(directory, 'pki', key))).mode & 0o777).toBe(0o600);
  }
  expect(machine.stdout.text).toContain(`certificate = "${directory}/pki/server-cert.pem"`);
  expect(machine.stdout.text).not.toContain('PRIVATE');
});

it('adds to the authority that is there, and replaces nothing unasked', async () => {
  await machine.run('tls', 'create', 'pki');
  const before = await readFile(join(directory, 'pki/server-cert.pem'), 'utf8');
  expect(await machine.run('tls', 'create', 'pki', '--client', 'late')).toBe(0);
  const authority = await certificateIn('pki/ca-cert.pem');
  const late = await certificateIn('pki/clients/late/client-cert.pem');
  expect(late.verify(authority.publicKey)).toBe(true);
  expect(await machine.run('tls', 'create', 'pki')).toBe(1);
  expect(machine.stderr.text).toContain('add --replace');
  expect(await readFile(join(directory, 'pki/server-cert.pem'), 'utf8')).toBe(before);
  expect(await machine.run('tls', 'create', 'pki', '--replace', '--days', '30')).toBe(0);
  const renewed = await certificateIn('pki/server-cert.pem');
  expect(renewed.verify(authority.publicKey)).toBe(true);
  expect(renewed.validToDate.getTime() - Date.now()).toBeLessThan(31 * 86_400_000);
});

it('refuses what cannot be', async () => {
  expect(await machine.run('tls', 'create', 'pki', '--days', '0')).toBe(2);
  expect(await machine.run('tls', 'create', 'pki', '--client', '../etc')).toBe(2);
  expect(machine.stderr.text).toContain('cannot name a client');
  await machine.run('tls', 'create', 'pki');
  await rm(join(directory, 'pki/ca-key.pem'));
  expect(await machine.run('tls', 'create', 'pki', '--client', 'late')).toBe(10);
});
