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
