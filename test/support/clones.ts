import { type Clock, isoTime, systemClock } from '../../src/base/clock.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { bytesToHex } from '../../src/format/binary.ts';
import { lastClosedSegment, type Manifest } from '../../src/format/manifest.ts';
import type { Snapshot } from '../../src/format/snapshot.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { cloneVolume } from '../../src/volume/cloning.ts';
import { changeManifest } from '../../src/volume/manifest-change.ts';

const random = seededRandom(7);

/** Makes a completed snapshot of a volume that was given up in order: its checkpoint has all of it. */
export async function snapshotOf(
  store: ObjectStore,
  volume: string,
  name: string,
): Promise<Snapshot> {
  const { id } = await findVolume(store, volume);
  const manifest = await changeManifest({ store, random }, id, (before) => ({
    ...before,
    snapshots: [
      ...before.snapshots,
      {
        id: bytesToHex(random.bytes(16)),
        name,
        segment: lastClosedSegment(before),
        checkpoint: before.head,
        isCompleted: true,
        sizeBytes: before.sizeBytes,
        createdAt: isoTime(systemClock.wallMs()),
        description: '',
        tags: {},
        clones: [],
      },
    ],
  }));
  return manifest.snapshots.at(-1) as Snapshot;
}

export interface CloneOptions {
  readonly sizeBytes?: number;
  readonly clock?: Clock;
  readonly random?: Random;
}

/** Clones `volume@snapshot`. */
export async function cloneOf(
  store: ObjectStore,
  volume: string,
  snapshot: string,
  name: string,
  options: CloneOptions = {},
): Promise<Manifest> {
  const source = await findVolume(store, volume);
  const { id: snapshotId = '' } = source.snapshots.find((each) => each.name === snapshot) ?? {};
  const { sizeBytes } = options;
  return cloneVolume(
    { clock: systemClock, random, ...options, store },
    { name, sourceId: source.id, snapshotId, sizeBytes },
  );
}
