import { readFile, readlink, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BlockServer } from '../host/daemon.ts';
import { formatListenAddress, type ListenAddress } from '../host/listen-address.ts';
import type { ExportCatalog } from '../nbd/export-catalog.ts';
import type { NbdLimits } from '../nbd/limits.ts';
import { createNbdServer, type NbdServer } from '../nbd/server.ts';

const connectMs = 5_000;
const keepAliveAfterMs = 10_000;

/** The NBD server as the daemon knows it: addresses with a kind, failures with a code. */
export function createNbdFront(
  catalog: ExportCatalog,
  limits: Partial<NbdLimits>,
  clock: Clock,
  log: Log,
): BlockServer {
  const server = createNbdServer({ catalog, clock, log, limits });
  return {
    listen: (address) => listen(server, address),
    adopt: (fd) => adopt(server, fd),
    drain: () => server.drain(),
    disconnect: (volume) => server.disconnect(volume),
    close: () => server.close(),
    clients: () => server.clients().map(({ peer, exportName }) => ({ peer, volume: exportName })),
  };
}

async function listen(server: NbdServer, address: ListenAddress): Promise<ListenAddress> {
  try {
    if (address.kind === 'unix') {
      await removeDeadSocket(address.path);
      await server.listen({ path: address.path });
      return address;
    }
    const bound = await server.listen({ host: address.host, port: address.port });
    return 'port' in bound ? { ...address, port: bound.port } : address;
  } catch (error) {
    throw listenError(address, error);
  }
}

async function adopt(server: NbdServer, fd: number): Promise<ListenAddress> {
  try {
    const bound = await server.listen({ fd });
    if ('port' in bound) return { kind: 'tcp', ...bound };
    return { kind: 'unix', path: await pathOfSocket(fd) };
  } catch (cause) {
    const { message } = cause as Error;
    const said = `cannot use the socket that was passed as ${fd}: ${message}`;
    throw new StorageError('local-io', said, { cause });
  }
}

/** Where a Unix socket lies in the file system, as the kernel tells it. */
async function pathOfSocket(fd: number): Promise<string> {
  const inode = /\[(\d+)\]/.exec(await readlink(`/proc/self/fd/${fd}`))?.[1];
  const sockets = await readFile('/proc/net/unix', 'utf8');
  return new RegExp(` ${inode} (/.*)$`, 'm').exec(sockets)?.[1] ?? `/proc/self/fd/${fd}`;
}

function listenError(address: ListenAddress, cause: unknown): StorageError {
  const where = formatListenAddress(address);
  const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE: 'another process listens there: stop it, or choose another address with --listen',
    // Node says this of a missing directory too.
    EACCES:
      address.kind === 'unix'
        ? 'its directory is not there, or this user may not write to it'
        : 'this user may not: choose a port above 1023 with --listen',
    EADDRNOTAVAIL: 'this machine has no such address',
  };
  const message = `cannot listen on ${where}: ${reasons[code] ?? code}`;
  return new StorageError('local-io', message, { cause });
}

/** A socket that nobody answers is what a process that was killed left behind. */
async function removeDeadSocket(path: string): Promise<void> {
  const code = await new Promise<string | undefined>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(undefined);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code));
  });
  if (code === 'ECONNREFUSED') await rm(path, { force: true });
}

/** A connection to an NBD server; rejects as the system does. */
export function connectTo(address: ListenAddress): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket =
      address.kind === 'unix' ? connect(address.path) : connect(address.port, address.host);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, keepAliveAfterMs);
    socket.once('error', reject);
    // Without it a machine that is off would be asked ever more rarely.
    socket.setTimeout(connectMs, () => socket.destroy(new Error('does not answer')));
    socket.once('connect', () => {
      socket.setTimeout(0);
      socket.off('error', reject);
      resolve(socket);
    });
  });
}
