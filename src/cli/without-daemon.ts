import { silentLog } from '../base/log.ts';
import type { VolumeSource } from '../host/volume-source.ts';
import type { Configuration } from './configuration/load.ts';
import { stateDirectoryOf, storesOf } from './configuration/places.ts';
import { openStore } from './stores.ts';
import type { Invocation } from './verb.ts';

/**
 * Does with a volume what a daemon would, in whose place this process is meanwhile: `held` when one
 * uses the state directory.
 */
export async function withoutDaemon<T>(
  invocation: Invocation,
  name: string,
  act: (source: VolumeSource) => Promise<T>,
): Promise<T> {
  const { environment, workingDirectory } = invocation;
  const configuration = await invocation.configuration();
  const { lockStateDirectory } = await import('../host/state-lock.ts');
  const { sourceOf } = await import('../host/volume-source.ts');
  const stateDirectory = stateDirectoryOf(configuration, environment, workingDirectory);
  const lock = await lockStateDirectory(stateDirectory);
  const sources: VolumeSource[] = [];
  try {
    await openSources(invocation, configuration, stateDirectory, sources);
    return await act(await sourceOf(sources, name));
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
