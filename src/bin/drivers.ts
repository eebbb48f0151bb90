import { realpathSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { buffer } from 'node:stream/consumers';
import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import type { Drivers, OpenStore, StoreRequest } from '../cli/drivers.ts';
import { tlsSettingsOf } from '../cli/tls-settings.ts';
import type { StoreStatistics } from '../host/volume-source.ts';
import { createLocalDisk } from '../store/local-disk.ts';
import { openStore, parseStoreUrl } from '../store/open-store.ts';
import type { StoreMetrics } from '../store/with-metrics.ts';
import { connectTo, createNbdFront } from './nbd-front.ts';
import { notifySystemd } from './notify.ts';
import { lastingFlags } from './server-flags.ts';
import { volumeSources } from './volume-sources.ts';

/** The drivers of this machine. */
export function systemDrivers(
  clock: Clock,
  random: Random,
  environment: Readonly<Record<string, string | undefined>>,
): Drivers {
  const sourceOf = volumeSources(clock, random);
  // It can be read once only, and several stores may ask for it.
  let standardInput: Promise<Uint8Array> | undefined;
  return {
    clock,
    random,
    openStore: (request) => open(request, clock, random, environment),
    createSource: sourceOf,
    connect: connectTo,
    openDisk: createLocalDisk,
    command: [realpathSync(process.execPath), ...lastingFlags, realpathSync(process.argv[1] ?? '')],
    pid: process.pid,
    userId: process.getuid?.(),
    readStandardInput: () => (standardInput ??= buffer(process.stdin)),
    notify: notifySystemd,
    writeFile,
    createServer: (catalog, settings, log) =>
      createNbdFront(
        catalog,
        {
          limits: {
            connections: settings['limits.connections'],
            inFlightBytesTotal: settings['limits.in_flight'],
          },
          tls: tlsSettingsOf(settings),
          // With one processor the client could not even ask while its request is looked for.
          busyPoll: settings['limits.busy_poll'] && availableParallelism() > 1,
        },
        clock,
        log,
      ),
  };
}

async function open(
  { url, settings, credentials, createBucket, log }: StoreRequest,
  clock: Clock,
  random: Random,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<OpenStore> {
  const location = parseStoreUrl(url);
  // A certificate for `*.s3.amazonaws.com` does not hold for a name with more dots before that.
  const dotted = location.kind === 's3' && location.bucket.includes('.') ? true : undefined;
  const s3 = {
    endpoint: settings['s3.endpoint'],
    region: settings['s3.region'],
    pathStyle: settings['s3.path_style'] ?? dotted,
    storageClass: settings['s3.storage_class'],
    caFile: settings['s3.ca_file'],
    credentials,
  };
  const store = await openStore(url, {
    clock,
    random,
    log,
    environment,
    s3: { ...withoutUndefined(s3), createBucket },
  });
  return { store, statistics: () => storeStatistics(store.snapshot()) };
}

/** The options that were given: an absent one lets the environment speak. */
function withoutUndefined<T extends object>(
  options: T,
): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given) as { [K in keyof T]?: Exclude<T[K], undefined> };
}

function storeStatistics({ inFlight, operations }: StoreMetrics): StoreStatistics {
  const all = Object.entries(operations);
  const sum = (
    of: (metrics: StoreMetrics['operations'][keyof StoreMetrics['operations']]) => number,
  ) => all.reduce((total, [, metrics]) => total + of(metrics), 0);
  return {
    requests: Object.fromEntries(all.map(([name, { requests }]) => [name, requests])),
    errors: sum(({ errors }) =>
      Object.entries(errors).reduce(
        (n, [code, count]) => n + (code === 'not-found' ? 0 : count),
        0,
      ),
    ),
    bytesSent: sum(({ sentBytes }) => sentBytes),
    bytesReceived: sum(({ receivedBytes }) => receivedBytes),
    inFlight,
    operations,
  };
}
