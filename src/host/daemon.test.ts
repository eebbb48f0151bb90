import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BlockDevice } from '../base/block-device.ts';
import { systemClock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import { askControl, findControlSocket } from './control-socket.ts';
import { type BlockServer, type Daemon, type DaemonOptions, startDaemon } from './daemon.ts';
import type { MeteredDevice } from './metered-device.ts';
import type { DaemonStatus } from './status.ts';
import { MemorySource } from './testing/memory-source.ts';
import type { OpenVolume } from './open-volume.ts';

let root: string;
let state: string;
let source: MemorySource;
let calls: string[];
const running: Daemon[] = [];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'elasticdrive-daemon-'));
  state = join(root, 'state');
  source = new MemorySource('s3://a', ['v']);
  calls = [];
});
afterEach(async () => {
  for (const daemon of running.splice(0)) await daemon.stop().catch(() => undefined);
  await rm(root, { recursive: true });
});

function server(): BlockServer {
  const call = (name: string): Promise<void> => {
    calls.push(name);
    return Promise.resolve();
  };
  return {
    listen: (address) => Promise.resolve({ ...address, port: 4711 }),
    adopt: (fd) => Promise.resolve({ kind: 'unix', path: `/passed/${fd}` }),
    drain: () => call('drain'),
    disconnect: (volume) => call(`disconnect ${volume}`),
    close: () => call('close'),
    clients: () => [{ peer: '127.0.0.1:5', volume: 'v' }],
  };
}

async function start(changes: Partial<DaemonOptions> = {}): Promise<Daemon> {
  const daemon = await startDaemon({
    version: '1.2.3',
    stateDirectory: state,
    controlSocketPath: undefined,
    listen: [{ kind: 'tcp', host: '127.0.0.1', port: 0 }],
    passedSockets: [],
    defaultVolume: undefined,
    openSources: () => Promise.resolve([source]),
    createServer: server,
    clock: systemClock,
    log: silentLog,
    ...changes,
  });
  running.push(daemon);
  return daemon;
}

/** The device that a client's requests come to, behind the one that counts them. */
function deviceOf({ device }: OpenVolume): BlockDevice {
  return (device as MeteredDevice).device;
}

async function ask(): Promise<DaemonStatus> {
  return (await askControl(await findControlSocket(state), '/status')) as DaemonStatus;
}

describe('a daemon', () => {
  it('listens on the sockets that it was passed, and then on no other', async () => {
    const { addresses } = await start({ passedSockets: [3, 4] });
    expect(addresses).toEqual([
      { kind: 'unix', path: '/passed/3' },
      { kind: 'unix', path: '/passed/4' },
    ]);
  });

  it('tells its status over the control socket, to its user alone', async () => {
    const daemon = await start();
    await daemon.catalog.open('v');
    expect(await ask()).toMatchObject({
      version: '1.2.3',
      pid: process.pid,
      stopping: false,
      stateDirectory: state,
      listening: ['nbd://127.0.0.1:4711'],
      clients: [{ peer: '127.0.0.1:5', volume: 'v' }],
      volumes: [
        {
          name: 'v',
          store: 's3://a',
          sizeBytes: 2 ** 20,
          readOnly: false,
          clients: 1,
          dirtyBytes: 8192,
          dirtyAgeMs: 1500,
          cacheHits: 3,
          cacheMisses: 1,
        },
      ],
      stores: [{ url: 's3://a', requests: { get: 7 }, errors: 1, bytesReceived: 42 }],
    });
    expect((await stat(daemon.controlSocketPath)).mode & 0o777).toBe(0o600);
  });

  it('stops from the clients inward and leaves no socket behind', async () => {
    const daemon = await start();
    await daemon.catalog.open('v');
    await Promise.all([daemon.stop(), daemon.stop()]);
    expect(calls).toEqual(['drain', 'close']);
    expect(source.attachments[0]!.end).toBe('closed');
    expect(source.closed).toBe(true);
    expect(await readdir(state)).toEqual(['daemon.lock']);
    expect(await ask()).toBe(undefined);
  });

  it('gives everything else up when a volume cannot be closed', async () => {
    const daemon = await start();
    await daemon.catalog.open('v');
    source.attachments[0]!.closeError = new StorageError('store-unavailable', 'no answer');
    await expect(daemon.stop()).rejects.toThrow('no answer');
    expect(source.closed).toBe(true);
    await start();
  });

  it('shares its state directory with no other', async () => {
    await start();
    await expect(start()).rejects.toMatchObject({ code: 'held' });
    expect((await ask()).pid).toBe(process.pid);
  });

  it('undoes its start when it cannot listen', async () => {
    const failing = { ...server(), listen: () => Promise.reject(new Error('in use')) };
    await expect(start({ createServer: () => failing })).rejects.toThrow('in use');
    expect(source.closed).toBe(true);
    await start();
  });

  it('takes over the socket of one that was killed', async () => {
    await mkdir(state);
    const dead = createServer().listen(join(state, 'control.sock'));
    await new Promise((resolve) => dead.once('listening', resolve));
    await start();
    expect((await ask()).pid).toBe(process.pid);
    dead.close();
  });
});

describe('the control socket', () => {
  const post = (daemon: Daemon, path: string): Promise<unknown> =>
    askControl(daemon.controlSocketPath, path, 'POST');

  it('detaches a volume, its clients first, and attaches it again', async () => {
    const daemon = await start();
    await daemon.catalog.open('v');
    expect(await post(daemon, '/detach?volume=v')).toEqual({ detached: 'v', wasAttached: true });
    expect(calls).toEqual(['disconnect v']);
    expect(source.attachments[0]!.end).toBe('closed');
    await expect(daemon.catalog.open('v')).rejects.toMatchObject({ code: 'held' });
    expect(await post(daemon, '/attach?volume=v&take_over=now')).toEqual({ attached: 'v' });
    expect(source.takeOvers).toEqual(['never', 'now']);
    expect(deviceOf(await daemon.catalog.open('v'))).toBe(source.attachments[1]);
  });

  it('refuses what it does not understand', async () => {
    const daemon = await start();
    await expect(post(daemon, '/detach')).rejects.toMatchObject({ code: 'usage' });
    await expect(post(daemon, '/attach?volume=v&take_over=x')).rejects.toMatchObject({
      code: 'usage',
    });
    await expect(post(daemon, '/detach?volume=w')).rejects.toMatchObject({ code: 'not-found' });
  });

  it('is found where its path would be too long for a socket', async () => {
    state = join(root, 'long'.repeat(30));
    const daemon = await start();
    expect(Buffer.byteLength(daemon.controlSocketPath)).toBeLessThan(108);
    expect((await ask()).pid).toBe(process.pid);
    await daemon.stop();
    await expect(stat(dirname(daemon.controlSocketPath))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('is found where it was put', async () => {
    const daemon = await start({ controlSocketPath: join(root, 'c.sock') });
    expect(daemon.controlSocketPath).toBe(join(root, 'c.sock'));
    expect((await ask()).pid).toBe(process.pid);
    await daemon.stop();
    expect((await readdir(root)).sort()).toEqual(['state']);
  });

  it('answers what it does not know with an error', async () => {
    const daemon = await start();
    await expect(askControl(daemon.controlSocketPath, '/else')).rejects.toMatchObject({
      code: 'not-found',
      message: 'there is nothing to GET at /else',
    });
  });
});
