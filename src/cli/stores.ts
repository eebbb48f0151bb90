import { silentLog, type Log } from '../base/log.ts';
import type { Configuration } from './configuration/load.ts';
import { storesOf } from './configuration/places.ts';
import type { StoreConfiguration } from './configuration/resolve.ts';
import type { OpenStore } from './drivers.ts';
import type { Invocation } from './verb.ts';

/** Opens one store of the configuration; `create` makes what is missing of it. */
export function openStore(
  { drivers }: Invocation,
  { firstDrive }: Configuration,
  store: StoreConfiguration,
  { create, log }: { readonly create: boolean; readonly log: Log },
): Promise<OpenStore> {
  return drivers.openStore({
    ...store,
    credentials: firstDrive?.credentials,
    createBucket: create && firstDrive !== undefined,
    log,
  });
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
