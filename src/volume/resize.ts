import { isStorageError, StorageError } from '../base/errors.ts';
import { formatSize } from '../base/quantity.ts';
import { entryKind } from '../format/entry.ts';
import type { Manifest } from '../format/manifest.ts';
import { findVolumeId, requireVolumeSize } from './catalog.ts';
import { loadManifest, Ownership, type OwnershipContext } from './ownership.ts';
import { whenFree } from './take-over.ts';
import type { VolumeParts } from './volume-parts.ts';

export interface Resized {
  readonly beforeBytes: number;
  readonly sizeBytes: number;
}

/** Makes an attached volume larger; when this is done, the store says so and no crash undoes it. */
export async function grow(
  { ownership }: Pick<VolumeParts, 'ownership'>,
  sizeBytes: number,
): Promise<void> {
  await ownership.update((manifest) => grown(manifest, sizeBytes));
}

/**
 * Makes an attached volume smaller that nobody writes past the new end. First the store has the log
 * that says that what is cut off are holes, and a checkpoint without it; only then the manifest gets
 * the new size: whenever this is interrupted, a volume that grows again reads zeroes there.
 */
export async function shrink(
  parts: Pick<VolumeParts, 'ownership' | 'writer' | 'segments' | 'uploader' | 'checkpointer'>,
  sizeBytes: number,
): Promise<void> {
  const { ownership, writer, segments, uploader, checkpointer } = parts;
  const beforeBytes = ownership.manifest.sizeBytes;
  if (sizeBytes === beforeBytes) return;
  await writer.zero(entryKind.hole, sizeBytes, beforeBytes - sizeBytes);
  segments.seal();
  const last = segments.lastNumber;
  await uploader.whenCommitted(last);
  await checkpointer.checkpoint();
  if ((ownership.manifest.head?.segment ?? 0) < last) {
    const message = `Volume ${ownership.manifest.name} is just being cut for a snapshot; try again.`;
    throw new StorageError('conflict', message);
  }
  await ownership.update((manifest) => ({ ...manifest, sizeBytes }));
}

export interface GrowDetachedOptions extends OwnershipContext {
  readonly name: string;
  /** Whose journal, left by a crash, makes the volume nobody else's. */
  readonly writerId: string;
}

/** So often a change is tried again that others came before. */
const attempts = 20;

/**
 * Makes a volume larger that no daemon has, in one change of its manifest: nothing is attached, and a
 * journal that a crash left keeps its epoch. `held` when another host has the volume.
 */
export async function growDetached(
  options: GrowDetachedOptions,
  sizeBytes: number,
): Promise<Resized> {
  const { store, name } = options;
  const volumeId = await findVolumeId(store, name);
  for (let attempt = 1; ; attempt += 1) {
    const loaded = await whenFree(await loadManifest(store, volumeId), options);
    try {
      await Ownership.changeOnce(options, loaded, (manifest) => grown(manifest, sizeBytes));
      return { beforeBytes: loaded.manifest.sizeBytes, sizeBytes };
    } catch (error) {
      if (!isStorageError(error, 'conflict') || attempt === attempts) throw error;
    }
  }
}

function grown(manifest: Manifest, sizeBytes: number): Manifest {
  requireVolumeSize(sizeBytes);
  if (sizeBytes >= manifest.sizeBytes) return { ...manifest, sizeBytes };
  throw new StorageError(
    'usage',
    `Volume ${manifest.name} is of ${formatSize(manifest.sizeBytes)} now: cutting off what is past ${formatSize(sizeBytes)} takes --shrink --confirm ${manifest.name}.`,
  );
}

/** `usage` when that would make the volume larger, or is no size. */
export function requireShrinkable(manifest: Manifest, sizeBytes: number): void {
  requireVolumeSize(sizeBytes);
  if (sizeBytes <= manifest.sizeBytes) return;
  throw new StorageError(
    'usage',
    `Volume ${manifest.name} is of ${formatSize(manifest.sizeBytes)} now: leave --shrink out to make it larger.`,
  );
}
