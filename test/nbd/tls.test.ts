/** TLS with the clients that people use: who gets in, who does not, and what they may do. */
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { systemClock } from '../../src/base/clock.ts';
import { createNbdFront } from '../../src/bin/nbd-front.ts';
import {
  createAuthority,
  createClientPair,
  createServerPair,
  type KeyPair,
} from '../../src/cli/certificates.ts';
import type { TlsSettings } from '../../src/cli/tls-settings.ts';
import { hex } from '../../src/nbd/testing/conversation.ts';
import { parseAccessRule } from '../../src/host/access.ts';
import type { BlockServer } from '../../src/host/daemon.ts';
import { MemoryDevice } from '../support/memory-device.ts';
import { memoryCatalog } from '../support/memory-catalog.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';

const missing = missingPrograms({
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  'qemu-img': 'qemu-utils',
});
const validity = { fromMs: Date.now(), days: 2 };
const mebibyte = 2 ** 20;

let root: TemporaryDirectory;
let authority: KeyPair;
let server: BlockServer | undefined;
let port = 0;

beforeEach(({ skip }) => skip(missing !== undefined, missing));
beforeAll(async () => {
  root = await TemporaryDirectory.make();
  authority = await createAuthority('authority of a test', validity);
  const pair = await createServerPair(authority, ['localhost', '127.0.0.1'], validity);
  await writeFile(root.join('server-cert.pem'), pair.certificate);
  await writeFile(root.join('server-key.pem'), pair.key, { mode: 0o600 });
  await writeFile(root.join('ca-cert.pem'), authority.certificate);
  await clientDirectory('backup', authority);
  await clientDirectory('web', authority);
  await clientDirectory('stranger', await createAuthority('another authority', validity));
  await mkdir(root.join('bare'));
  await writeFile(root.join('bare/ca-cert.pem'), authority.certificate);
  await writeFile(root.join('keys.psk'), `alice:${'5a'.repeat(32)}\n`, { mode: 0o600 });
  await writeFile(root.join('unknown.psk'), `bob:${'5a'.repeat(32)}\n`, { mode: 0o600 });
  await writeFile(root.join('wrong.psk'), `alice:${'5b'.repeat(32)}\n`, { mode: 0o600 });
});
afterAll(() => root[Symbol.asyncDispose]());
afterEach(async () => {
  await server?.close();
  server = undefined;
});

/** What a client has, in a directory as libnbd and QEMU want it. */
async function clientDirectory(name: string, signer: KeyPair): Promise<void> {
  const pair = await createClientPair(signer, name, validity);
  await mkdir(root.join(name));
  await writeFile(root.join(`${name}/ca-cert.pem`), authority.certificate);
  await writeFile(root.join(`${name}/client-cert.pem`), pair.certificate);
  await writeFile(root.join(`${name}/client-key.pem`), pair.key, { mode: 0o600 });
}

async function serve(settings: Partial<TlsSettings> = {}): Promise<MemoryDevice> {
  const device = new MemoryDevice(16 * mebibyte);
  const catalog = memoryCatalog({ disk: device, other: new MemoryDevice(mebibyte) });
  const files = {
    certificate: root.join('server-cert.pem'),
    key: root.join('server-key.pem'),
    clientAuthority: root.join('ca-cert.pem'),
  };
  const tls = { mode: 'required', files, access: undefined, ...settings } as const;
  server = createNbdFront(catalog, { limits: {}, tls, busyPoll: true }, systemClock, silentLog);
  const address = await server.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 });
  port = address.kind === 'tcp' ? address.port : 0;
  return device;
}

const uri = (client: string, name = 'disk'): string =>
  `nbds://localhost:${port}/${name}?tls-certificates=${root.join(client)}`;
const rulesOf = (...texts: string[]) => texts.flatMap((text) => parseAccessRule(text) ?? []);

it('encrypts for libnbd, which copies there and back', async () => {
  const device = await serve();
  const picture = new Uint8Array(16 * mebibyte);
  for (let at = 0; at < picture.length; at += 1) picture[at] = (at * 7 + (at >> 12)) & 0xff;
  await writeFile(root.join('picture'), picture);
  await run('nbdcopy', [root.join('picture'), uri('backup')]);
  const stored = new Uint8Array(picture.length);
  await device.read(0, stored);
  expect(Buffer.compare(stored, picture)).toBe(0);
  await run('nbdcopy', [uri('backup'), root.join('copy')]);
  expect(Buffer.compare(await readFile(root.join('copy')), picture)).toBe(0);
  const { stdout } = await run('nbdinfo', [uri('backup')]);
  expect(stdout).toMatch(/newstyle-fixed with TLS, using structured packets/);
});

/** What comes until it is `count` bytes, in hexadecimal. */
async function heard(stream: Duplex, count: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  while (bytes < count) {
    const chunk = stream.read() as Buffer | null;
    if (chunk === null) await once(stream, 'readable');
    else {
      chunks.push(chunk);
      bytes += chunk.length;
    }
  }
  return Buffer.concat(chunks).toString('hex');
}

