import type { KeyContext, WrappedGeneration } from '../format/wrapped-key.ts';

/**
 * The keys of volumes, as whoever opens one asks for them: it knows of no providers, only that what it
 * reads in a manifest becomes a secret, or an error of code `wrong-key` that says where the key lives.
 */
export interface VolumeKeys {
  /**
   * The secrets of all of them, in their order: each for the volume and generation that it was made
   * for, which for the ancestors of a clone are theirs. `volumeName` is for people. Whoever asked
   * wipes them.
   */
  unwrapAll(
    volumeName: string,
    wrapped: readonly (WrappedGeneration & { readonly volumeId: string })[],
  ): Promise<Uint8Array[]>;
  /** A new secret as the manifest may hold it; by the default key where no name is given. */
  wrapNew(
    volumeName: string,
    secret: Uint8Array,
    context: KeyContext,
    keyName?: string,
  ): Promise<WrappedGeneration>;
}
