/** The daemon as a user runs it: first start, second start, signals, and the INI file of 2007. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, type TestContext } from 'vitest';
import { directoryStore } from '../support/daemon.ts';
import { nbdsh } from '../support/nbdsh.ts';
import { type ProgramResult, run, Server, TemporaryDirectory } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';
import { missingRgw } from '../support/rgw.ts';
import { sharedS3 } from '../support/shared-s3.ts';
import { requireSoundAt } from '../support/sound-stores.ts';

const command = resolve('bin/elasticdrive.js');
const missingClients = missingPrograms({ nbdinfo: 'libnbd-bin', nbdsh: 'python3-libnbd' });

let root: TemporaryDirectory;
beforeEach(async () => {
  root = await TemporaryDirectory.make();
});
afterEach(async () => {
  for (const place of ['elasticdrive-data/store', 'disks', 'one', 'two']) {
    const directory = root.join(place);
    if (existsSync(directory)) await requireSoundAt(directoryStore(directory));
  }
  await root[Symbol.asyncDispose]();
});

/** A user with an empty home directory, who lets the kernel choose the port. */
function user(changes: Record<string, string> = {}) {
  const environment = {
    HOME: root.path,
    XDG_CONFIG_HOME: '',
    XDG_STATE_HOME: '',
    XDG_RUNTIME_DIR: '',
    STATE_DIRECTORY: '',
    npm_lifecycle_event: '',
    ELASTICDRIVE_LISTEN: 'nbd://127.0.0.1:0',
    ...changes,
  };
  return { directory: root.path, environment };
}

function elasticdrive(...args: string[]): Promise<ProgramResult> {
  const statuses = [0, 1, 2, 10, 11];
  return run(process.execPath, [command, ...args], { ...user(), statuses });
}

/** A daemon that listens, and the port that it said it listens on. */
async function serve(
  args: readonly string[],
  environment: Record<string, string> = {},
): Promise<{ server: Server; port: string; uri: string }> {
  const server = new Server(process.execPath, [command, 'serve', ...args], user(environment));
  const port = await server.until(() => /nbd:\/\/127\.0\.0\.1:(\d+)/.exec(server.log)?.[1]);
  return { server, port, uri: `nbd://127.0.0.1:${port}` };
}

function requireClients({ skip }: TestContext): void {
  skip(missingClients !== undefined, missingClients);
}

