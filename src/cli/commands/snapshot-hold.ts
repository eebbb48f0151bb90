import { StorageError } from '../../base/errors.ts';
import { parseVersionName } from '../../format/version-name.ts';
import { withStores } from '../stores.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { findOne } from '../volumes.ts';

const snapshotArguments = [
  ['<snapshot>', 'the snapshot, as VOLUME@SNAPSHOT'],
  ['<hold>', 'what for: a name; a snapshot may have several holds'],
] as const;

export const holdVerb: Verb = {
  name: 'hold',
  summary: 'Keep a snapshot from being deleted, by people and by schedules',
  examples: [['hold data@monday audit', 'nobody deletes it before that hold is released']],
  arguments: snapshotArguments,
  keys: storeKeys,
  run: (invocation) => changeHold(invocation, 'hold'),
};

export const releaseVerb: Verb = {
  name: 'release',
  summary: 'Let go of a snapshot that is held',
  examples: [['release data@monday audit', 'it may be deleted, unless it is held for more']],
  arguments: snapshotArguments,
  keys: storeKeys,
  run: (invocation) => changeHold(invocation, 'release'),
};

async function changeHold(invocation: Invocation, what: 'hold' | 'release'): Promise<undefined> {
  const [name = '', hold = ''] = invocation.arguments;
  const version = parseVersionName(name);
  if (version === undefined)
    throw new StorageError('usage', `"${name}" is no snapshot: write VOLUME@SNAPSHOT`);
  const { random } = invocation.drivers;
  await withStores(invocation, async (all) => {
    const { opened, manifest } = await findOne(all, version.volume);
    const { changeManifest } = await import('../../volume/manifest-change.ts');
    const changes = await import('../../volume/snapshot-changes.ts');
    const { id } = changes.findSnapshot(manifest, version.version);
    const change = what === 'hold' ? changes.holdSnapshot : changes.releaseSnapshot;
    const changed = await changeManifest({ store: opened.store, random }, manifest.id, (before) =>
      change(before, id, hold),
    );
    const holds = changed.snapshots.find((each) => each.id === id)?.holds ?? [];
    invocation.output.result({ snapshot: name, id, holds }, () =>
      holds.length === 0 ? `${name} is not held` : `${name} is held for ${holds.join(', ')}`,
    );
  });
  return undefined;
}
