import { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Random } from '../base/random.ts';
import { formatSize } from '../base/quantity.ts';
import { entryKind } from '../format/entry.ts';
import type { Manifest } from '../format/manifest.ts';
import { findVolumeId, requireVolumeSize } from './catalog.ts';
import { changeManifest } from './manifest-change.ts';
import { cutOff } from './retention.ts';
import { heldError } from './take-over.ts';
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
  parts: Pick<
    VolumeParts,
    'ownership' | 'times' | 'writer' | 'segments' | 'uploader' | 'checkpointer'
  >,
  sizeBytes: number,
): Promise<void> {
  const { ownership, times, writer, segments, uploader, checkpointer } = parts;
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
  const nowMs = times.nowMs();
  await ownership.update((manifest) =>
    manifest.sizeBytes === sizeBytes ? manifest : cutOff(manifest, sizeBytes, nowMs),
  );
}

export interface GrowDetachedOptions {
  readonly store: ObjectStore;
  readonly random: Random;
  readonly name: string;
  /** Whose journal, left by a crash, makes the volume nobody else's. */
  readonly writerId: string;
}

/**
 * Makes a volume larger that no daemon has, in one change of its manifest: nothing is attached, and a
 * journal that a crash left keeps its epoch. `held` when another host has the volume.
 */
export async function growDetached(
  { store, random, name, writerId }: GrowDetachedOptions,
  sizeBytes: number,
): Promise<Resized> {
  const volumeId = await findVolumeId(store, name);
  let beforeBytes = sizeBytes;
  await changeManifest({ store, random }, volumeId, (manifest) => {
    const { writer } = manifest;
    if (writer !== undefined && writer.id !== writerId) throw heldError(manifest);
    beforeBytes = manifest.sizeBytes;
    return beforeBytes === sizeBytes ? manifest : grown(manifest, sizeBytes);
  });
  return { beforeBytes, sizeBytes };
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
