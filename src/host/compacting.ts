import type { SpaceStatus } from '../volume/space-keeper.ts';
import { readOnlyError, withAttached } from './resizing.ts';
import type { VolumeSource } from './volume-source.ts';

/** Gives back space of a volume that this daemon, or this machine without one, does not serve. */
export function compactDetached(
  source: VolumeSource,
  name: string,
  graceMs: number | undefined,
): Promise<SpaceStatus> {
  return withAttached(source, name, async (volume) => {
    if (volume.compact === undefined) throw readOnlyError(name);
    return volume.compact({ graceMs });
  });
}
