import { type Clock, sleep } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { formatSize } from '../base/quantity.ts';
import {
  exportUri,
  exportUriHint,
  type ExportPlace,
  type ListenAddress,
  listenHint,
  parseExportUri,
  parseListenAddress,
} from '../host/listen-address.ts';
import type { ExportCatalog } from '../nbd/export-catalog.ts';
import { RemoteDevice } from '../nbd/remote-device.ts';
import { ServiceManager } from './service-manager.ts';
import { firstSignal } from './signals.ts';
import { pasteLines } from './announcement.ts';
import type { Invocation } from './verb.ts';

/** Copies of what is answered and not flushed yet. */
const unflushedBytes = 64 * 2 ** 20;
/** A client that connects waits for no longer to be told how large the export is now. */
const askSizeMs = 2_000;

/** Serves one export of another server until a signal; resolves with the exit status. */
export async function proxy(invocation: Invocation): Promise<number> {
  const { output, drivers, environment } = invocation;
  const { place, at } = placesOf(invocation);
  const { settings } = await invocation.configuration();
  const log = output.log(settings['log.level'], () => drivers.clock.wallMs());
  const stopSignal = firstSignal(invocation.signals, {
    clock: drivers.clock,
    log,
    echoed: (environment['npm_lifecycle_event'] ?? '') !== '',
  });
  const { exportName } = place;
  const device = await RemoteDevice.open({
    connect: () => drivers.connect(place.address),
    exportName,
    clock: drivers.clock,
    log,
    unflushedBytes,
  }).catch((error: unknown) => {
    throw new StorageError(
      'store-unavailable',
      `The server at ${exportUri(place.address, exportName)} does not serve: ${reasonOf(error)}.`,
      { cause: error },
    );
  });
  const server = drivers.createServer(catalogOf(exportName, device, drivers.clock), settings, log);
  try {
    const address = await server.listen(at);
    const uri = exportUri(address, exportName);
    output.result({ uri, sizeBytes: device.sizeBytes }, () => {
      const head = `ElasticDrive passes ${exportUri(place.address, exportName)} on, until Ctrl-C:`;
      const size = formatSize(device.sizeBytes);
      return `${head}\n  ${uri}  (${size})\n\nTo use it:\n${pasteLines(address, exportName)}`;
    });
    const manager = new ServiceManager({ ...drivers, environment, log });
    await manager.ready(`passing ${exportUri(place.address, exportName)} on`);
    log.info('stopping', { signal: await stopSignal });
    await manager.stopping('flushing');
    await server.drain();
    await device.flush();
  } finally {
    device.close();
    await server.close();
  }
  return 0;
}

function reasonOf(error: unknown): string {
  const { message } = error as Error;
  return message === '' ? String((error as NodeJS.ErrnoException).code) : message;
}

function placesOf(invocation: Invocation): {
  readonly place: ExportPlace;
  readonly at: ListenAddress;
} {
  const [uri = ''] = invocation.arguments;
  const place = parseExportUri(uri);
  if (place === undefined) {
    throw new StorageError('usage', `"${uri}" is no NBD URI: expected ${exportUriHint}.`);
  }
  const text = String(invocation.options['at']);
  const at = parseListenAddress(text);
  if (at === undefined) {
    throw new StorageError('usage', `--at "${text}" is no address: expected ${listenHint}.`);
  }
  return { place, at };
}

/** One device under its name, and for clients that give none. */
function catalogOf(name: string, device: RemoteDevice, clock: Clock): ExportCatalog {
  return {
    list: async () => [{ name }],
    open: async (asked) => {
      if (asked !== '' && asked !== name) {
        throw new StorageError('not-found', `There is no volume ${asked} here, only ${name}.`);
      }
      // Who connects is told what the server would tell it, unless that is away.
      const patience = new AbortController();
      const tooLong = sleep(clock, askSizeMs, patience.signal);
      await Promise.race([device.askSize(), tooLong]).finally(() => patience.abort());
      return { name, device, close: async () => undefined };
    },
  };
}
