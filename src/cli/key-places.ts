import { resolve } from 'node:path';
import { Option } from 'commander';
import { StorageError } from '../base/errors.ts';
import type { KeyEntry } from '../crypto/keyring-entry.ts';
import type { Invocation } from './verb.ts';

/** Where a new key is to be kept: a provider, and what that needs to know. */
export type KeyPlace = Pick<KeyEntry, 'provider' | 'settings'>;

export const placeOptions: readonly Option[] = [
  new Option('--tang <url>', 'kept by a Tang server, as "clevis encrypt tang" does'),
  new Option('--thumbprint <text>', 'of a key that the Tang server signs with (tang-show-keys)'),
  new Option('--vault <url>', 'kept by a Vault or OpenBao at this address'),
  new Option('--vault-key <name>', 'the name of the key there; by default that of this key'),
  new Option('--vault-mount <path>', 'where its transit engine is').default('transit'),
  new Option('--vault-namespace <path>', 'the namespace that this is in'),
  new Option(
    '--vault-token-file <path>',
    'a file with the token; else VAULT_TOKEN, ~/.vault-token',
  ),
  new Option('--aws-kms <arn>', 'kept by AWS KMS, under this key or alias'),
  new Option('--aws-endpoint <url>', 'another server of KMS than that of the region'),
  new Option('--command <line>', 'kept by this program; words with spaces between'),
];

const urlPattern = /^https?:\/\/[^@?#\s]+$/;

/** `undefined` for the keyring itself. */
export async function placeIn(invocation: Invocation): Promise<KeyPlace | undefined> {
  const { options } = invocation;
  const textOf = (name: string): string | undefined => {
    const value = options[name];
    return typeof value === 'string' ? value : undefined;
  };
  const chosen = ['tang', 'vault', 'awsKms', 'command'].filter(
    (name) => textOf(name) !== undefined,
  );
  if (chosen.length > 1) throw new StorageError('usage', 'a key is kept in one place: name one');
  switch (chosen[0]) {
    case 'tang':
      return tangPlace(invocation, requireUrl('--tang', textOf('tang')), textOf('thumbprint'));
    case 'vault': {
      const file = textOf('vaultTokenFile');
      const settings = {
        address: requireUrl('--vault', textOf('vault')),
        mount: textOf('vaultMount') ?? 'transit',
        key: textOf('vaultKey') ?? invocation.arguments[0] ?? '',
        namespace: textOf('vaultNamespace') ?? '',
        tokenFile: file === undefined ? '' : resolve(invocation.workingDirectory, file),
      };
      return { provider: 'vault', settings };
    }
    case 'awsKms': {
      const { isKmsArn } = await import('../crypto/aws-kms.ts');
      const keyArn = textOf('awsKms') ?? '';
      if (!isKmsArn(keyArn)) {
        throw new StorageError('usage', '--aws-kms expected the ARN of a key or an alias of KMS');
      }
      const endpoint = textOf('awsEndpoint');
      const settings = {
        keyArn,
        endpoint: endpoint === undefined ? '' : requireUrl('--aws-endpoint', endpoint),
      };
      return { provider: 'aws-kms', settings };
    }
    case 'command': {
      const { commandSettings } = await import('../crypto/command-keeper.ts');
      const words = (textOf('command') ?? '').split(' ').filter((word) => word !== '');
      return { provider: 'command', settings: commandSettings(words) };
    }
    default:
      return undefined;
  }
}

async function tangPlace(
  { output }: Invocation,
  url: string,
  trusted: string | undefined,
): Promise<KeyPlace> {
  const { fetchAdvertisement } = await import('../crypto/tang.ts');
  const settings = await fetchAdvertisement(url, trusted);
  if (trusted === undefined) {
    output.warning(
      `${url} was believed to be the right server; "tang-show-keys" there must print ${settings.thumbprint}`,
    );
  }
  return { provider: 'tang', settings: { ...settings } };
}

function requireUrl(flag: string, text: string | undefined): string {
  if (text !== undefined && urlPattern.test(text)) return text;
  throw new StorageError('usage', `${flag} expected a URL such as "https://keys.example.org"`);
}