describe('serve with nothing', () => {
  it('makes a disk once, says how to use it, and is found by status', async (context) => {
    requireClients(context);
    const { server, port, uri } = await serve([]);
    await using _ = server;
    for (const line of [
      `${uri}/drive0  (10GiB in file://`,
      `nbdinfo ${uri}/drive0`,
      `qemu-img info ${uri}/drive0`,
      `nbd-client 127.0.0.1 ${port} /dev/nbd0 -N drive0`,
      `nbdfuse drive0 ${uri}/drive0`,
    ]) {
      expect(server.log).toContain(line);
    }
    const size = await run('nbdinfo', ['--size', uri]);
    expect(size.stdout).toBe(`${10 * 2 ** 30}\n`);
    await nbdsh(`${uri}/drive0`, 'h.pwrite(b"x" * 4096, 8192)\nh.shutdown()');
    const { stdout } = await elasticdrive('status', '--json');
    expect(JSON.parse(stdout)).toMatchObject({
      pid: server.pid,
      stateDirectory: root.join('elasticdrive-data', 'state'),
      listening: [uri],
      volumes: [{ name: 'drive0', sizeBytes: 10 * 2 ** 30, clients: 0 }],
    });
    const text = await elasticdrive('status');
    expect(text.stdout).toMatch(/^drive0 +10GiB +0 /m);
    expect(await server.stop()).toBe(0);
    const again = await serve([]);
    await using __ = again.server;
    const read = await nbdsh(again.uri, 'print(h.pread(4097, 8191) == b"\\0" + b"x" * 4096)');
    expect(read.stdout).toBe('True\n');
    expect(again.server.log).not.toContain('volume created');
    expect(await again.server.stop()).toBe(0);
    expect((await elasticdrive('status')).status).toBe(10);
  });

  it('is one for each state directory, also after it was killed', async () => {
    const first = await serve([]);
    await using _ = first.server;
    const second = await elasticdrive('serve');
    expect(second.status).toBe(11);
    expect(second.stderr).toContain(`is in use by the process ${first.server.pid}`);
    await first.server.stop('SIGKILL');
    const third = await serve([]);
    await using __ = third.server;
    expect(await third.server.stop('SIGINT')).toBe(0);
  });

  it('answers a machine in JSON', async () => {
    const { server, uri } = await serve(['--json']);
    await using _ = server;
    const [line = ''] = server.log.split('\n').filter((each) => each.includes('"listening"'));
    expect(JSON.parse(line)).toMatchObject({
      pid: server.pid,
      listening: [uri],
      volumes: [{ name: 'drive0', uris: [`${uri}/drive0`] }],
    });
    expect(await server.stop()).toBe(0);
  });

  it('says what keeps it from listening', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const address = taken.address();
    const port = address === null || typeof address === 'string' ? 0 : address.port;
    const refused = await elasticdrive('serve', '--listen', `nbd://127.0.0.1:${port}`);
    taken.close();
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain('another process listens there');
    const nowhere = await elasticdrive('serve', '--listen', 'nbd+unix:///no/such/directory/s');
    expect(nowhere.status).toBe(1);
    expect(nowhere.stderr).toContain('nbd+unix:///no/such/directory/s: its directory is not there');
  });

  it('takes the place of a socket that a killed daemon left, and of no other', async (context) => {
    requireClients(context);
    const listen = ['--listen', `nbd+unix://${root.join('s')}`, '--listen', 'nbd://127.0.0.1:0'];
    const first = await serve(listen);
    await using _ = first.server;
    const other = await elasticdrive('serve', ...listen, '--state-dir', root.join('other'));
    expect(other.stderr).toContain('another process listens there');
    await first.server.stop('SIGKILL');
    const second = await serve(listen);
    await using __ = second.server;
    const uri = `nbd+unix:///drive0?socket=${root.join('s')}`;
    expect((await run('nbdinfo', ['--size', uri])).stdout).toBe(`${10 * 2 ** 30}\n`);
    expect(await second.server.stop()).toBe(0);
  });
});

describe('serve with a store', () => {
  it('serves its volumes by name, with state among that of the user', async (context) => {
    requireClients(context);
    const store = ['--store', root.join('disks')];
    for (const name of ['a', 'b']) {
      expect((await elasticdrive('volume', 'create', name, '--size', '1M', ...store)).status).toBe(
        0,
      );
    }
    const { server, uri } = await serve(store);
    await using _ = server;
    expect((await run('nbdinfo', ['--size', `${uri}/b`])).stdout).toBe(`${2 ** 20}\n`);
    for (const [name, reason] of [
      ['', 'there are several volumes and no default_volume is set'],
      ['c', 'there is no volume \\"c\\"'],
    ]) {
      await run('nbdinfo', ['--size', `${uri}/${name}`], { statuses: [1] });
      expect(server.log).toContain(reason);
    }
    const { stateDirectory } = JSON.parse((await elasticdrive('status', '--json')).stdout) as {
      stateDirectory: string;
    };
    expect(stateDirectory).toBe(root.join('.local', 'state', 'elasticdrive'));
    expect((await stat(stateDirectory)).mode & 0o777).toBe(0o700);
    const held = await elasticdrive('volume', 'delete', 'b', '--confirm', 'b', ...store);
    expect(held.status).toBe(11);
    expect(await server.stop()).toBe(0);
    const deleted = await elasticdrive('volume', 'delete', 'b', '--confirm', 'b', ...store);
    expect(deleted.status).toBe(0);
    const { stdout } = await elasticdrive('volume', 'list', '--json', ...store);
    expect(JSON.parse(stdout)).toMatchObject([{ name: 'a', sizeBytes: 2 ** 20 }]);
  });

  it('refuses a name that two stores have', async (context) => {
    requireClients(context);
    const stores = ['one', 'two'].map((name) => ['--store', root.join(name)]);
    for (const store of stores) {
      await elasticdrive('volume', 'create', 'v', '--size', '1M', ...store);
    }
    const { server, uri } = await serve(stores.flat());
    await using _ = server;
    await run('nbdinfo', ['--size', `${uri}/v`], { statuses: [1] });
    expect(server.log).toContain('two stores have a volume \\"v\\"');
    expect(await server.stop()).toBe(0);
  });

  it('leaves at once on a second signal, and finds what was flushed', async (context) => {
    requireClients(context);
    const { server, uri } = await serve([]);
    await using _ = server;
    await nbdsh(uri, 'h.pwrite(b"f" * 65536, 0)\nh.flush()\nh.shutdown()');
    // A store that is gone keeps the daemon from uploading, and so from stopping in order.
    const store = root.join('elasticdrive-data', 'store');
    await rename(store, `${store}.away`);
    await writeFile(store, '');
    process.kill(server.pid, 'SIGTERM');
    await server.until(() => (server.log.includes('stopping') ? true : undefined));
    expect(await server.stop('SIGTERM')).toBe(1);
    expect(server.log).toContain('leaving at once');
    await rm(store);
    await rename(`${store}.away`, store);
    const again = await serve([]);
    await using __ = again.server;
    const read = await nbdsh(again.uri, 'print(h.pread(65536, 0) == b"f" * 65536)');
    expect(read.stdout).toBe('True\n');
    expect(await again.server.stop()).toBe(0);
  });
});

