import { Fields } from './json-fields.ts';

/** What binds a wrapped key to what it is for: authenticated, not secret. */
export interface KeyContext {
  readonly volumeId: string;
  readonly generation: number;
}

export const keyProviderKinds = [
  'passphrase',
  'tang',
  'command',
  'vault',
  'aws-kms',
  'recovery',
] as const;
export type KeyProviderKind = (typeof keyProviderKinds)[number];

/** A data key as a manifest holds it: nothing in it is secret. */
export interface WrappedKey {
  readonly provider: KeyProviderKind;
  /** The name of the key that wrapped it, where it was wrapped. */
  readonly keyName: string;
  /** Which key that is, whatever it is called elsewhere. */
  readonly keyId: string;
  readonly keyVersion: number;
  /** What the provider needs to unwrap it, and what it knows the context by. */
  readonly fields: Readonly<Record<string, string>>;
}

/** One data key of a volume, wrapped by the key that it is used with and by one kept on paper. */
export interface WrappedGeneration {
  readonly generation: number;
  readonly wrapped: WrappedKey;
  readonly recovery?: WrappedKey;
}

export function decodeWrappedKey(value: unknown): WrappedKey {
  const fields = new Fields(value, 'wrapped key');
  return {
    provider: fields.oneOf('provider', keyProviderKinds),
    keyName: fields.text('keyName'),
    keyId: fields.text('keyId'),
    keyVersion: fields.count('keyVersion'),
    fields: fields.texts('fields'),
  };
}

export function decodeWrappedGeneration(value: unknown): WrappedGeneration {
  const fields = new Fields(value, 'wrapped data key');
  const recovery = fields.optional('recovery', decodeWrappedKey, null);
  return {
    generation: fields.count('generation'),
    wrapped: fields.nested('wrapped', decodeWrappedKey),
    ...(recovery === undefined ? {} : { recovery }),
  };
}
