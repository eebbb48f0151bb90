import { StorageError } from '../base/errors.ts';
import type { KeyEntry } from '../crypto/keyring-entry.ts';
import type { AuditEvent } from '../host/audit-log.ts';
import type { KeyName } from './configuration/keys.ts';
import type { DependedKey } from './key-dependants.ts';
import { withStores } from './stores.ts';
import type { Invocation } from './verb.ts';
import type { ConfiguredKeys } from './volume-keys.ts';

/** Keys of the configuration that say where keys are, and what opens them. */
export const keyringKeys: readonly KeyName[] = [
  'keyring',
  'password_file',
  'password_command',
  'state_dir',
];

export async function keysFor(invocation: Invocation): Promise<ConfiguredKeys> {
  const { keysOf } = await import('./volume-keys.ts');
  return keysOf(invocation, await invocation.configuration());
}

/** What the stores need, each key under its id. */
export async function depended(invocation: Invocation): Promise<Map<string, DependedKey>> {
  const { dependedKeys } = await import('./key-dependants.ts');
  const all = await withStores(invocation, dependedKeys);
  return new Map(all.map((each) => [each.keyId, each]));
}

export function auditOf(
  entry: KeyEntry,
): Pick<AuditEvent, 'provider' | 'key' | 'keyId' | 'keyVersion'> {
  const { provider, name, id, version } = entry;
  return { provider, key: name, keyId: id, keyVersion: version };
}

export function nameTaken(name: string): StorageError {
  return new StorageError('already-exists', `there is a key "${name}" already`);
}

export function badName(name: string): StorageError {
  return new StorageError(
    'usage',
    `"${name}" cannot name a key: use 1 to 63 letters, digits, ".", "_" or "-", beginning with a letter or digit`,
  );
}
