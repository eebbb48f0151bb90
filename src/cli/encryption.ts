import { Option } from 'commander';
import { StorageError } from '../base/errors.ts';
import type { Manifest } from '../format/manifest.ts';
import { type CipherName, cipherNames } from '../format/sealing.ts';
import type { EncryptionWish } from '../volume/sealing-store.ts';
import type { OpenStore } from './drivers.ts';

/** Flags of what makes volumes. */
export const encryptionOptions: readonly Option[] = [
  new Option('--encrypt', 'encrypt it on this host, before anything is stored; see "key create"'),
  new Option('--no-encrypt', 'do not, though the configuration of the store says so'),
  new Option('--key <name>', 'the key that wraps its data key, if it is not the default one'),
  new Option('--cipher <cipher>', 'chacha20-poly1305 for machines without AES instructions')
    .choices(cipherNames)
    .argParser(cipherIn),
];

function cipherIn(text: string): CipherName {
  const known = cipherNames.find((name) => name === text);
  if (known !== undefined) return known;
  throw new StorageError('usage', `--cipher is one of ${cipherNames.join(', ')}`);
}

/** How a volume that is made in this store is to be encrypted; `undefined`: not at all. */
export function encryptionIn(
  options: Readonly<Record<string, unknown>>,
  { encryption }: OpenStore,
): EncryptionWish | undefined {
  const isAsked = options['encrypt'] as boolean | undefined;
  const key = options['key'] as string | undefined;
  const cipher = options['cipher'] as CipherName | undefined;
  if (isAsked ?? encryption !== undefined) {
    return { cipher, keyName: key ?? encryption?.keyName };
  }
  if (key === undefined && cipher === undefined) return undefined;
  throw new StorageError('usage', '--key and --cipher are for a volume with --encrypt');
}

/** For people: with what a volume is encrypted, and what opens it. */
export function describeEncryption({ encryption }: Manifest): string {
  const wrapped = encryption?.keys.at(-1)?.wrapped;
  if (encryption === undefined || wrapped === undefined) return 'no';
  return `${encryption.cipher}, with the key "${wrapped.keyName}" (${wrapped.provider})`;
}

/** For machines. */
export function encryptionFields({ encryption }: Manifest): object | null {
  if (encryption === undefined) return null;
  const { cipher, keys } = encryption;
  return {
    cipher,
    keys: keys.map(({ generation, wrapped, recovery }) => {
      const { provider, keyName, keyId, keyVersion } = wrapped;
      return { generation, provider, keyName, keyId, keyVersion, recovery: recovery !== undefined };
    }),
  };
}
