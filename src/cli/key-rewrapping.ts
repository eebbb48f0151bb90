import { toStorageError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import type { KeyEntry } from '../crypto/keyring-entry.ts';
import type { VolumeKeys } from '../crypto/volume-keys.ts';
import { wipe } from '../crypto/wiping.ts';
import type { Manifest } from '../format/manifest.ts';
import type { WrappedGeneration } from '../format/wrapped-key.ts';
import { withStores } from './stores.ts';
import type { Invocation } from './verb.ts';
import { volumeKeysOf } from './volume-keys.ts';
import type { StoredVolume } from './volumes.ts';
import { volumesOf } from './volumes.ts';

export interface Rewrapped {
  /** The volumes whose data keys the newest version wraps now. */
  readonly volumes: readonly string[];
  /** Sentences that say which are still wrapped by an older one, and why. */
  readonly failures: readonly string[];
}

/**
 * Has the newest version of a key wrap the data keys that older ones have wrapped, in the manifests of all
 * volumes of the stores, also of those that are attached. The data keys stay, so nothing else is changed.
 */
export async function rewrapAll(invocation: Invocation, entry: KeyEntry): Promise<Rewrapped> {
  const configuration = await invocation.configuration();
  const keys = volumeKeysOf(invocation, configuration, silentLog);
  return withStores(invocation, async (all) => {
    const { volumes, damage } = await volumesOf(all);
    const done: string[] = [];
    const failures = damage.map(({ message }) => message);
    for (const volume of volumes) {
      const { name, encryption } = volume.manifest;
      if (!(encryption?.keys ?? []).some((each) => isOlder(each, entry))) continue;
      invocation.output.progress(`wrapping the data keys of ${name} …`);
      try {
        await rewrap(invocation, keys, volume, entry);
        done.push(name);
      } catch (error) {
        failures.push(`${name}: ${toStorageError(error).message}`);
      }
    }
    return { volumes: done, failures };
  });
}

function isOlder({ wrapped }: WrappedGeneration, { id, version }: KeyEntry): boolean {
  return wrapped.keyId === id && wrapped.keyVersion < version;
}

async function rewrap(
  { drivers: { random } }: Invocation,
  keys: VolumeKeys,
  { opened: { store }, manifest }: StoredVolume,
  entry: KeyEntry,
): Promise<void> {
  const { id: volumeId, name, encryption } = manifest;
  const older = (encryption?.keys ?? []).filter((each) => isOlder(each, entry));
  const secrets = await keys.unwrapAll(
    name,
    older.map((each) => ({ ...each, volumeId })),
  );
  const renewed = new Map<number, WrappedGeneration>();
  try {
    for (const [at, { generation, wrapped }] of older.entries()) {
      const secret = secrets[at] as Uint8Array;
      const fresh = await keys.wrapNew(name, secret, { volumeId, generation }, wrapped);
      renewed.set(generation, fresh);
    }
  } finally {
    wipe(...secrets);
  }
  const { changeManifest } = await import('../volume/manifest-change.ts');
  await changeManifest({ store, random }, volumeId, (before) =>
    withRenewed(before, renewed, entry),
  );
}

/** The same manifest when there is nothing older left in it. */
function withRenewed(
  before: Manifest,
  renewed: ReadonlyMap<number, WrappedGeneration>,
  entry: KeyEntry,
): Manifest {
  const { encryption } = before;
  if (encryption === undefined || !encryption.keys.some((each) => isOlder(each, entry))) {
    return before;
  }
  const keys = encryption.keys.map((each) =>
    isOlder(each, entry) ? { ...each, ...renewed.get(each.generation) } : each,
  );
  return { ...before, encryption: { ...encryption, keys } };
}
