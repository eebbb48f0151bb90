import { StorageError } from '../base/errors.ts';
import type { RolledBack } from '../volume/rollback.ts';
import { readOnlyError } from './resizing.ts';
import type { VolumeSource } from './volume-source.ts';

/** Rolls a volume back that nobody has: attaches it for that, after which it is given up again. */
export async function rollBackDetached(
  source: VolumeSource,
  name: string,
  snapshot: string,
): Promise<RolledBack> {
  const nobody = new AbortController();
  const options = { takeOver: 'never', onWatch: () => undefined, signal: nobody.signal } as const;
  const volume = await source.attach(name, options);
  try {
    if (volume.rollback === undefined) throw readOnlyError(name);
    return await volume.rollback(snapshot);
  } finally {
    // Refused before anything was done.
    if (!volume.ended) await volume.close();
  }
}

export function busyError(name: string, clients: number): StorageError {
  const users = clients === 1 ? 'a client has it' : `${clients} clients have it`;
  return new StorageError(
    'held',
    `volume "${name}" is not rolled back while ${users}: what they keep in memory of it would no longer be true; unmount and disconnect it there, or disconnect them with "elasticdrive volume detach ${name}"`,
  );
}
