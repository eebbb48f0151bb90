import { isStorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Random } from '../base/random.ts';
import type { VolumeKeys } from '../crypto/volume-keys.ts';
import { corrupt } from '../format/binary.ts';
import { authenticateManifest, isAuthentic } from '../format/encryption.ts';
import { decodeManifest, isBeingDeleted } from '../format/manifest.ts';
import { manifestKey } from '../format/names.ts';
import { VolumeSealing } from './volume-sealing.ts';

/** Manifests remembered that were read before their volume's key was there. */
const maximumUnverified = 16;

export interface EncryptedVolumesContext {
  readonly keys: VolumeKeys;
  /** For salts and keys. */
  readonly random: Random;
}

/** Which volumes of a store are encrypted, and the keys of those that were asked for. */
export class EncryptedVolumes {
  private readonly store: ObjectStore;
  private readonly context: EncryptedVolumesContext;
  /** What is known: `undefined` of a volume that is not encrypted. */
  private readonly known = new Map<string, VolumeSealing | undefined>();
  private readonly unlocking = new Map<string, Promise<VolumeSealing | undefined>>();
  /** What was read of encrypted volumes without their keys: it is verified as soon as they are there. */
  private readonly unverified = new Map<string, Uint8Array[]>();

  constructor(store: ObjectStore, context: EncryptedVolumesContext) {
    this.store = store;
    this.context = context;
  }

  /** At once where it is known whether the volume is encrypted. */
  find(volumeId: string): VolumeSealing | undefined | 'unknown' {
    return this.known.has(volumeId) ? this.known.get(volumeId) : 'unknown';
  }

  sealingOf(volumeId: string): Promise<VolumeSealing | undefined> {
    const known = this.find(volumeId);
    if (known !== 'unknown') return Promise.resolve(known);
    return this.once(volumeId, async () => {
      const found = await this.store.load(manifestKey(volumeId));
      if (found === undefined) return undefined;
      this.loaded(volumeId, found.value);
      return this.find(volumeId) === 'unknown' ? this.unlock(volumeId, found.value) : undefined;
    });
  }

  private once(
    volumeId: string,
    find: () => Promise<VolumeSealing | undefined>,
  ): Promise<VolumeSealing | undefined> {
    const unlocking = this.unlocking.get(volumeId);
    if (unlocking !== undefined) return unlocking;
    const found = find().finally(() => this.unlocking.delete(volumeId));
    this.unlocking.set(volumeId, found);
    return found;
  }

  /** A manifest was read: verified now where the key is known, else as soon as it is. */
  loaded(volumeId: string, document: Uint8Array): void {
    const sealing = this.find(volumeId);
    if (sealing !== undefined && sealing !== 'unknown') {
      requireAuthentic(volumeId, document, sealing);
      return;
    }
    if (sealing === undefined) return;
    const { encryption } = decodeManifest(document);
    if (encryption === undefined) {
      if (!this.unverified.has(volumeId)) this.known.set(volumeId, undefined);
      return;
    }
    const others = this.unverified.get(volumeId) ?? [];
    this.unverified.set(volumeId, [...others, document].slice(-maximumUnverified));
  }

  /** The manifest as it is to be stored. */
  async authentic(volumeId: string, document: Uint8Array): Promise<Uint8Array> {
    const manifest = decodeManifest(document);
    const { encryption } = manifest;
    const known = this.find(volumeId);
    if (encryption === undefined) {
      if (known !== undefined && known !== 'unknown')
        throw corrupt(
          `The manifest of encrypted volume ${manifest.name} says nothing of its keys.`,
        );
      return document;
    }
    try {
      // One whose keys cannot be unwrapped again is never made.
      const sealing =
        known === 'unknown' || known === undefined
          ? await this.once(volumeId, () => this.unlock(volumeId, document, true))
          : known;
      if (sealing !== undefined) return authenticateManifest(document, sealing.manifestKey());
    } catch (error) {
      // What nobody has the key of any more can still be deleted: it is not read again.
      if (!isBeingDeleted(manifest) || !isStorageError(error, 'wrong-key')) throw error;
    }
    return document;
  }

  private async unlock(
    volumeId: string,
    document: Uint8Array,
    isNew = false,
  ): Promise<VolumeSealing | undefined> {
    const manifest = decodeManifest(document);
    const { encryption } = manifest;
    if (encryption === undefined) return undefined;
    const { keys, random } = this.context;
    const sealing = await VolumeSealing.unlock({ ...manifest, encryption }, keys, random);
    const read = this.unverified.get(volumeId) ?? [];
    for (const each of isNew ? read : [...read, document]) {
      requireAuthentic(volumeId, each, sealing);
    }
    this.unverified.delete(volumeId);
    this.known.set(volumeId, sealing);
    return sealing;
  }
}

function requireAuthentic(volumeId: string, document: Uint8Array, sealing: VolumeSealing): void {
  if (isAuthentic(document, sealing.manifestKey())) return;
  throw corrupt(
    `The manifest of encrypted volume ${volumeId} fails its authentication: somebody without the volume's key has changed it.`,
  );
}
