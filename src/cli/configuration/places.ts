import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { StorageError } from '../../base/errors.ts';
import type { Configuration } from './load.ts';
import type { StoreConfiguration } from './resolve.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Where everything lies when nobody said anything. */
const defaultDirectory = 'elasticdrive-data';

/** The stores that were named, else the directory store under the working directory. */
export function storesOf(
  configuration: Configuration,
  workingDirectory: string,
): { readonly stores: readonly StoreConfiguration[]; readonly named: boolean } {
  if (configuration.stores.length > 0) return { stores: configuration.stores, named: true };
  const url = pathToFileURL(join(workingDirectory, defaultDirectory, 'store')).href;
  return { stores: [{ url, settings: configuration.settings }], named: false };
}

/**
 * The state directory: the one that was named; beside the store where that is the default one; else
 * the one that systemd gives, or that of the user.
 */
export function stateDirectoryOf(
  configuration: Configuration,
  environment: Environment,
  workingDirectory: string,
): string {
  if (configuration.settings.state_dir !== undefined) return configuration.settings.state_dir;
  if (configuration.stores.length === 0) return join(workingDirectory, defaultDirectory, 'state');
  const [ours] = systemDirectories(environment);
  if (ours !== undefined) return ours;
  throw new StorageError(
    'usage',
    'there is no HOME to keep journals in: name a directory with --state-dir',
  );
}

/** Where a daemon that `status` is to find may have its state, the likeliest first. */
export function likelyStateDirectories(
  configuration: Configuration,
  environment: Environment,
  workingDirectory: string,
): string[] {
  if (configuration.settings.state_dir !== undefined) return [configuration.settings.state_dir];
  return [
    join(workingDirectory, defaultDirectory, 'state'),
    ...systemDirectories(environment),
    '/var/lib/elasticdrive',
  ];
}

/** The keyring: the one that was named, a credential, else the one of the system or of the user. */
export function keyringPathOf(
  { settings }: Configuration,
  environment: Environment,
  userId: number | undefined,
): string {
  if (settings.keyring !== undefined) return settings.keyring;
  const credentials = environment['CREDENTIALS_DIRECTORY'];
  const given = credentials === undefined ? undefined : join(credentials, 'elasticdrive.keyring');
  if (given !== undefined && existsSync(given)) return given;
  if (userId === 0) return '/etc/elasticdrive/keys.json';
  const home = environment['HOME'];
  const configHome = environment['XDG_CONFIG_HOME'] || (home ? join(home, '.config') : undefined);
  if (configHome !== undefined) return join(configHome, 'elasticdrive', 'keys.json');
  throw new StorageError('usage', 'there is no HOME for a keyring: name a file with --keyring');
}

function systemDirectories(environment: Environment): string[] {
  const home = environment['HOME'];
  const stateHome =
    environment['XDG_STATE_HOME'] || (home ? join(home, '.local', 'state') : undefined);
  return [
    // systemd gives one path for each StateDirectory=, with colons between.
    environment['STATE_DIRECTORY']?.split(':')[0],
    stateHome === undefined ? undefined : join(stateHome, 'elasticdrive'),
  ].filter((directory) => directory !== undefined && directory !== '') as string[];
}
