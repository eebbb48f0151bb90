import { type Clock, isoTime } from '../base/clock.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import { listAll, type ObjectStore } from '../base/object-store.ts';
import type { Random } from '../base/random.ts';
import { bytesToHex } from '../format/binary.ts';
import type { Codec } from '../format/compression.ts';
import { blockBytes, maximumVolumeBytes } from '../format/geometry.ts';
import {
  decodeNameRecord,
  type Durability,
  encodeManifest,
  encodeNameRecord,
  type Manifest,
} from '../format/manifest.ts';
import { manifestKey, nameKey, namesPrefix, requireVolumeName } from '../format/names.ts';
import { loadManifest } from './ownership.ts';
import { retentionFromBirth } from './retention.ts';
import { type EncryptionWish, newEncryptionIn } from './sealing-store.ts';

export interface NewVolume {
  readonly name: string;
  /** A multiple of 4096 bytes, up to 64 TiB. */
  readonly sizeBytes: number;
  readonly codec?: Codec;
  readonly durability?: Durability;
  /** How long all that is written is kept, to go back to any moment; 0 for not at all. */
  readonly retainMs?: number;
  /** Absent: it is not encrypted. */
  readonly encryption?: EncryptionWish | undefined;
}

export interface CatalogContext {
  readonly clock: Clock;
  readonly random: Random;
}

/** The size, when a volume may have it; else `usage`. */
export function requireVolumeSize(sizeBytes: number): number {
  if (sizeBytes > 0 && sizeBytes % blockBytes === 0 && sizeBytes <= maximumVolumeBytes) {
    return sizeBytes;
  }
  throw new StorageError(
    'usage',
    `A volume's size is a multiple of ${blockBytes} bytes, from ${blockBytes} up to 64 TiB; ${sizeBytes} bytes is not.`,
  );
}

/** Makes a volume; `already-exists` when the name is taken. Writes a manifest and a name. */
export async function createVolume(
  store: ObjectStore,
  wanted: NewVolume,
  context: CatalogContext,
): Promise<Manifest> {
  const name = requireVolumeName(wanted.name);
  const sizeBytes = requireVolumeSize(wanted.sizeBytes);
  if ((await store.load(nameKey(name))) !== undefined) throw nameTaken(store, name);
  const nowMs = context.clock.wallMs();
  const { retainMs = 0 } = wanted;
  const id = bytesToHex(context.random.bytes(16));
  const manifest: Manifest = {
    id,
    name,
    sizeBytes,
    createdAt: isoTime(nowMs),
    codec: wanted.codec ?? 'zstd',
    durability: wanted.durability ?? 'local',
    epoch: 0,
    closedThrough: 0,
    tenures: [],
    writer: undefined,
    head: undefined,
    ancestors: [],
    placement: undefined,
    snapshots: [],
    retention: retainMs === 0 ? undefined : retentionFromBirth(retainMs, nowMs),
    ...(wanted.encryption === undefined
      ? {}
      : { encryption: await newEncryptionIn(store, { id, name }, wanted.encryption) }),
    nonce: bytesToHex(context.random.bytes(16)),
  };
  // The manifest first: a name never points at nothing.
  await store.swap(manifestKey(manifest.id), undefined, encodeManifest(manifest));
  const record = encodeNameRecord(manifest.id);
  const version = await store.swap(nameKey(name), undefined, record);
  if (version !== undefined || (await findVolumeId(store, name)) === manifest.id) return manifest;
  await store.remove(manifestKey(manifest.id));
  throw nameTaken(store, name);
}

export function nameTaken(store: ObjectStore, name: string): StorageError {
  return new StorageError('already-exists', `There is a volume ${name} in ${store.url} already.`);
}

/** The id of the volume of that name; `not-found` when there is none. */
export async function findVolumeId(store: ObjectStore, name: string): Promise<string> {
  const record = await store.load(nameKey(requireVolumeName(name)));
  if (record === undefined) {
    throw new StorageError(
      'not-found',
      `There is no volume ${name} in ${store.url}; "elasticdrive volume list" shows those that are.`,
    );
  }
  return decodeNameRecord(record.value);
}

export async function findVolume(store: ObjectStore, name: string): Promise<Manifest> {
  return (await loadManifest(store, await findVolumeId(store, name))).manifest;
}

/** The names of all volumes, in order. */
export async function listVolumeNames(store: ObjectStore): Promise<string[]> {
  const names: string[] = [];
  for await (const { key } of listAll(store, namesPrefix))
    names.push(key.slice(namesPrefix.length));
  return names;
}

/** The volumes whose manifests are whole; `onDamaged` is told of the others. */
export async function listVolumes(
  store: ObjectStore,
  onDamaged: (name: string, error: StorageError) => void,
): Promise<Manifest[]> {
  const find = async (name: string): Promise<Manifest[]> => {
    try {
      return [await findVolume(store, name)];
    } catch (error) {
      if (isStorageError(error, 'corrupt')) onDamaged(name, error);
      // It was deleted meanwhile, else the store is to blame.
      else if (!isStorageError(error, 'not-found')) throw error;
      return [];
    }
  };
  return (await Promise.all((await listVolumeNames(store)).map(find))).flat();
}
