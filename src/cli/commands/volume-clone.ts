import { Option } from 'commander';
import { isStorageError, StorageError } from '../../base/errors.ts';
import { formatSize, parseSize, sizeHint } from '../../base/quantity.ts';
import { parseVersionName } from '../../format/version-name.ts';
import { decodeSnapshot, type Snapshot } from '../../format/snapshot.ts';
import type { PinContext } from '../../volume/clone-pins.ts';
import type { SnapshotWish } from '../../volume/snapshot-changes.ts';
import { askDaemon, daemonKeys } from '../daemon.ts';
import { withStores } from '../stores.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { findOne, type StoredVolume, withStore } from '../volumes.ts';
import { withoutDaemon } from '../without-daemon.ts';

export const cloneVerb: Verb = {
  name: 'clone',
  summary:
    'Make a volume of another as it is, or was at a snapshot, in a moment and copying nothing',
  examples: [
    ['clone data test', 'make the volume test: what data has now, independent from then on'],
    ['clone data@monday test', 'make it of the snapshot monday'],
    ['clone data@monday test --size 200GiB', 'make it larger at the same time'],
  ],
  arguments: [
    [
      '<source>',
      'the volume, or its snapshot as VOLUME@SNAPSHOT; it may be attached, here or elsewhere',
    ],
    ['<name>', 'the name of the clone, unique in the store'],
  ],
  options: [new Option('--size <size>', `no less than the source has; ${sizeHint}`)],
  keys: [...daemonKeys, ...storeKeys],
  run: clone,
};

async function clone(invocation: Invocation): Promise<undefined> {
  const { output, drivers } = invocation;
  const [source = '', name = ''] = invocation.arguments;
  const sizeBytes = sizeIn(invocation);
  const { volume, version: snapshotName } = parseVersionName(source) ?? { volume: source };
  await withStores(invocation, async (all) => {
    const stored = await findOne(all, volume);
    const { store } = stored.opened;
    const context = { clock: drivers.clock, random: drivers.random, store };
    output.progress(`cloning ${source} …`);
    const manifest = await cloneOf(invocation, context, stored, { name, snapshotName, sizeBytes });
    output.result(withStore({ opened: stored.opened, manifest }), () => {
      return `created ${name}, ${formatSize(manifest.sizeBytes)}, a clone of ${source} in ${store.url}`;
    });
  });
  return undefined;
}

function sizeIn({ options }: Invocation): number | undefined {
  const text = options['size'];
  if (typeof text !== 'string') return undefined;
  const sizeBytes = parseSize(text);
  if (sizeBytes === undefined) throw new StorageError('usage', `--size expected ${sizeHint}`);
  return sizeBytes;
}

interface Wanted {
  readonly name: string;
  readonly snapshotName?: string | undefined;
  readonly sizeBytes: number | undefined;
}

async function cloneOf(
  invocation: Invocation,
  context: PinContext,
  stored: StoredVolume,
  { name, snapshotName, sizeBytes }: Wanted,
) {
  const { id } = stored.manifest;
  const { cloneVolume, requireFreeName } = await import('../../volume/cloning.ts');
  const { dropUnneeded } = await import('../../volume/clone-pins.ts');
  const { findSnapshot } = await import('../../volume/snapshot-changes.ts');
  if (snapshotName !== undefined) {
    const { id: snapshotId } = findSnapshot(stored.manifest, snapshotName);
    return cloneVolume(context, { name, sourceId: id, snapshotId, sizeBytes });
  }
  // Before a snapshot is made in vain.
  await requireFreeName(context.store, name);
  const { id: snapshotId } = await snapshotNow(invocation, context, stored, name);
  try {
    return await cloneVolume(context, { name, sourceId: id, snapshotId, sizeBytes });
  } catch (error) {
    await dropUnneeded(context, id, snapshotId).catch(() => undefined);
    throw error;
  }
}

/** A completed snapshot of the volume as it is: made in its store if nobody has it, else by who does. */
async function snapshotNow(
  invocation: Invocation,
  context: PinContext,
  { manifest }: StoredVolume,
  clone: string,
): Promise<Snapshot> {
  const { snapshotForClone } = await import('../../volume/clone-pins.ts');
  const { snapshotAtRest } = await import('../../volume/snapshot-at-rest.ts');
  const { completeSnapshotDetached } = await import('../../host/snapshotting.ts');
  const wish = snapshotForClone(clone, context.random);
  return (
    (await snapshotAtRest(context, manifest.id, wish)) ??
    (await askForSnapshot(invocation, manifest.name, wish)) ??
    (await withoutDaemon(invocation, manifest.name, (source) =>
      completeSnapshotDetached(source, manifest.name, wish),
    ))
  );
}

/** Asks the daemon; `undefined` when there is none, or the volume is in no store of its own. */
async function askForSnapshot(
  invocation: Invocation,
  volume: string,
  wish: SnapshotWish,
): Promise<Snapshot | undefined> {
  const query = new URLSearchParams({ volume, wish: JSON.stringify(wish) });
  const how = { method: 'POST', required: false } as const;
  try {
    const answer = await askDaemon(invocation, `/snapshot?${query.toString()}`, how);
    return answer === undefined ? undefined : decodeSnapshot(answer);
  } catch (error) {
    if (isStorageError(error, 'not-found')) return undefined;
    throw error;
  }
}
