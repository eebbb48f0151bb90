import type { CallOptions, ObjectStore } from '../base/object-store.ts';

/**
 * What became of a swap whose answer was lost. `applied`: the register holds our value. `not-applied`:
 * it still holds what it held before (the request may yet arrive, but then nothing else has changed
 * the register, and a repetition meets the same condition). `other`: somebody else's value is there,
 * which may or may not have replaced ours.
 */
export type SwapOutcome =
  | { readonly kind: 'applied'; readonly version: string }
  | { readonly kind: 'not-applied' }
  | { readonly kind: 'other' };

/** Decides by reading back and comparing the bytes, for every value carries its writer's nonce. */
export async function settleSwap(
  store: Pick<ObjectStore, 'load'>,
  key: string,
  expected: string | undefined,
  value: Uint8Array,
  options?: CallOptions,
): Promise<SwapOutcome> {
  const present = await store.load(key, options);
  if (present !== undefined && Buffer.compare(present.value, value) === 0) {
    return { kind: 'applied', version: present.version };
  }
  return present?.version === expected ? { kind: 'not-applied' } : { kind: 'other' };
}
