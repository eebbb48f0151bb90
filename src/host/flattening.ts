import { type Clock, sleep } from '../base/clock.ts';
import type { Flattened, FlattenOptions, FlattenProgress } from '../volume/flattener.ts';
import { readOnlyError, withAttached } from './resizing.ts';
import type { VolumeSource } from './volume-source.ts';

const lookEveryMs = 500;

/** Makes a clone independent that this daemon, or this machine without one, does not serve. */
export function flattenDetached(
  source: VolumeSource,
  name: string,
  options: FlattenOptions,
  watcher: { readonly clock: Clock; readonly onProgress: (progress: FlattenProgress) => void },
): Promise<Flattened> {
  return withAttached(source, name, async (volume) => {
    if (volume.flatten === undefined) throw readOnlyError(name);
    const done = new AbortController();
    const watch = async (): Promise<void> => {
      while (!done.signal.aborted) {
        const { flattening } = volume.statistics().space;
        if (flattening !== undefined) watcher.onProgress(flattening);
        await sleep(watcher.clock, lookEveryMs, done.signal);
      }
    };
    const watching = watch();
    try {
      return await volume.flatten(options);
    } finally {
      done.abort();
      await watching;
    }
  });
}
