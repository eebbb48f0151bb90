import { Option } from 'commander';
import { isStorageError, StorageError } from '../../base/errors.ts';
import { formatSize, parseSize, sizeHint } from '../../base/quantity.ts';
import { parseMoment } from '../../base/moment.ts';
import type { WantedMoment } from '../../volume/wanted-moment.ts';
import { momentIn, momentOptions } from '../moments.ts';
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
    ['clone data test --at 2026-11-20T10:15:00Z', 'make it of what data was then'],
  ],
  arguments: [
    [
      '<source>',
      'the volume, or its snapshot as VOLUME@SNAPSHOT; it may be attached, here or elsewhere',
    ],
    ['<name>', 'the name of the clone, unique in the store'],
  ],
  options: [
    new Option('--size <size>', `no less than the source has; ${sizeHint}`),
    ...momentOptions,
  ],
  keys: [...daemonKeys, ...storeKeys],
  run: clone,
};

async function clone(invocation: Invocation): Promise<undefined> {
  const { output, drivers } = invocation;
  const [source = '', name = ''] = invocation.arguments;
  const sizeBytes = sizeIn(invocation);
  const { volume, version } = parseVersionName(source) ?? { volume: source };
  const asOf = momentIn(invocation.options) ?? momentNamed(version);
  const snapshotName = momentNamed(version) === undefined ? version : undefined;
  if (asOf !== undefined && snapshotName !== undefined)
    throw new StorageError('usage', `${source} is of one moment already: leave --at out`);
  await withStores(invocation, async (all) => {
    const stored = await findOne(all, volume);
    const { store } = stored.opened;
    const context = { clock: drivers.clock, random: drivers.random, store };
    output.progress(`cloning ${source} …`);
    const manifest = await cloneOf(invocation, context, stored, {
      ...{ name, snapshotName, sizeBytes, asOf },
    });
    output.result(withStore({ opened: stored.opened, manifest }), () => {
      return `created ${name}, ${formatSize(manifest.sizeBytes)}, a clone of ${source} in ${store.url}`;
    });
  });
  return undefined;
}

/** `VOLUME@2026-11-20T10:15:00Z` is that volume as of then. */
function momentNamed(version: string | undefined): WantedMoment | undefined {
  const timeMs = version === undefined ? undefined : parseMoment(version);
  return timeMs === undefined ? undefined : { timeMs, flushed: false };
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
  readonly asOf: WantedMoment | undefined;
}

async function cloneOf(
  invocation: Invocation,
  context: PinContext,
  stored: StoredVolume,
  { name, snapshotName, sizeBytes, asOf }: Wanted,
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
  const { id: snapshotId } = await snapshotOf(invocation, context, stored, name, asOf);
  try {
    return await cloneVolume(context, { name, sourceId: id, snapshotId, sizeBytes });
  } catch (error) {
    await dropUnneeded(context, id, snapshotId).catch(() => undefined);
    throw error;
  }
}

/** A completed snapshot of the volume as it is, or was: made in its store if nobody has it, else by who does. */
async function snapshotOf(
  invocation: Invocation,
  context: PinContext,
  { manifest }: StoredVolume,
  clone: string,
  asOf: WantedMoment | undefined,
): Promise<Snapshot> {
  const { snapshotForClone } = await import('../../volume/clone-pins.ts');
  const { snapshotAtRest } = await import('../../volume/snapshot-at-rest.ts');
  const { completeSnapshotDetached } = await import('../../host/snapshotting.ts');
  const made = snapshotForClone(clone, context.random);
  const wish = asOf === undefined ? made : { ...made, asOf };
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
