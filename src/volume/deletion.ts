import { StorageError } from '../base/errors.ts';
import { listAll, type ObjectStore } from '../base/object-store.ts';
import { bytesToHex } from '../format/binary.ts';
import {
  deletionWriter,
  encodeManifest,
  isBeingDeleted,
  type Manifest,
} from '../format/manifest.ts';
import { manifestKey, nameKey, volumePrefix } from '../format/names.ts';
import type { Snapshot } from '../format/snapshot.ts';
import { type CatalogContext, findVolumeId } from './catalog.ts';
import { dropStalePins, isNamed, type PinContext, pinStates, unpinAll } from './clone-pins.ts';
import { changeManifest } from './manifest-change.ts';
import { findManifest, type LoadedManifest, loadManifest } from './ownership.ts';
import { type LeaseWatch, type TakeOver, whenFree } from './take-over.ts';

/** So often it is looked whether a volume has clones. */
const attempts = 3;

export interface DeleteOptions extends CatalogContext {
  /** What to do when a writer has the volume; `never`: nothing is deleted. */
  readonly takeOver?: TakeOver;
  readonly onWatch?: (watch: LeaseWatch) => void;
}

/**
 * Deletes a volume and all it has. Its epoch is taken first, so that a writer that wakes finds it gone
 * and no host attaches it meanwhile; then goes its name, and the manifest last, so that a deletion that
 * was interrupted is seen to be unfinished. `held` when a writer has it that is to be left alone,
 * `in-use` when clones read it.
 */
export async function deleteVolume(
  store: ObjectStore,
  name: string,
  options: DeleteOptions,
): Promise<void> {
  const id = await findVolumeId(store, name);
  const context = { ...options, store };
  if (await leadsNowhere(store, id)) {
    await store.remove(nameKey(name));
    return;
  }
  const doomed = await doom(context, await whenUncloned(context, id));
  await store.remove(nameKey(name));
  await removeAll(context, doomed);
}

/**
 * A network that does a request long after it was given up can bring back the name of a volume that is
 * gone. Whose manifest alone is missing is a damaged volume: nothing of that is deleted.
 */
async function leadsNowhere(store: ObjectStore, id: string): Promise<boolean> {
  if ((await findManifest(store, id)) !== undefined) return false;
  for await (const _ of listAll(store, volumePrefix(id))) return false;
  return true;
}

/** The manifest of a volume that nobody has, or may have, and that no clone has pinned. */
async function whenUncloned(
  context: DeleteOptions & PinContext,
  id: string,
): Promise<LoadedManifest> {
  const { store } = context;
  for (let attempt = 1; ; attempt += 1) {
    // Before a lease is watched for long; and again of what is then to be deleted.
    await requireNoClones(context, (await loadManifest(store, id)).manifest);
    const options = { ...context, writerId: deletionWriter.id };
    const loaded = await whenFree(await loadManifest(store, id), options);
    const { name, snapshots } = loaded.manifest;
    if (snapshots.every(({ clones }) => clones.length === 0)) return loaded;
    if (attempt < attempts) continue;
    throw new StorageError('conflict', `Volume ${name} is being cloned all the time; try again.`);
  }
}

/** From now on nobody can attach the volume, and no clone can be made of it. */
async function doom(
  { store, random }: PinContext,
  { manifest, version }: LoadedManifest,
): Promise<Manifest> {
  const doomed: Manifest = {
    ...{ ...manifest, epoch: manifest.epoch + 1, writer: deletionWriter },
    nonce: bytesToHex(random.bytes(16)),
  };
  const swapped = await store.swap(manifestKey(manifest.id), version, encodeManifest(doomed));
  if (swapped !== undefined) return doomed;
  const message = `Volume ${manifest.name} was changed by another host while it was to be deleted; try again.`;
  throw new StorageError('conflict', message);
}

/** The pins go last: by them, whoever wants to delete an ancestor finds what was left. */
async function removeAll(context: PinContext, { id, ancestors }: Manifest): Promise<void> {
  const { store } = context;
  const key = manifestKey(id);
  for await (const { key: each } of listAll(store, volumePrefix(id))) {
    if (each !== key) await store.delete(each);
  }
  await store.remove(key);
  await unpinAll(context, ancestors, id);
}

/** That no clone, of whatever generation, reads what the volume has; `in-use` names them. */
export async function requireNoClones(
  context: PinContext,
  manifest: Manifest,
  deed: Deed = 'deleted',
): Promise<void> {
  const lists = [];
  for (const snapshot of manifest.snapshots) lists.push(await clonesAt(context, snapshot));
  refuse(`Volume ${manifest.name}`, lists.flat(), deed);
  for (const snapshot of manifest.snapshots) await dropStalePins(context, manifest.id, snapshot);
}

/** Likewise of one snapshot, whose pins that stand for nothing are dropped. */
export async function requireUncloned(
  context: PinContext,
  manifest: Manifest,
  snapshot: Snapshot,
): Promise<void> {
  const clones = await clonesAt(context, snapshot);
  refuse(`Snapshot ${manifest.name}@${snapshot.name}`, clones, 'deleted');
  await dropStalePins(context, manifest.id, snapshot);
}

/** What is to be done with a volume, and first with its clones. */
type Deed = 'deleted' | 'flattened';

function refuse(what: string, clones: readonly string[], deed: Deed): void {
  const names = [...new Set(clones)].sort();
  if (names.length === 0) return;
  const list = names.length === 1 ? `${names[0]} is a clone` : `${names.join(', ')} are clones`;
  throw new StorageError(
    'in-use',
    `${what} cannot be ${deed}: ${list} of it. Flatten or delete ${names.length === 1 ? 'that' : 'them'} first.`,
  );
}

/** The clones that pin a snapshot, by name; what was never finished is swept. */
async function clonesAt(context: PinContext, snapshot: Snapshot): Promise<string[]> {
  const names: string[] = [];
  for (const [id, state] of await pinStates(context, snapshot)) {
    if (state.kind === 'clone') names.push(state.name);
    else if (state.kind === 'unfinished')
      names.push(`volume ${id}, which is being made or deleted,`);
    else if (state.kind === 'forsaken') await sweepForsaken(context, id);
  }
  return names;
}

/** Removes a volume that has no name: a clone that was never finished, or what a deletion has left. */
async function sweepForsaken(context: PinContext, volumeId: string): Promise<void> {
  const loaded = await findManifest(context.store, volumeId);
  if (loaded === undefined) return;
  const doomed = isBeingDeleted(loaded.manifest) ? loaded.manifest : await doom(context, loaded);
  if (await isNamed(context.store, doomed)) {
    // It was finished after all. Who did so looks after the name: either sees the other.
    await changeManifest(context, volumeId, (manifest) =>
      isBeingDeleted(manifest) ? { ...manifest, writer: undefined } : manifest,
    );
    return;
  }
  await removeAll(context, doomed);
}