describe('serve with the INI file of the first ElasticDrive', () => {
  /** As the first README shows it, but for the keys, a bucket and a port of the test's own. */
  const file = (given: Record<'id' | 'secret' | 'bucket' | 'port' | 'endpoint', string>) => `[s3]
AWS_ACCESS_KEY_ID = ${given.id}
AWS_SECRET_ACCESS_KEY = ${given.secret}
BUCKET=${given.bucket}
#Stripe is the block device stripe size. 65536 is recommended.
#This is NOT the same as the block size
STRIPE=65536
#Volumesize is expressed in bytes, and should be a multiple of STRIPE
VOLUMESIZE=16777216
ENDPOINT=${given.endpoint}

[server]
#PORT to listen on
port=${given.port}
#Show a ludicrous amount of debug data in the logs?
debug=0
#cachesize is the max number of stripe elements to cache. 32 is about #2M here. We recommend large caches to prevent blocking the device.
cachesize=1024
#The amount of time to store a local cache stripe. 60 is a good default.
cachettl=60
`;

  it('makes bucket and volume, and serves it as the default export', async (context) => {
    requireClients(context);
    const missing = missingRgw();
    context.skip(missing !== undefined, missing);
    const { endpoint, accessKeyId: id, secretAccessKey: secret } = await sharedS3();
    const bucket = `the.name.of.the.bucket.${randomBytes(6).toString('hex')}`;
    const port = String(await freePort());
    await writeFile(root.join('config.ini'), file({ id, secret, bucket, port, endpoint }));
    await chmod(root.join('config.ini'), 0o600);
    const environment = { ELASTICDRIVE_LISTEN: '', AWS_ACCESS_KEY_ID: '', AWS_PROFILE: '' };
    const first = await serve(['--config', 'config.ini'], environment);
    await using _ = first.server;
    expect(first.port).toBe(port);
    expect((await run('nbdinfo', ['--size', first.uri])).stdout).toBe('16777216\n');
    await nbdsh(first.uri, 'h.pwrite(b"2007" * 1024, 4096)\nh.shutdown()');
    expect(await first.server.stop()).toBe(0);
    const elsewhere = { ...environment, ELASTICDRIVE_STATE_DIR: root.join('elsewhere') };
    const second = await serve(['--config', 'config.ini'], elsewhere);
    await using __ = second.server;
    const read = await nbdsh(second.uri, 'print(h.pread(4096, 4096) == b"2007" * 1024)');
    expect(read.stdout).toBe('True\n');
    expect(await second.server.stop()).toBe(0);
    for (const log of [first.server.log, second.server.log]) expect(log).not.toContain(secret);
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = address === null || typeof address === 'string' ? 0 : address.port;
  server.close();
  await once(server, 'close');
  return port;
}
