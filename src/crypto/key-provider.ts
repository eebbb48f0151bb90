import type { KeyContext, KeyProviderKind, WrappedKey } from '../format/wrapped-key.ts';

/** A key that lives somewhere, and wraps the data keys of volumes. */
export interface KeyProvider {
  wrap(secret: Uint8Array, context: KeyContext): Promise<WrappedKey>;
  /**
   * The secret, which whoever asked for it wipes. A `StorageError` of code `wrong-key` when this key
   * did not wrap it for this context, or is not to be had by this host; never anything else's bytes.
   */
  unwrap(wrapped: WrappedKey, context: KeyContext): Promise<Uint8Array>;
  /** What `wrap` uses from now on; what older versions wrapped can still be unwrapped. */
  rotate(): Promise<number>;
  describe(): KeyDescription;
  /** Wipes what it has opened to do so. */
  close(): void;
}

/** For the sentence that says where a key lives. Holds nothing secret. */
export interface KeyDescription {
  readonly kind: KeyProviderKind;
  /** "in /etc/elasticdrive/keys.json", "on the Tang server http://10.0.0.1". */
  readonly where: string;
}
