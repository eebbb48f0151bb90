import { formatSize, roundSize } from '../../base/quantity.ts';
import type { Snapshot } from '../../format/snapshot.ts';
import type { SnapshotProgress } from '../../volume/snapshots.ts';
import { fields, table } from '../output.ts';
import { snapshotArgument, snapshotData, stateOf } from '../snapshots.ts';
import { withStores } from '../stores.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { findOne, type StoredVolume, volumesOf } from '../volumes.ts';

export const listVerb: Verb = {
  name: 'list',
  summary: 'List the snapshots of a volume, or of all of them',
  examples: [
    ['list', 'list the snapshots of all volumes of the configured stores'],
    ['list data --json', 'list those of a volume, for a machine'],
  ],
  arguments: [['[volume]', 'its name']],
  keys: storeKeys,
  run: list,
};

export const showVerb: Verb = {
  name: 'show',
  summary: 'Show what is known of a snapshot, and how much data only it holds',
  examples: [['show data@before-upgrade', 'show one; VOLUME@ID does, too']],
  arguments: [['<snapshot>', 'VOLUME@NAME, or VOLUME@ID']],
  keys: storeKeys,
  run: show,
};

async function list(invocation: Invocation): Promise<undefined> {
  const [name] = invocation.arguments;
  await withStores(invocation, async (all) => {
    const { volumes, damage } =
      name === undefined
        ? await volumesOf(all)
        : { volumes: [await findOne(all, name)], damage: [] };
    const listed = volumes.flatMap((volume) =>
      volume.manifest.snapshots.map((snapshot) => ({ volume, snapshot })),
    );
    const data = listed.map(({ volume, snapshot }) => snapshotData(volume, snapshot));
    invocation.output.result(data, () =>
      listed.length === 0 ? `no snapshot of ${name ?? 'any volume'}` : listing(listed),
    );
    for (const error of damage) throw error;
  });
  return undefined;
}

function listing(
  listed: readonly { readonly volume: StoredVolume; readonly snapshot: Snapshot }[],
): string {
  return table(
    [
      { header: 'SNAPSHOT' },
      { header: 'SIZE', align: 'right' },
      { header: 'CREATED' },
      { header: 'STATE' },
      { header: 'CLONES', align: 'right' },
      { header: 'DESCRIPTION' },
    ],
    listed.map(({ volume: { manifest }, snapshot }) => [
      `${manifest.name}@${snapshot.name}`,
      formatSize(snapshot.sizeBytes),
      snapshot.createdAt,
      stateOf(snapshot, undefined),
      String(snapshot.clones.length),
      snapshot.description,
    ]),
  );
}

async function show(invocation: Invocation): Promise<undefined> {
  const { output, drivers, arguments: words } = invocation;
  const { volume, version } = snapshotArgument(words[0] ?? '');
  await withStores(invocation, async (all) => {
    const found = await findOne(all, volume);
    const { findSnapshot } = await import('../../volume/snapshot-changes.ts');
    const { onlyHeldBytes, storedProgress } = await import('../../volume/snapshot-usage.ts');
    const { pinStates } = await import('../../volume/clone-pins.ts');
    const snapshot = findSnapshot(found.manifest, version);
    const { store } = found.opened;
    const { isCompleted } = snapshot;
    output.progress(`comparing ${volume}@${snapshot.name} with what else there is …`);
    const onlyBytes = isCompleted
      ? await onlyHeldBytes(store, found.manifest, snapshot)
      : undefined;
    const progress = isCompleted
      ? undefined
      : await storedProgress(store, found.manifest, snapshot);
    const pins = await pinStates({ clock: drivers.clock, random: drivers.random, store }, snapshot);
    const clones = [...pins.values()].flatMap((pin) => (pin.kind === 'clone' ? [pin.name] : []));
    const data = { ...snapshotData(found, snapshot), progress, onlyBytes, clones };
    output.result(data, () => fields(rowsOf(found, snapshot, { progress, onlyBytes, clones })));
  });
  return undefined;
}

interface Shown {
  readonly progress: SnapshotProgress | undefined;
  readonly onlyBytes: number | undefined;
  readonly clones: readonly string[];
}

function rowsOf(
  { opened, manifest }: StoredVolume,
  snapshot: Snapshot,
  { progress, onlyBytes, clones }: Shown,
): [string, string][] {
  const { name, id, sizeBytes, createdAt, description, tags, segment } = snapshot;
  const rows: [string, string][] = [
    ['name', name],
    ['id', id],
    ['volume', manifest.name],
    ['store', opened.store.url],
    ['created', createdAt],
    ['size', `${formatSize(sizeBytes)} (${sizeBytes} bytes)`],
    ['state', stateOf(snapshot, progress)],
    ['as of', `segment ${segment}`],
  ];
  if (onlyBytes !== undefined) rows.push(['only here', `${roundSize(onlyBytes)} of data`]);
  if (description !== '') rows.push(['description', description]);
  for (const [key, value] of Object.entries(tags)) rows.push(['tag', `${key}=${value}`]);
  if (clones.length > 0) rows.push(['clones', clones.join(', ')]);
  return rows;
}