it('forgets what was negotiated before TLS', async () => {
  await serve({ mode: 'allowed' });
  const option = (number: string, data = ''): Buffer =>
    hex(
      `49484156454f5054 000000${number} 000000${(data.length / 2).toString(16).padStart(2, '0')} ${data}`,
    );
  const socket = connect(port, '127.0.0.1');
  await heard(socket, 18);
  socket.write(Buffer.concat([hex('00000003'), option('08'), option('05')]));
  expect(await heard(socket, 40)).toBe(
    ['08', '05'].map((number) => `0003e889045565a9000000${number}0000000100000000`).join(''),
  );
  const file = (name: string): Promise<Buffer> => readFile(root.join(`backup/${name}`));
  const secure = connectTls({
    socket,
    servername: 'localhost',
    ca: await file('ca-cert.pem'),
    cert: await file('client-cert.pem'),
    key: await file('client-key.pem'),
  });
  await once(secure, 'secureConnect');
  secure.write(option('05'));
  expect(await heard(secure, 20)).toMatch(/^0003e889045565a90000000580000003/);
  secure.write(option('07', '000000046469736b0000'));
  // The flags of the export have no SEND_DF: structured replies are agreed on no more.
  const info = await heard(secure, 52);
  expect(Number.parseInt(info.slice(60, 64), 16) & 0x80).toBe(0);
  secure.destroy();
});

it('encrypts for QEMU', async () => {
  await serve();
  const { stdout } = await run('qemu-img', [
    ...['info', '--object', `tls-creds-x509,id=t,dir=${root.join('web')},endpoint=client`],
    '--image-opts',
    `driver=nbd,host=localhost,port=${port},export=disk,tls-creds=t`,
  ]);
  expect(stdout).toContain('16 MiB (16777216 bytes)');
});

it('lets nobody in without TLS, and no client of another authority', async () => {
  await serve();
  await expect(run('nbdinfo', [`nbd://localhost:${port}/disk`])).rejects.toThrow(/opt_go/);
  await expect(run('nbdinfo', [uri('stranger')])).rejects.toThrow(/TLS|tls/);
  // One that knows the server's authority, and shows no certificate of its own.
  await expect(run('nbdinfo', [uri('bare')])).rejects.toThrow(/TLS|tls/);
});

it('lets a client without TLS in where that is allowed', async () => {
  await serve({ mode: 'allowed' });
  const { stdout } = await run('nbdinfo', [`nbd://localhost:${port}/disk`]);
  expect(stdout).toContain('without TLS');
  expect((await run('nbdinfo', [uri('web')])).stdout).toContain('with TLS');
});

it('gives each client the volumes that the rules name, to read or to write', async () => {
  await serve({ access: rulesOf('backup:read:*', 'web:write:disk') });
  expect((await run('nbdinfo', ['--list', uri('web', '')])).stdout).not.toContain('other');
  expect((await run('nbdinfo', [uri('backup', 'other')])).stdout).toContain('is_read_only: true');
  expect((await run('nbdinfo', [uri('web')])).stdout).toContain('is_read_only: false');
  await expect(run('nbdinfo', [uri('web', 'other')])).rejects.toThrow(/opt_go/);
  await expect(run('nbdcopy', [root.join('ca-cert.pem'), uri('backup')])).rejects.toThrow(
    /read-?only/i,
  );
});

it('takes pre-shared keys instead of certificates', async () => {
  await serve({
    files: { preSharedKeys: root.join('keys.psk') },
    access: rulesOf('alice:read:d*'),
  });
  const keyed = (name: string, file: string): string =>
    `nbds://${name}@localhost:${port}/disk?tls-psk-file=${root.join(file)}`;
  const { stdout } = await run('nbdinfo', [keyed('alice', 'keys.psk')]);
  expect(stdout).toContain('is_read_only: true');
  await expect(run('nbdinfo', [keyed('alice', 'wrong.psk')])).rejects.toThrow(/handshake/);
  await expect(run('nbdinfo', [keyed('bob', 'unknown.psk')])).rejects.toThrow(/handshake/);
});

it('uses a certificate that was renewed, without a restart', async () => {
  await serve();
  await run('nbdinfo', [uri('backup')]);
  const other = await createAuthority('a new authority', validity);
  const pair = await createServerPair(other, ['localhost'], validity);
  const before = await readFile(root.join('server-cert.pem'));
  const keyBefore = await readFile(root.join('server-key.pem'));
  await writeFile(root.join('server-cert.pem'), pair.certificate);
  await writeFile(root.join('server-key.pem'), pair.key);
  await expect(run('nbdinfo', [uri('backup')])).rejects.toThrow(/certificate/);
  await writeFile(root.join('server-cert.pem'), before);
  await writeFile(root.join('server-key.pem'), keyBefore);
  await run('nbdinfo', [uri('backup')]);
});

it('refuses to listen with a key that everybody can read', async () => {
  await chmod(root.join('server-key.pem'), 0o644);
  await expect(serve()).rejects.toThrow(/every user can read the key/);
  await chmod(root.join('server-key.pem'), 0o600);
});
