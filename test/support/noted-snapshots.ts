import { systemClock } from '../../src/base/clock.ts';
import { systemRandom } from '../../src/base/random.ts';
import { openStore } from '../../src/store/open-store.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { changeManifest } from '../../src/volume/manifest-change.ts';
import { snapshotOf } from './clones.ts';
import type { TestStore } from './daemon.ts';

/** Notes in the store of a daemon that a volume which it gave up in order is a snapshot as it is. */
export async function noteSnapshotAt(
  { url }: TestStore,
  volume: string,
  name: string,
  description: string,
): Promise<void> {
  const store = await openStore(url, { clock: systemClock, random: systemRandom });
  try {
    const { id } = await findVolume(store, volume);
    await snapshotOf(store, volume, name);
    await changeManifest({ store, random: systemRandom }, id, (manifest) => ({
      ...manifest,
      snapshots: manifest.snapshots.map((each) =>
        each.name === name ? { ...each, description } : each,
      ),
    }));
  } finally {
    await store.close();
  }
}
