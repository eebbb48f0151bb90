import { isStorageError, StorageError } from '../base/errors.ts';
import type { Manifest } from '../format/manifest.ts';
import { type Parent, parentOf } from '../volume/family.ts';
import type { OpenStore } from './drivers.ts';
import { encryptionFields } from './encryption.ts';

export interface StoredVolume {
  readonly opened: OpenStore;
  readonly manifest: Manifest;
}

/** The volumes whose manifests are whole, and what is wrong with the others. */
export interface Listing {
  readonly volumes: StoredVolume[];
  readonly damage: StorageError[];
}

export async function volumesOf(all: readonly OpenStore[]): Promise<Listing> {
  const { listVolumes } = await import('../volume/catalog.ts');
  const damage: StorageError[] = [];
  const volumes = await Promise.all(
    all.map(async (opened): Promise<StoredVolume[]> => {
      const manifests = await listVolumes(opened.store, (name, error) => {
        damage.push(
          new StorageError('corrupt', `volume ${name}: ${error.message}`, { cause: error }),
        );
      });
      return manifests.map((manifest) => ({ opened, manifest }));
    }),
  );
  return { volumes: volumes.flat(), damage };
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

/** What `--json` prints of a volume. */
export function withStore({ opened, manifest }: StoredVolume): Record<string, unknown> {
  const { id, name, sizeBytes, createdAt, codec, durability, epoch, writer, head } = manifest;
  return {
    ...{ name, id, store: opened.store.url, sizeBytes, createdAt, codec, durability, epoch },
    writer: writer === undefined ? null : { id: writer.id, host: writer.host },
    headSegment: head?.segment ?? null,
    encryption: encryptionFields(manifest),
  };
}

/** What a volume is a clone of, by the names of those that were listed with it. */
export function parentIn(
  volumes: readonly StoredVolume[],
  { opened, manifest }: StoredVolume,
): Parent | undefined {
  const manifestOf = (id: string): Manifest | undefined =>
    volumes.find((each) => each.opened === opened && each.manifest.id === id)?.manifest;
  return parentOf(manifest, manifestOf);
}
