import type { Clock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { wipe } from '../crypto/wiping.ts';
import type { Encryption } from '../format/encryption.ts';
import type { Manifest } from '../format/manifest.ts';
import { type CipherName, keyBytes } from '../format/sealing.ts';
import type { WrappedKey } from '../format/wrapped-key.ts';
import { EncryptedVolumes, type EncryptedVolumesContext } from './encrypted-volumes.ts';
import { SealedObjects } from './sealed-objects.ts';
import type { VolumeSealing } from './volume-sealing.ts';

/** How a new volume is to be encrypted. */
export interface EncryptionWish {
  readonly cipher?: CipherName | undefined;
  /** The name of the key that wraps its data key; the default one when not given. */
  readonly keyName?: string | undefined;
  /** Instead of a name: what the same key has wrapped, whatever it is called here. */
  readonly sameKeyAs?: WrappedKey | undefined;
}

/** A store in which what encrypted volumes have is sealed on its way in, and opened on its way out. */
export interface SealingStore extends ObjectStore {
  /** What is below, where all is sealed. */
  readonly sealed: ObjectStore;
  /** The keys of a volume, unlocked; `undefined` when it is not encrypted. */
  sealingOf(volumeId: string): Promise<VolumeSealing | undefined>;
  /** A data key for a new volume, wrapped. */
  newEncryption(volume: Pick<Manifest, 'id' | 'name'>, wish: EncryptionWish): Promise<Encryption>;
}

function isSealingStore(store: ObjectStore): store is SealingStore {
  return 'sealingOf' in store;
}

/** What seals a volume, and the store in which is put what is sealed already. */
export interface SealedVolume {
  /** Of an encrypted volume. */
  readonly sealing: VolumeSealing | undefined;
  readonly store: ObjectStore;
}

/** The keys of a volume of this store; `wrong-key` when it is encrypted and they cannot be had. */
export async function sealingIn(store: ObjectStore, volumeId: string): Promise<SealedVolume> {
  const sealing = isSealingStore(store) ? await store.sealingOf(volumeId) : undefined;
  return { sealing, store: isSealingStore(store) && sealing !== undefined ? store.sealed : store };
}

/** As `SealingStore.newEncryption`, of whatever store; `usage` where there are no keys. */
export async function newEncryptionIn(
  store: ObjectStore,
  volume: Pick<Manifest, 'id' | 'name'>,
  wish: EncryptionWish,
): Promise<Encryption> {
  if (isSealingStore(store)) return store.newEncryption(volume, wish);
  const message = `Volume ${volume.name} cannot be encrypted here: there are no keys.`;
  throw new StorageError('usage', message);
}

export interface SealingContext extends EncryptedVolumesContext {
  readonly clock: Clock;
}

/** Seals what encrypted volumes have in `store`; nothing of other volumes is touched. */
export function withSealing(store: ObjectStore, context: SealingContext): SealingStore {
  const volumes = new EncryptedVolumes(store, context);
  const objects = new SealedObjects(store, volumes, context.clock);
  return {
    ...store,
    sealed: store,
    sealingOf: (volumeId) => volumes.sealingOf(volumeId),
    newEncryption: (volume, wish) => newEncryption(context, volume, wish),
    put: (key, parts, options) => objects.put(key, parts, options),
    get: (key, range, options) => objects.get(key, range, options),
    getStart: (key, maxBytes, options) => objects.getStart(key, maxBytes, options),
    async load(key, options) {
      const found = await store.load(key, options);
      const volumeId = manifestVolume(key);
      if (found !== undefined && volumeId !== undefined) volumes.loaded(volumeId, found.value);
      return found;
    },
    async swap(key, expected, value, options) {
      const volumeId = manifestVolume(key);
      const document = volumeId === undefined ? value : await volumes.authentic(volumeId, value);
      return store.swap(key, expected, document, options);
    },
  };
}

async function newEncryption(
  { keys, random }: SealingContext,
  { id: volumeId, name }: Pick<Manifest, 'id' | 'name'>,
  { cipher = 'aes-256-gcm', keyName, sameKeyAs }: EncryptionWish,
): Promise<Encryption> {
  const generation = 1;
  const secret = random.bytes(keyBytes);
  try {
    const by = sameKeyAs ?? keyName;
    const wrapped = await keys.wrapNew(name, secret, { volumeId, generation }, by);
    return { cipher, generation, keys: [wrapped] };
  } finally {
    wipe(secret);
  }
}

const manifestPattern = /^volumes\/([0-9a-f]{32})\/manifest\.json$/;

function manifestVolume(key: string): string | undefined {
  return manifestPattern.exec(key)?.[1];
}
