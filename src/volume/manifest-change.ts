import { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Random } from '../base/random.ts';
import { bytesToHex } from '../format/binary.ts';
import { isOneLineage } from '../format/lineage.ts';
import { encodeManifest, type Manifest } from '../format/manifest.ts';
import { manifestKey } from '../format/names.ts';
import { loadManifest } from './ownership.ts';

/** That what was made by one manifest of a volume can be named by a later one; else `conflict`. */
export function requireOneLineage(madeBy: Manifest, present: Manifest): void {
  if (isOneLineage(madeBy, present)) return;
  throw new StorageError('conflict', `Volume ${present.name} was flattened meanwhile; try again.`);
}

/** A writer that changes its manifest all the time is got in between within so many. */
const attempts = 20;

/**
 * Changes a volume's manifest whoever has the volume, by compare-and-swap; returns what it is then. Its
 * writer tolerates that and makes its own next change over it, for epoch, writer and lease stay as they
 * are. `change` is a pure function that finds out itself when there is nothing left to change: it is
 * called again when others changed the manifest meanwhile, or when an answer was lost.
 */
export async function changeManifest(
  { store, random }: { readonly store: ObjectStore; readonly random: Random },
  volumeId: string,
  change: (manifest: Manifest) => Manifest,
): Promise<Manifest> {
  for (let attempt = 1; ; attempt += 1) {
    const { manifest, version } = await loadManifest(store, volumeId);
    const wanted = change(manifest);
    if (wanted === manifest) return manifest;
    const changed = { ...wanted, nonce: bytesToHex(random.bytes(16)) };
    const swapped = await store.swap(manifestKey(volumeId), version, encodeManifest(changed));
    if (swapped !== undefined) return changed;
    if (attempt === attempts) {
      const message = `Volume ${manifest.name} is being changed all the time by another; try again.`;
      throw new StorageError('conflict', message);
    }
  }
}
