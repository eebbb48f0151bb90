import type { KeyContext, WrappedGeneration, WrappedKey } from '../format/wrapped-key.ts';

/** A data key and the volume that it was made for: for the ancestors of a clone, theirs. */
export type WrappedOfVolume = WrappedGeneration & { readonly volumeId: string };

/**
 * The keys of volumes, as whoever opens one asks for them: it knows of no providers, only that what it
 * reads in a manifest becomes a secret, or an error of code `wrong-key` that says where the key lives.
 */
export interface VolumeKeys {
  /**
   * The secrets of all of them, in their order. `volumeName` is for people. Whoever asked wipes
   * them.
   */
  unwrapAll(volumeName: string, wrapped: readonly WrappedOfVolume[]): Promise<Uint8Array[]>;
  /**
   * A new secret as the manifest may hold it: wrapped by the key of this name, by the key that wrapped
   * another secret, whatever it is called here, or by the default one.
   */
  wrapNew(
    volumeName: string,
    secret: Uint8Array,
    context: KeyContext,
    by?: string | WrappedKey,
  ): Promise<WrappedGeneration>;
}
