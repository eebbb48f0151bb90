import { randomBytes } from 'node:crypto';
import { systemClock } from '../../src/base/clock.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import { systemRandom } from '../../src/base/random.ts';
import { encodeManifest, type Manifest } from '../../src/format/manifest.ts';
import { manifestKey } from '../../src/format/names.ts';
import type { Snapshot } from '../../src/format/snapshot.ts';
import { openStore } from '../../src/store/open-store.ts';
import { findVolumeId } from '../../src/volume/catalog.ts';
import { loadManifest } from '../../src/volume/ownership.ts';
import type { TestStore } from './daemon.ts';

/** Changes the manifest of a volume that nobody has, as another host would. */
export async function changeManifest(
  store: ObjectStore,
  volume: string,
  change: (manifest: Manifest) => Manifest,
): Promise<Manifest> {
  const { manifest, version } = await loadManifest(store, await findVolumeId(store, volume));
  const changed = { ...change(manifest), nonce: randomBytes(16).toString('hex') };
  const swapped = await store.swap(manifestKey(manifest.id), version, encodeManifest(changed));
  if (swapped === undefined) throw new Error('the manifest was changed meanwhile');
  return changed;
}

/** Notes that a volume which was given up in order is a snapshot as it is. */
export async function noteSnapshot(
  store: ObjectStore,
  volume: string,
  name: string,
  choices: Partial<Snapshot> = {},
): Promise<Snapshot> {
  const { snapshots } = await changeManifest(store, volume, (manifest) => ({
    ...manifest,
    snapshots: [
      ...manifest.snapshots,
      {
        id: randomBytes(16).toString('hex'),
        name,
        segment: manifest.head?.segment ?? 0,
        checkpoint: manifest.head,
        isCompleted: true,
        sizeBytes: manifest.sizeBytes,
        createdAt: '2026-11-20T10:15:00.000Z',
        description: '',
        tags: {},
        clones: [],
        ...choices,
      },
    ],
  }));
  return snapshots.at(-1) as Snapshot;
}

/** As `noteSnapshot`, in the store of a daemon. */
export async function noteSnapshotAt(
  { url }: TestStore,
  volume: string,
  name: string,
  choices: Partial<Snapshot> = {},
): Promise<void> {
  const store = await openStore(url, { clock: systemClock, random: systemRandom });
  try {
    await noteSnapshot(store, volume, name, choices);
  } finally {
    await store.close();
  }
}

/** The manifest without a snapshot. */
export async function dropSnapshot(
  store: ObjectStore,
  volume: string,
  name: string,
): Promise<Manifest> {
  return changeManifest(store, volume, (manifest) => ({
    ...manifest,
    snapshots: manifest.snapshots.filter((each) => each.name !== name),
  }));
}
