import { isStorageError, StorageError } from '../base/errors.ts';
import type { KeyName } from './configuration/keys.ts';
import { likelyStateDirectories } from './configuration/places.ts';
import type { Invocation } from './verb.ts';

/** Keys that say which daemon is meant. */
export const daemonKeys: readonly KeyName[] = ['state_dir', 'control_socket'];

/**
 * Asks the daemon that serves from here or by this configuration. `undefined` when there is none and
 * that is no error.
 */
export async function askDaemon(
  invocation: Invocation,
  path: string,
  { method = 'GET', required = true }: { method?: 'GET' | 'POST'; required?: boolean } = {},
): Promise<unknown> {
  const configuration = await invocation.configuration();
  const { askControl, findControlSocket } = await import('../host/control-socket.ts');
  const { environment, workingDirectory } = invocation;
  const named = configuration.settings.control_socket;
  const likely = likelyStateDirectories(configuration, environment, workingDirectory);
  const sockets = named === undefined ? await Promise.all(likely.map(findControlSocket)) : [named];
  for (const socket of sockets) {
    const answer = await askControl(socket, path, method);
    if (answer !== undefined) return answer;
  }
  if (!required) return undefined;
  throw new StorageError(
    'not-found',
    `no daemon answers at ${sockets.join(' or ')}: name its state directory with --state-dir`,
  );
}

/**
 * Asks the daemon to do something with a volume; `undefined` when there is none here, or the volume is
 * in no store of its own: then whoever asks does it himself.
 */
export async function askForVolume(
  invocation: Invocation,
  route: string,
  parameters: Readonly<Record<string, string>>,
): Promise<unknown> {
  const query = new URLSearchParams(parameters);
  try {
    const how = { method: 'POST', required: false } as const;
    return await askDaemon(invocation, `/${route}?${query.toString()}`, how);
  } catch (error) {
    if (isStorageError(error, 'not-found')) return undefined;
    throw error;
  }
}
