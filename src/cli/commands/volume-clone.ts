import { Option } from 'commander';
import { StorageError } from '../../base/errors.ts';
import { formatSize, parseSize, sizeHint } from '../../base/quantity.ts';
import { parseMoment } from '../../base/moment.ts';
import type { WantedMoment } from '../../volume/wanted-moment.ts';
import { momentIn, momentOptions } from '../moments.ts';
import { parseVersionName } from '../../format/version-name.ts';
import type { PinContext } from '../../volume/clone-pins.ts';
import { daemonKeys } from '../daemon.ts';
import { snapshotNow } from '../snapshotting.ts';
import { withStores } from '../stores.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { findOne, type StoredVolume, withStore } from '../volumes.ts';

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
  const { snapshotForClone } = await import('../../volume/clone-pins.ts');
  const made = snapshotForClone(name, context.random);
  const wish = asOf === undefined ? made : { ...made, asOf };
  const { id: snapshotId } = await snapshotNow(invocation, context, stored.manifest, wish);
  try {
    return await cloneVolume(context, { name, sourceId: id, snapshotId, sizeBytes });
  } catch (error) {
    await dropUnneeded(context, id, snapshotId).catch(() => undefined);
    throw error;
  }
}
