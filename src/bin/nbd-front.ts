import { readFile, readlink, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BlockServer } from '../host/daemon.ts';
import { formatListenAddress, type ListenAddress } from '../host/listen-address.ts';
import { guardCatalog } from '../host/access.ts';
import { TlsFileReader, tlsModeOf } from '../host/tls-files.ts';
import type { TlsSettings } from '../cli/tls-settings.ts';
import type { ExportCatalog } from '../nbd/export-catalog.ts';
import type { NbdLimits } from '../nbd/limits.ts';
import { createNbdServer, type NbdServer } from '../nbd/server.ts';
import { createTlsUpgrade, type TlsPolicy } from '../nbd/tls.ts';

const connectMs = 5_000;
const keepAliveAfterMs = 10_000;

/** What may be chosen of the NBD server. */
export interface FrontSettings {
  readonly limits: Partial<NbdLimits>;
  readonly tls: TlsSettings;
  /** As in `NbdServerOptions`. */
  readonly busyPoll: boolean;
}

/** The NBD server as the daemon knows it: addresses with a kind, failures with a code. */
export function createNbdFront(
  volumes: ExportCatalog,
  { limits, tls, busyPoll }: FrontSettings,
  clock: Clock,
  log: Log,
): BlockServer {
  const { mode, files, access } = tls;
  const catalog = access === undefined ? volumes : guardCatalog(volumes, access);
  const reader = files === undefined ? undefined : new TlsFileReader(files, log);
  const upgrade = reader === undefined ? undefined : createTlsUpgrade(() => reader.read());
  const server = createNbdServer({ catalog, clock, log, limits, upgrade, busyPoll });
  const policyOf = (address: ListenAddress): TlsPolicy => {
    const wanted = tlsModeOf(address, mode, files);
    if (wanted !== 'off') return wanted;
    return files === undefined ? 'unsupported' : 'forbidden';
  };
  return {
    listen: async (address) => {
      // What is wrong with the files, or the address, is said before anybody comes.
      policyOf(address);
      await reader?.read();
      return listen(server, address, policyOf);
    },
    adopt: async (fd) => {
      await reader?.read();
      return adopt(server, fd, policyOf);
    },
    drain: () => server.drain(),
    disconnect: (volume) => server.disconnect(volume),
    close: () => server.close(),
    clients: () => server.clients().map(({ peer, exportName }) => ({ peer, volume: exportName })),
  };
}

type PolicyOf = (address: ListenAddress) => TlsPolicy;

async function listen(
  server: NbdServer,
  address: ListenAddress,
  policyOf: PolicyOf,
): Promise<ListenAddress> {
  const policy = (): TlsPolicy => policyOf(address);
  try {
    if (address.kind === 'unix') {
      await removeDeadSocket(address.path);
      await server.listen({ path: address.path }, policy);
      return address;
    }
    const bound = await server.listen({ host: address.host, port: address.port }, policy);
    return 'port' in bound ? { ...address, port: bound.port } : address;
  } catch (error) {
    throw listenError(address, error);
  }
}

async function adopt(server: NbdServer, fd: number, policyOf: PolicyOf): Promise<ListenAddress> {
  try {
    const bound = await server.listen({ fd }, (actual) =>
      policyOf('port' in actual ? { kind: 'tcp', ...actual } : { kind: 'unix', path: '' }),
    );
    if ('port' in bound) return { kind: 'tcp', ...bound };
    return { kind: 'unix', path: await pathOfSocket(fd) };
  } catch (cause) {
    if (isStorageError(cause)) throw cause;
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
