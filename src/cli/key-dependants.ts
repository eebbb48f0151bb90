import { StorageError } from '../base/errors.ts';
import { Fields, parseJson } from '../format/json-fields.ts';
import { decodeWrappedGeneration, type WrappedKey } from '../format/wrapped-key.ts';
import { manifestKey } from '../format/names.ts';
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
  const needs = volumes.map(async (volume) => ({ volume, wrapped: await wrappedKeysOf(volume) }));
  for (const { volume, wrapped } of await Promise.all(needs)) {
    for (const [keyId, ofKey] of Map.groupBy(wrapped, (each) => each.keyId)) {
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

/** What the manifest says of keys: its own, and those of the volumes whose data a clone reads. */
async function wrappedKeysOf({ opened, manifest }: StoredVolume): Promise<WrappedKey[]> {
  const register = await opened.store.load(manifestKey(manifest.id));
  if (register === undefined) return [];
  const document = new Fields(parseJson(register.value, 'manifest'), 'manifest');
  const keysIn = (value: unknown): WrappedKey[] =>
    new Fields(value, 'encryption')
      .list('keys')
      .flatMap((each) => decodeWrappedGeneration(each).wrapped);
  const own = document.optional('encryption', keysIn, null) ?? [];
  const ofAncestors = document
    .list('ancestors')
    .filter((ancestor) => new Fields(ancestor, 'ancestor').has('keys'))
    .flatMap(keysIn);
  return [...own, ...ofAncestors];
}
