import type { BlockDevice } from '../../src/base/block-device.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import { encodeManifest, type Manifest, type Tenure } from '../../src/format/manifest.ts';
import { manifestKey } from '../../src/format/names.ts';
import type { Snapshot } from '../../src/format/snapshot.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { openReadOnly } from '../../src/volume/read-only-volume.ts';
import { defaultVolumeSettings } from '../../src/volume/settings.ts';
import { findSnapshot } from '../../src/volume/snapshot-changes.ts';

/** The manifest that the volume would have if it ended with the snapshot and nobody had it. */
function viewOf(manifest: Manifest, snapshot: Snapshot): Manifest {
  const { segment, checkpoint, sizeBytes } = snapshot;
  const tenures: Tenure[] = manifest.tenures.filter((tenure) => tenure.lastSegment <= segment);
  const last = manifest.tenures[tenures.length];
  const isWhole = (tenures.at(-1)?.lastSegment ?? 0) === segment;
  const epoch = last?.epoch ?? checkpoint?.epoch ?? 0;
  if (!isWhole) tenures.push({ epoch, lastSegment: segment });
  return {
    ...manifest,
    ...{ sizeBytes, tenures, head: checkpoint, snapshots: [] },
    ...{ closedThrough: manifest.epoch, writer: undefined },
  };
}

/** A completed snapshot as a device, from what its checkpoint refers to in the store and nothing else. */
export async function openSnapshotView(
  store: ObjectStore,
  manifest: Manifest,
  snapshot: Snapshot,
): Promise<BlockDevice> {
  const value = encodeManifest(viewOf(manifest, snapshot));
  const key = manifestKey(manifest.id);
  const view: ObjectStore = {
    ...store,
    load: async (wanted, options) =>
      wanted === key ? { value, version: 'view' } : store.load(wanted, options),
  };
  const { name } = manifest;
  const settings = { ...defaultVolumeSettings, cacheBytes: 2 ** 20 };
  return openReadOnly({
    store: view,
    clock: systemClock,
    name,
    settings,
    reason: 'it is a snapshot',
  });
}

/** All bytes of a snapshot. */
export async function readSnapshot(
  store: ObjectStore,
  volume: string,
  nameOrId: string,
): Promise<Uint8Array> {
  const manifest = await findVolume(store, volume);
  const device = await openSnapshotView(store, manifest, findSnapshot(manifest, nameOrId));
  const content = new Uint8Array(device.sizeBytes);
  await device.read(0, content);
  return content;
}
