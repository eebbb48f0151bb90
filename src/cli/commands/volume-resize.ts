import { Option } from 'commander';
import { isStorageError, StorageError } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { formatSize, parseSize, sizeHint } from '../../base/quantity.ts';
import type { Resizing } from '../../host/resizing.ts';
import type { VolumeSource } from '../../host/volume-source.ts';
import type { Resized } from '../../volume/resize.ts';
import type { Configuration } from '../configuration/load.ts';
import { stateDirectoryOf, storesOf } from '../configuration/places.ts';
import { askDaemon, daemonKeys } from '../daemon.ts';
import { openStore } from '../stores.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';

export const resizeVerb: Verb = {
  name: 'resize',
  summary: 'Make a volume larger while it is in use, or smaller while nobody has it',
  examples: [
    [
      'resize data 200GiB',
      'make it larger; clients that ask again see it, a kernel has to be told',
    ],
    [
      'resize data 50GiB --shrink --confirm data',
      'cut off what is past 50 GiB, for good: its name is to be given twice',
    ],
  ],
  arguments: [
    ['<name>', 'its name'],
    ['<size>', `its size from now on: ${sizeHint}`],
  ],
  options: [
    new Option('--shrink', 'cut it off: detached first, its file system made smaller before'),
    new Option('--confirm <name>', 'its name again, for --shrink'),
  ],
  keys: [...daemonKeys, ...storeKeys],
  run: resize,
};

async function resize(invocation: Invocation): Promise<undefined> {
  const { output } = invocation;
  const [name = ''] = invocation.arguments;
  const resizing = resizingIn(invocation);
  const to = formatSize(resizing.sizeBytes);
  output.progress(`${resizing.shrinks ? 'cutting' : 'growing'} ${name} to ${to} …`);
  const resized =
    (await askForIt(invocation, name, resizing)) ?? (await doIt(invocation, name, resizing));
  const { beforeBytes, sizeBytes } = resized;
  output.result({ resized: name, beforeBytes, sizeBytes }, () =>
    beforeBytes === sizeBytes
      ? `${name} is of ${to} already`
      : `${name} is of ${to} now, it was of ${formatSize(beforeBytes)}`,
  );
  return undefined;
}

function resizingIn({ arguments: [name, size = ''], options }: Invocation): Resizing {
  const sizeBytes = parseSize(size);
  if (sizeBytes === undefined)
    throw new StorageError('usage', `"${size}" is no size: expected ${sizeHint}`);
  const shrinks = options['shrink'] === true;
  if (shrinks && options['confirm'] !== name) {
    throw new StorageError(
      'usage',
      `what is past ${formatSize(sizeBytes)} is lost for good: repeat the volume's name with --confirm ${name}`,
    );
  }
  return { sizeBytes, shrinks };
}

/** Asks the daemon; `undefined` when there is none, or the volume is in no store of its own. */
async function askForIt(
  invocation: Invocation,
  name: string,
  { sizeBytes, shrinks }: Resizing,
): Promise<Resized | undefined> {
  const query = new URLSearchParams({
    volume: name,
    size: String(sizeBytes),
    shrink: String(shrinks),
  });
  const how = { method: 'POST', required: false } as const;
  try {
    return (await askDaemon(invocation, `/resize?${query.toString()}`, how)) as Resized | undefined;
  } catch (error) {
    if (isStorageError(error, 'not-found')) return undefined;
    throw error;
  }
}

/** Does it as a daemon would, in whose place it is meanwhile. */
async function doIt(invocation: Invocation, name: string, resizing: Resizing): Promise<Resized> {
  const { environment, workingDirectory } = invocation;
  const configuration = await invocation.configuration();
  const { lockStateDirectory } = await import('../../host/state-lock.ts');
  const { resizeDetached } = await import('../../host/resizing.ts');
  const { sourceOf } = await import('../../host/volume-source.ts');
  const stateDirectory = stateDirectoryOf(configuration, environment, workingDirectory);
  const lock = await lockStateDirectory(stateDirectory);
  const sources: VolumeSource[] = [];
  try {
    await openSources(invocation, configuration, stateDirectory, sources);
    return await resizeDetached(await sourceOf(sources, name), name, resizing);
  } finally {
    for (const source of sources) await source.close();
    await lock.release();
  }
}

async function openSources(
  invocation: Invocation,
  configuration: Configuration,
  stateDirectory: string,
  sources: VolumeSource[],
): Promise<void> {
  const { stores } = storesOf(configuration, invocation.workingDirectory);
  for (const store of stores) {
    const opened = await openStore(invocation, configuration, store, {
      create: false,
      log: silentLog,
    });
    sources.push(
      invocation.drivers.createSource({
        opened,
        endpoint: store.settings['s3.endpoint'],
        stateDirectory,
        settingsOf: configuration.settingsOfVolume,
        snapshotCacheBytes: configuration.settings['cache.snapshots'],
        log: silentLog,
      }),
    );
  }
}
