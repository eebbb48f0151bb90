import { StorageError, toStorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { formatSize } from '../base/quantity.ts';
import { startDaemon } from '../host/daemon.ts';
import {
  formatListenAddress,
  isLocal,
  type ListenAddress,
  parseListenAddress,
} from '../host/listen-address.ts';
import { type MetricsAddress, parseMetricsAddress } from '../host/metrics-address.ts';
import { tlsModeOf } from '../host/tls-files.ts';
import type { VolumeSource } from '../host/volume-source.ts';
import { createVolume } from '../volume/catalog.ts';
import type { Settings } from './configuration/keys.ts';
import type { Configuration } from './configuration/load.ts';
import { stateDirectoryOf, storesOf } from './configuration/places.ts';
import type { OpenStore } from './drivers.ts';
import type { Invocation } from './verb.ts';
import { passedSockets, ServiceManager } from './service-manager.ts';
import { firstSignal } from './signals.ts';
import { openStore } from './stores.ts';
import { takeOverHeld, takeOverOf, takeOverWishes } from './taking-over.ts';
import { tlsSettingsOf } from './tls-settings.ts';
import { announce } from './announcement.ts';

/** What is made where there is nothing yet. */
const initialVolume = { name: 'drive0', sizeBytes: 10 * 2 ** 30 };

/** Serves until a signal; resolves with the exit status. */
export async function serve(invocation: Invocation): Promise<number> {
  const { output, drivers, environment, workingDirectory } = invocation;
  const configuration = await invocation.configuration();
  const { settings } = configuration;
  const log = output.log(settings['log.level'], () => drivers.clock.wallMs());
  const listen = settings.listen.map((text) => parseListenAddress(text)).filter(isAddress);
  const tls = tlsSettingsOf(settings);
  // Said before anything is opened.
  for (const address of listen) tlsModeOf(address, tls.mode, tls.files);
  const stopSignal = firstSignal(invocation.signals, {
    clock: drivers.clock,
    log,
    echoed: (environment['npm_lifecycle_event'] ?? '') !== '',
  });
  const wishes = takeOverWishes(invocation.options);
  const daemon = await startDaemon({
    version: invocation.version,
    stateDirectory: stateDirectoryOf(configuration, environment, workingDirectory),
    controlSocketPath: settings.control_socket,
    listen,
    passedSockets: passedSockets(environment, drivers.pid),
    metrics: metricsAddress(settings),
    defaultVolume: settings.default_volume,
    openSources: (stateDirectory) => openSources(invocation, configuration, stateDirectory, log),
    createServer: (catalog) => drivers.createServer(catalog, settings, log),
    takeOver: takeOverOf(wishes),
    schedulesOf: (volume) => configuration.settingsOfVolume(volume)['snapshots.schedule'] ?? [],
    prepare: (catalog) =>
      Promise.race([takeOverHeld(catalog, wishes, output), stopSignal.then(refuseToStart)]),
    clock: drivers.clock,
    log,
  });
  await announce(daemon, invocation, tls);
  for (const address of daemon.addresses) {
    if (isLocal(address) || tlsModeOf(address, tls.mode, tls.files) === 'required') continue;
    const where = formatListenAddress(address);
    output.warning(`${where} is open to the network: whoever reaches it can read and write`);
  }
  log.debug('serving', { stateDirectory: daemon.status().stateDirectory });
  const manager = new ServiceManager({ ...drivers, environment, log });
  await manager.ready(`serving on ${daemon.addresses.map(formatListenAddress).join(' ')}`);
  const signal = await stopSignal;
  await manager.stopping('uploading what is not in the store yet');
  log.info('stopping: uploading what is not in the store yet', { signal });
  try {
    await daemon.stop();
  } catch (error) {
    const { code, message } = toStorageError(error);
    log.error('stopped with data that is in the journal only', { code, reason: message });
    return 1;
  }
  log.info('stopped');
  return 0;
}

function refuseToStart(signal: string): never {
  throw new StorageError('shutting-down', `stopped by ${signal} before anything was served`);
}

/** Metrics tell names and traffic to whoever reaches them: only this machine, unless it is said. */
function metricsAddress(settings: Settings): MetricsAddress | undefined {
  const text = settings['metrics.listen'];
  const address = text === undefined ? undefined : parseMetricsAddress(text);
  if (address === undefined || settings['metrics.remote']) return address;
  if (isLocal({ kind: 'tcp', ...address })) return address;
  throw new StorageError(
    'usage',
    `metrics.listen is ${text}, which other machines reach: set metrics.remote if that is meant`,
  );
}

function isAddress(address: ListenAddress | undefined): address is ListenAddress {
  return address !== undefined;
}

async function openSources(
  invocation: Invocation,
  configuration: Configuration,
  stateDirectory: string,
  log: Log,
): Promise<VolumeSource[]> {
  const { stores, named } = storesOf(configuration, invocation.workingDirectory);
  const sources: VolumeSource[] = [];
  for (const store of stores) {
    const opened = await openStore(invocation, configuration, store, { create: true, log });
    const source = invocation.drivers.createSource({
      opened,
      endpoint: store.settings['s3.endpoint'],
      stateDirectory,
      settingsOf: configuration.settingsOfVolume,
      snapshotCacheBytes: configuration.settings['cache.snapshots'],
      log,
    });
    sources.push(source);
    if (configuration.firstDrive !== undefined) {
      const { volumeName: name, sizeBytes } = configuration.firstDrive;
      await makeFirstDrive(invocation, opened, source, { name, sizeBytes }, log);
    } else if (!named && (await source.list()).length === 0) {
      await makeVolume(invocation, opened, initialVolume, log);
    }
  }
  return sources;
}

interface NewVolume {
  readonly name: string;
  readonly sizeBytes: number;
}

async function makeVolume(
  { drivers }: Invocation,
  { store, encryption }: OpenStore,
  { name, sizeBytes }: NewVolume,
  log: Log,
): Promise<void> {
  const { clock, random } = drivers;
  const choices = { name, sizeBytes, codec: 'zstd', durability: 'local', encryption } as const;
  await createVolume(store, choices, { clock, random });
  log.info('volume created', { volume: name, size: formatSize(sizeBytes), store: store.url });
}

/** The drive of the INI file: made once, and then used at the size that it has. */
async function makeFirstDrive(
  invocation: Invocation,
  opened: OpenStore,
  source: VolumeSource,
  volume: NewVolume,
  log: Log,
): Promise<void> {
  const present = (await source.list()).find(({ name }) => name === volume.name);
  if (present === undefined) await makeVolume(invocation, opened, volume, log);
  else if (present.sizeBytes !== volume.sizeBytes) {
    log.warn(
      'the volume keeps its size; VOLUMESIZE is for making it, "volume resize" for changing it',
      {
        volume: volume.name,
        size: formatSize(present.sizeBytes),
      },
    );
  }
}
