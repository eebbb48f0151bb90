import { daemonKeys } from '../daemon.ts';
import { snapshotArgument, snapshotData } from '../snapshots.ts';
import { withStores } from '../stores.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { findOne } from '../volumes.ts';

export const deleteVerb: Verb = {
  name: 'delete',
  summary: 'Delete a snapshot, for good; refused while clones read it',
  examples: [['delete data@before-upgrade', 'delete one: it is not asked again']],
  arguments: [['<snapshot>', 'VOLUME@NAME, or VOLUME@ID']],
  keys: [...daemonKeys, ...storeKeys],
  run: remove,
};

/** One change of the manifest, whoever has the volume. */
async function remove(invocation: Invocation): Promise<undefined> {
  const { output, drivers, arguments: words } = invocation;
  const { volume, version } = snapshotArgument(words[0] ?? '');
  await withStores(invocation, async (all) => {
    const { opened, manifest } = await findOne(all, volume);
    const { findSnapshot, removeSnapshot } = await import('../../volume/snapshot-changes.ts');
    const { requireUncloned } = await import('../../volume/deletion.ts');
    const { changeManifest } = await import('../../volume/manifest-change.ts');
    const snapshot = findSnapshot(manifest, version);
    const context = { clock: drivers.clock, random: drivers.random, store: opened.store };
    output.progress(`deleting ${volume}@${snapshot.name} …`);
    await requireUncloned(context, manifest, snapshot);
    await changeManifest(context, manifest.id, (present) => removeSnapshot(present, snapshot.id));
    output.result({ deleted: snapshotData({ opened, manifest }, snapshot) }, () => {
      return `deleted ${volume}@${snapshot.name} from ${opened.store.url}`;
    });
  });
  return undefined;
}
