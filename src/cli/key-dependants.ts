import { StorageError } from '../base/errors.ts';
import type { Manifest } from '../format/manifest.ts';
import type { WrappedKey } from '../format/wrapped-key.ts';
import type { OpenStore } from './drivers.ts';
import type { StoredVolume } from './volumes.ts';
import { volumesOf } from './volumes.ts';

/** A volume that cannot be opened without a key. */
export interface Dependant {
  readonly store: string;
  readonly volume: string;
  readonly volumeId: string;
  /** Snapshots are opened with what opens their volume. */
  readonly snapshots: readonly string[];
  /** Whether it is a clone, some of whose data is that of volumes before it. */
  readonly isClone: boolean;
  /** The versions of the key that are needed. */
  readonly versions: readonly number[];
}

export interface DependedKey {
  readonly keyId: string;
  readonly keyName: string;
  readonly provider: string;
  readonly dependants: readonly Dependant[];
}

/** Which volumes of the stores need which keys; every manifest must be readable to know. */
export async function dependedKeys(all: readonly OpenStore[]): Promise<DependedKey[]> {
  const { volumes, damage } = await volumesOf(all);
  const [damaged] = damage;
  if (damaged !== undefined) {
    const message = `which keys are needed cannot be known: ${damaged.message}`;
    throw new StorageError('corrupt', message, { cause: damaged });
  }
  const keys = new Map<string, DependedKey>();
  for (const volume of volumes) {
    for (const [keyId, ofKey] of Map.groupBy(wrappedIn(volume.manifest), (key) => key.keyId)) {
      const { keyName, provider } = ofKey[0] as WrappedKey;
      const { dependants } = keys.get(keyId) ?? { dependants: [] };
      const added = [...dependants, dependantOf(volume, ofKey)];
      keys.set(keyId, { keyId, keyName, provider, dependants: added });
    }
  }
  return [...keys.values()];
}

function dependantOf(
  { opened, manifest }: StoredVolume,
  wrapped: readonly WrappedKey[],
): Dependant {
  const { name, id, snapshots, ancestors } = manifest;
  return {
    ...{ store: opened.store.url, volume: name, volumeId: id },
    snapshots: snapshots.map((snapshot) => snapshot.name),
    isClone: ancestors.length > 0,
    versions: [...new Set(wrapped.map(({ keyVersion }) => keyVersion))].sort((a, b) => a - b),
  };
}

/** What a clone reads of volumes before it is under their keys, and those volumes are there as long as it is. */
function wrappedIn({ encryption }: Manifest): WrappedKey[] {
  return encryption?.keys.map(({ wrapped }) => wrapped) ?? [];
}
