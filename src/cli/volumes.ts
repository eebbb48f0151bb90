import { isStorageError, StorageError } from '../base/errors.ts';
import type { Manifest } from '../format/manifest.ts';
import type { OpenStore } from './drivers.ts';

export interface StoredVolume {
  readonly opened: OpenStore;
  readonly manifest: Manifest;
}

export async function volumesOf(opened: OpenStore): Promise<StoredVolume[]> {
  const { listVolumes } = await import('../volume/catalog.ts');
  return (await listVolumes(opened.store)).map((manifest) => ({ opened, manifest }));
}

/** The one volume of that name in the stores. */
export async function findOne(all: readonly OpenStore[], name: string): Promise<StoredVolume> {
  const { findVolume } = await import('../volume/catalog.ts');
  const found = await Promise.all(
    all.map(async (opened): Promise<StoredVolume[]> => {
      try {
        return [{ opened, manifest: await findVolume(opened.store, name) }];
      } catch (error) {
        if (isStorageError(error, 'not-found')) return [];
        throw error;
      }
    }),
  );
  const [first, second] = found.flat();
  if (first === undefined) {
    const where = all.map(({ store }) => store.url).join(' or ');
    throw new StorageError('not-found', `there is no volume "${name}" in ${where}`);
  }
  if (second !== undefined) {
    throw new StorageError(
      'conflict',
      `several stores have a volume "${name}": choose with --store`,
    );
  }
  return first;
}
