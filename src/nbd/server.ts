import { createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { BusyPoll } from './busy-poll.ts';
import { ByteBudget } from './byte-budget.ts';
import { Connection } from './connection.ts';
import { createReceivePool, pooledClient, streamClient } from './client-socket.ts';
import type { ExportCatalog } from './export-catalog.ts';
import { type NbdLimits, nbdLimits } from './limits.ts';
import { BatchPool } from './reply-writer.ts';
import type { TlsPolicy, TlsUpgrade } from './tls.ts';
import type { SessionCounters } from './transmission.ts';

/** `port` 0 lets the kernel choose. */
export type ListenAddress =
  | { readonly host: string; readonly port: number }
  | { readonly path: string };

/** A socket that listens already, opened by whoever started this process. */
export interface PassedSocket {
  readonly fd: number;
}

export interface NbdServerOptions {
  readonly catalog: ExportCatalog;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: Partial<NbdLimits>;
  /** Without it, no listener can offer TLS. */
  readonly upgrade?: TlsUpgrade | undefined;
  /** Look for the next request of a prompt client for a moment before the loop sleeps. */
  readonly busyPoll?: boolean;
}

export interface NbdClient {
  readonly peer: string;
  /** Undefined during the handshake. */
  readonly exportName: string | undefined;
  readonly counters: Readonly<SessionCounters> | undefined;
}

export interface NbdServer {
  /** May be called for several addresses. Returns the actual one; fails as the system does. */
  listen<A extends ListenAddress | PassedSocket>(
    address: A,
    tlsPolicyOf?: (actual: A | ListenAddress) => TlsPolicy,
  ): Promise<A | ListenAddress>;
  clients(): NbdClient[];
  /** Bytes that all connections together hold, of `inFlightBytesTotal`. */
  inFlightBytes(): number;
  /**
   * Takes no new connections and requests, answers those under way, closes the connections and
   * resolves when every export was let go. `close` cuts it short.
   */
  drain(): Promise<void>;
  /** Does as `drain` for the clients of one export; new ones may come. */
  disconnect(exportName: string): Promise<void>;
  /** Closes all at once. Requests under way settle in their own time; nobody is told. */
  close(): Promise<void>;
}

const keepAliveAfterMs = 60_000;

export function createNbdServer(options: NbdServerOptions): NbdServer {
  return new ListeningServer(options);
}

class ListeningServer implements NbdServer {
  private readonly options: NbdServerOptions;
  private readonly limits: NbdLimits;
  private readonly budget: ByteBudget;
  private readonly pool = new BatchPool();
  private readonly busyPoll: BusyPoll | undefined;
  private readonly receivePool = createReceivePool();
  private readonly servers = new Set<Server>();
  /** Those with an open socket. */
  private readonly open = new Set<Connection>();
  /** Those and the ones whose requests still settle. */
  private readonly unreleased = new Set<Connection>();
  private shuttingDown = false;

  constructor(options: NbdServerOptions) {
    this.options = options;
    this.limits = nbdLimits(options.limits);
    this.budget = new ByteBudget(options.clock, this.limits.inFlightBytesTotal);
    this.busyPoll = options.busyPoll === true ? new BusyPoll(options.clock) : undefined;
  }

  async listen<A extends ListenAddress | PassedSocket>(
    address: A,
    tlsPolicyOf: (actual: A | ListenAddress) => TlsPolicy = () => 'unsupported',
  ): Promise<A | ListenAddress> {
    const server = createServer({
      // A client may send all it has, close its half and still read the answers.
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: keepAliveAfterMs,
      pauseOnConnect: true,
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(address, () => {
        server.off('error', reject);
        resolve();
      });
    });
    server.on('error', (error) => {
      this.options.log.error('listening failed', { error: error.message });
    });
    this.servers.add(server);
    const bound = server.address();
    // Of a Unix socket that was passed Node does not know the path.
    const isNamed = bound !== null && typeof bound !== 'string';
    const actual = isNamed ? { host: bound.address, port: bound.port } : address;
    const tls = tlsPolicyOf(actual);
    server.on('connection', (socket) => this.connected(socket, address, tls));
    return actual;
  }

  clients(): NbdClient[] {
    return [...this.open].map((connection) => ({
      peer: connection.peer,
      exportName: connection.status?.exportName,
      counters: connection.status?.counters,
    }));
  }

  inFlightBytes(): number {
    return this.budget.heldBytes;
  }

  async drain(): Promise<void> {
    this.shuttingDown = true;
    this.stopListening();
    for (const connection of this.open) connection.drain();
    await Promise.all([...this.unreleased].map((connection) => connection.released));
  }

  async disconnect(exportName: string): Promise<void> {
    const all = [...this.unreleased];
    const theirs = all.filter((connection) => connection.status?.exportName === exportName);
    for (const connection of theirs) connection.drain();
    await Promise.all(theirs.map((connection) => connection.released));
  }

  async close(): Promise<void> {
    this.shuttingDown = true;
    this.stopListening();
    const closing = [...this.open];
    for (const connection of closing) connection.destroy();
    await Promise.all(closing.map((connection) => connection.closed));
  }

  private stopListening(): void {
    for (const server of this.servers) server.close();
    this.servers.clear();
  }

  private connected(socket: Socket, address: ListenAddress | PassedSocket, tls: TlsPolicy): void {
    const { log, catalog, clock, upgrade } = this.options;
    const peer =
      socket.remoteAddress === undefined
        ? `unix:${'path' in address ? address.path : ''}`
        : `${socket.remoteAddress}:${socket.remotePort}`;
    if (this.shuttingDown || this.open.size >= this.limits.connections) {
      log.warn('connection refused', { peer, reason: 'too many connections, or shutting down' });
      socket.on('error', () => undefined);
      socket.destroy();
      return;
    }
    // TLS takes a socket over as Node accepted it.
    const offersTls = tls === 'allowed' || tls === 'required';
    const client = offersTls ? streamClient(socket) : pooledClient(socket, this.receivePool);
    const connection = new Connection(client, peer, {
      catalog,
      clock,
      log,
      limits: this.limits,
      budget: this.budget,
      pool: this.pool,
      tls,
      upgrade,
      busyPoll: this.busyPoll,
      maximumRequestBytes: this.limits.maximumRequestBytes,
      maximumContexts: this.limits.metaContexts,
      isShuttingDown: () => this.shuttingDown,
    });
    this.open.add(connection);
    this.unreleased.add(connection);
    void connection.closed.then(() => this.open.delete(connection));
    void connection.released.then(() => this.unreleased.delete(connection));
  }
}
