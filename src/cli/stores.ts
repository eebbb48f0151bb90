import { silentLog, type Log } from '../base/log.ts';
import type { Configuration } from './configuration/load.ts';
import { storesOf } from './configuration/places.ts';
import type { StoreConfiguration } from './configuration/resolve.ts';
import type { VolumeKeys } from '../crypto/volume-keys.ts';
import { withSealing } from '../volume/sealing-store.ts';
import type { OpenStore } from './drivers.ts';
import type { Invocation } from './verb.ts';

/**
 * Opens one store of the configuration; `create` makes what is missing of it. What encrypted volumes have
 * in it is opened and sealed: no command sees the store without that.
 */
export async function openStore(
  invocation: Invocation,
  configuration: Configuration,
  store: StoreConfiguration,
  { create, log }: { readonly create: boolean; readonly log: Log },
): Promise<OpenStore> {
  const { drivers } = invocation;
  const { firstDrive } = configuration;
  const opened = await drivers.openStore({
    ...store,
    credentials: firstDrive?.credentials,
    createBucket: create && firstDrive !== undefined,
    log,
  });
  const { clock, random } = drivers;
  const keys = keysWhenAsked(invocation, configuration, log);
  const { settings } = store;
  const isEncrypted = settings['new_volumes.encrypt'];
  return {
    ...opened,
    store: withSealing(opened.store, { keys, clock, random }),
    encryption: isEncrypted ? { keyName: settings['new_volumes.key'] } : undefined,
  };
}

/** The keys of volumes that this host can have; nothing of that is loaded before it is asked for. */
function keysWhenAsked(invocation: Invocation, configuration: Configuration, log: Log): VolumeKeys {
  let loading: Promise<VolumeKeys> | undefined;
  const keys = (): Promise<VolumeKeys> => {
    loading ??= import('./volume-keys.ts').then(({ volumeKeysOf }) =>
      volumeKeysOf(invocation, configuration, log),
    );
    return loading;
  };
  return {
    unwrapAll: async (...wanted) => (await keys()).unwrapAll(...wanted),
    wrapNew: async (...wanted) => (await keys()).wrapNew(...wanted),
  };
}

/** Runs `use` with all stores of the configuration opened, and closes them after it. */
export async function withStores<T>(
  invocation: Invocation,
  use: (opened: readonly OpenStore[]) => Promise<T>,
): Promise<T> {
  const configuration = await invocation.configuration();
  const { stores } = storesOf(configuration, invocation.workingDirectory);
  const opened: OpenStore[] = [];
  try {
    for (const store of stores) {
      opened.push(
        await openStore(invocation, configuration, store, { create: false, log: silentLog }),
      );
    }
    return await use(opened);
  } finally {
    await Promise.all(opened.map(({ store }) => store.close()));
  }
}
