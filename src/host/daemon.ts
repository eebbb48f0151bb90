import { type Clock, isoTime } from '../base/clock.ts';
import { toStorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { TakeOver } from '../volume/take-over.ts';
import { controlRoutes } from './control-routes.ts';
import { type ControlServer, serveControl } from './control-socket.ts';
import { formatListenAddress, type ListenAddress } from './listen-address.ts';
import { lockStateDirectory, type StateLock } from './state-lock.ts';
import { LoopDelayMeter } from './loop-delay.ts';
import { formatMetricsAddress, type MetricsAddress } from './metrics-address.ts';
import { type MetricsServer, serveMetrics } from './metrics-server.ts';
import { SnapshotSchedules } from './snapshot-schedules.ts';
import type { ClientStatus, DaemonStatus } from './status.ts';
import { VolumeCatalog } from './volume-catalog.ts';
import type { VolumeSource } from './volume-source.ts';

/** What brings requests to the volumes; made for a catalog by whoever knows the protocol. */
export interface BlockServer {
  /** Resolves with the address that it got: a real port where port 0 was asked for. */
  listen(address: ListenAddress): Promise<ListenAddress>;
  /** Listens on a socket that was passed to this process; resolves with its address. */
  adopt(fd: number): Promise<ListenAddress>;
  /** Takes no more requests and resolves when those under way are answered. */
  drain(): Promise<void>;
  /** Does so for the clients of one volume, which are disconnected then. */
  disconnect(volume: string): Promise<void>;
  /** Drops what is left. */
  close(): Promise<void>;
  clients(): readonly ClientStatus[];
}

export interface DaemonOptions {
  readonly version: string;
  readonly stateDirectory: string;
  /** `undefined`: in the state directory. */
  readonly controlSocketPath: string | undefined;
  readonly listen: readonly ListenAddress[];
  /** Descriptors of sockets that listen already; used instead of `listen`, if there are any. */
  readonly passedSockets: readonly number[];
  /** Where metrics are served; nowhere when not given. */
  readonly metrics?: MetricsAddress | undefined;
  readonly defaultVolume: string | undefined;
  /** Called when the state directory is this daemon's. */
  openSources(stateDirectory: string): Promise<readonly VolumeSource[]>;
  createServer(catalog: VolumeCatalog): BlockServer;
  /** How a client's wish for a volume that another writer has is met. */
  readonly takeOver?: (volume: string) => TakeOver;
  /** When snapshots of a volume are made by themselves; never, when not given. */
  readonly schedulesOf?: (volume: string) => readonly string[];
  /** Done before anybody is listened to. */
  prepare?(catalog: VolumeCatalog): Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Daemon {
  readonly addresses: readonly ListenAddress[];
  readonly controlSocketPath: string;
  readonly catalog: VolumeCatalog;
  status(): DaemonStatus;
  /**
   * Answers what is under way, uploads everything, makes checkpoints, gives the volumes and the
   * state directory up. Rejects when a volume could not be closed, after the rest is done.
   */
  stop(): Promise<void>;
}

/** Everything that runs, in the order in which it was started. */
interface Parts {
  readonly meter: LoopDelayMeter;
  lock?: StateLock;
  sources: readonly VolumeSource[];
  catalog?: VolumeCatalog;
  server?: BlockServer;
  control?: ControlServer;
  metrics?: MetricsServer;
  schedules?: SnapshotSchedules;
}

/** Starts to serve. What had been started is stopped again when a later part fails to. */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const parts: Parts = { meter: new LoopDelayMeter(), sources: [] };
  try {
    return await start(options, parts);
  } catch (error) {
    await stopParts(parts).catch(() => undefined);
    throw error;
  }
}

async function start(options: DaemonOptions, parts: Parts): Promise<Daemon> {
  const { stateDirectory, clock, log } = options;
  const startedMs = clock.monotonicMs();
  const startedAt = isoTime(clock.wallMs());
  parts.lock = await lockStateDirectory(stateDirectory);
  const sources = await options.openSources(stateDirectory);
  parts.sources = sources;
  const catalog: VolumeCatalog = new VolumeCatalog({
    sources,
    defaultVolume: options.defaultVolume,
    takeOver: options.takeOver ?? (() => 'never'),
    disconnect: (volume) => server.disconnect(volume),
    clock,
    log,
  });
  parts.catalog = catalog;
  const server = options.createServer(catalog);
  parts.server = server;
  const addresses: ListenAddress[] = [];
  let stopping: Promise<void> | undefined;
  const status = (): DaemonStatus => ({
    version: options.version,
    pid: process.pid,
    startedAt,
    uptimeMs: Math.round(clock.monotonicMs() - startedMs),
    stopping: stopping !== undefined,
    residentBytes: process.memoryUsage.rss(),
    loopDelay: parts.meter.read(),
    stateDirectory,
    listening: addresses.map(formatListenAddress),
    metrics: parts.metrics && formatMetricsAddress(parts.metrics.address),
    volumes: volumeStatus(catalog),
    snapshots: snapshotStatus(catalog),
    clients: server.clients(),
    stores: sources.map((source) => ({ url: source.url, ...source.statistics() })),
  });
  parts.control = await serveControl(
    stateDirectory,
    options.controlSocketPath,
    controlRoutes(status, catalog),
  );
  if (options.metrics !== undefined) parts.metrics = await serveMetrics(options.metrics, status);
  await options.prepare?.(catalog);
  const { listen, passedSockets } = options;
  for (const fd of passedSockets) addresses.push(await server.adopt(fd));
  // Whoever passes sockets has opened all that are to be.
  if (passedSockets.length === 0) {
    for (const address of listen) addresses.push(await server.listen(address));
  }
  parts.schedules = new SnapshotSchedules({
    attached: () => catalog.attached(),
    schedulesOf: options.schedulesOf ?? (() => []),
    zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
    ...{ clock, log },
  });
  parts.schedules.start();
  parts.meter.start();
  return {
    addresses,
    controlSocketPath: parts.control.socketPath,
    catalog,
    status,
    stop: () => (stopping ??= stopParts(parts)),
  };
}

function volumeStatus(catalog: VolumeCatalog): DaemonStatus['volumes'] {
  return catalog.attached().map(({ name, store, volume, clients, requests }) => {
    const statistics = volume.statistics();
    return {
      ...statistics,
      dirtyAgeMs: Math.round(statistics.dirtyAgeMs),
      name,
      store,
      sizeBytes: volume.sizeBytes,
      readOnly: volume.readOnly,
      clients,
      requests,
    };
  });
}

function snapshotStatus(catalog: VolumeCatalog): DaemonStatus['snapshots'] {
  return catalog.versions().map(({ name, store, volume, clients, requests }) => {
    const { cacheHits, cacheMisses } = volume.statistics();
    const { sizeBytes } = volume;
    return { name, store, sizeBytes, clients, requests, cacheHits, cacheMisses };
  });
}

/** Stops from the clients inward; each part is stopped even when one before it failed. */
async function stopParts(parts: Parts): Promise<void> {
  const { meter, server, catalog, control, metrics, schedules, sources, lock } = parts;
  const failures: unknown[] = [];
  const attempt = async (stop: (() => Promise<void>) | undefined): Promise<void> => {
    try {
      await stop?.();
    } catch (error) {
      failures.push(error);
    }
  };
  await attempt(server && (() => server.drain()));
  await attempt(schedules && (() => schedules.stop()));
  await attempt(catalog && (() => catalog.close()));
  await attempt(server && (() => server.close()));
  await attempt(control && (() => control.close()));
  await attempt(metrics && (() => metrics.close()));
  for (const source of sources) await attempt(() => source.close());
  await attempt(lock && (() => lock.release()));
  meter.stop();
  if (failures.length > 0) throw toStorageError(failures[0]);
}
