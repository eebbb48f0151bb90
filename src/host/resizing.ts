import { StorageError } from '../base/errors.ts';
import type { Resized } from '../volume/resize.ts';
import type { AttachedVolume, VolumeSource } from './volume-source.ts';

/** What becomes of a volume's size. */
export interface Resizing {
  readonly sizeBytes: number;
  /** What is past `sizeBytes` is to be cut off, for good. */
  readonly shrinks: boolean;
}

/** Resizes a volume that this daemon, or this machine without one, does not serve. */
export async function resizeDetached(
  source: VolumeSource,
  name: string,
  { sizeBytes, shrinks }: Resizing,
): Promise<Resized> {
  if (!shrinks) return source.grow(name, sizeBytes);
  return withAttached(source, name, async (volume) => {
    if (volume.shrink === undefined) throw readOnlyError(name);
    return volume.shrink(sizeBytes);
  });
}

/** Attaches a volume that nobody has for what is to be done with it, and gives it up again. */
export async function withAttached<T>(
  source: VolumeSource,
  name: string,
  act: (volume: AttachedVolume) => Promise<T>,
): Promise<T> {
  const nobody = new AbortController();
  const options = { takeOver: 'never', onWatch: () => undefined, signal: nobody.signal } as const;
  const volume = await source.attach(name, options);
  let result: T;
  try {
    result = await act(volume);
  } catch (error) {
    // What it was to be told is the first failure.
    await volume.close().catch(() => volume.abandon());
    throw error;
  }
  await volume.close();
  return result;
}

export function readOnlyError(name: string): StorageError {
  return new StorageError('read-only', `volume "${name}" is attached for reading only`);
}

export function changingError(name: string): StorageError {
  return new StorageError(
    'held',
    `volume "${name}" is being made smaller or rolled back: ask again in a moment`,
  );
}

export function attachedError(name: string, clients: number): StorageError {
  const users = clients === 1 ? '1 client' : `${clients} clients`;
  const state = clients === 0 ? 'attached here' : `attached here and has ${users}`;
  return new StorageError(
    'held',
    `volume "${name}" is ${state}: give it up with "elasticdrive volume detach ${name}" before it is made smaller`,
  );
}
