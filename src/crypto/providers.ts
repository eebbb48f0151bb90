import { StorageError } from '../base/errors.ts';
import type { WrappedKey } from '../format/wrapped-key.ts';
import { kmsKeeper, kmsSettingsOf, type SignForAws } from './aws-kms.ts';
import { commandKeeper } from './command-keeper.ts';
import { EnvelopeKey, type KeyKeeper } from './envelope-key.ts';
import type { KeyProvider } from './key-provider.ts';
import type { Keyring } from './keyring.ts';
import type { KeyEntry } from './keyring-entry.ts';
import type { AskPassphrase } from './passphrase.ts';
import { PassphraseKey } from './passphrase-key.ts';
import { tangKeeper, tangSettingsOf } from './tang.ts';
import { vaultKeeper, vaultSettingsOf } from './vault.ts';

/** What providers need of the machine. */
export interface KeySurroundings {
  readonly keyring: Keyring;
  readonly ask: AskPassphrase;
  /** Of programs that are started, and where the credentials of servers of keys are found. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly signForAws: SignForAws;
}

/** The provider of a key of the keyring, which remembers what it changes. */
export function providerOf(entry: KeyEntry, surroundings: KeySurroundings): KeyProvider {
  const { keyring, ask } = surroundings;
  const save = (changed: KeyEntry): Promise<void> =>
    keyring.change(({ keys, defaultKey }) => ({
      defaultKey,
      keys: keys.map((each) => (each.id === changed.id ? changed : each)),
    }));
  if (entry.provider === 'passphrase') {
    return new PassphraseKey({ entry, keyring: keyring.path, ask, save });
  }
  return new EnvelopeKey(entry, keeperOf(entry, surroundings), save);
}

function keeperOf(entry: KeyEntry, { environment, signForAws }: KeySurroundings): KeyKeeper {
  switch (entry.provider) {
    case 'command':
      return commandKeeper(entry, environment);
    case 'tang':
      return tangKeeper(entry.settings);
    case 'vault':
      return vaultKeeper(entry.settings, environment);
    case 'aws-kms':
      return kmsKeeper(entry.settings, signForAws);
    case 'passphrase':
      throw new StorageError('internal', 'a key with a passphrase is kept by nobody else');
  }
}

/** The provider of whatever wrapped this, when this host has it. */
export async function providerFor(
  wrapped: WrappedKey,
  surroundings: KeySurroundings,
): Promise<KeyProvider> {
  const { keys } = await surroundings.keyring.read();
  const known = keys.find(({ id }) => id === wrapped.keyId);
  if (known !== undefined) return providerOf(known, surroundings);
  const { keyName: name, keyId: id, keyVersion: version } = wrapped;
  const place = placeIn(wrapped, surroundings);
  if (place !== undefined) {
    return providerOf({ name, id, version, createdAt: '', ...place }, surroundings);
  }
  const here = `which is not in the keyring ${surroundings.keyring.path}`;
  throw new StorageError(
    'wrong-key',
    `${here}: bring it here with "elasticdrive key export" and "key import"`,
  );
}

/** Where a key lives that is in no keyring here, as far as what it wrapped may say that. */
function placeIn(
  { provider, fields }: WrappedKey,
  { environment }: KeySurroundings,
): Pick<KeyEntry, 'provider' | 'settings'> | undefined {
  switch (provider) {
    case 'tang':
      return { provider, settings: tangSettingsOf(fields) };
    case 'vault':
      return { provider, settings: { ...vaultSettingsOf(fields, environment) } };
    case 'aws-kms':
      return { provider, settings: { ...kmsSettingsOf(fields, environment) } };
    default:
      return undefined;
  }
}
