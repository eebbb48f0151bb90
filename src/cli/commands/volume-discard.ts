import { Option } from 'commander';
import { StorageError } from '../../base/errors.ts';
import { roundSize } from '../../base/quantity.ts';
import type { SetAside } from '../../volume/set-aside.ts';
import { likelyStateDirectories } from '../configuration/places.ts';
import { withStores } from '../stores.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { findOne } from '../volumes.ts';

export const discardVerb: Verb = {
  name: 'discard',
  summary: 'Delete the journals of a volume that were set aside on this machine',
  examples: [['discard data --confirm data', 'delete what "volume show data" says is set aside']],
  arguments: [['<name>', 'its name']],
  options: [new Option('--confirm <name>', 'its name again').makeOptionMandatory()],
  keys: ['state_dir', ...storeKeys],
  run: discard,
};

interface Found extends SetAside {
  readonly stateDirectory: string;
}

/** What was set aside of a volume in the state directories that are likely this user's. */
export async function findSetAside(invocation: Invocation, volumeId: string): Promise<Found[]> {
  const { environment, workingDirectory, drivers } = invocation;
  const configuration = await invocation.loadConfiguration();
  const { listSetAside } = await import('../../volume/set-aside.ts');
  const found: Found[] = [];
  for (const stateDirectory of new Set(
    likelyStateDirectories(configuration, environment, workingDirectory),
  )) {
    const all = await listSetAside(drivers.openDisk(stateDirectory), volumeId);
    found.push(...all.map((each) => ({ ...each, stateDirectory })));
  }
  return found;
}

/** One that was set aside, for people. */
export function describeSetAside({ epoch, segments, dataBytes, setAsideAt }: SetAside): string {
  return `${roundSize(dataBytes)} in ${segments} segments of epoch ${epoch}, set aside ${setAsideAt}`;
}

async function discard(invocation: Invocation): Promise<undefined> {
  const [name = ''] = invocation.arguments;
  if (invocation.options['confirm'] !== name) {
    throw new StorageError(
      'usage',
      `what was set aside may be in no other place: repeat the volume's name with --confirm ${name}`,
    );
  }
  await withStores(invocation, async (all) => {
    const { manifest } = await findOne(all, name);
    const found = await findSetAside(invocation, manifest.id);
    const { removeSetAside } = await import('../../volume/set-aside.ts');
    for (const each of found) {
      await removeSetAside(invocation.drivers.openDisk(each.stateDirectory), each);
    }
    invocation.output.result({ discarded: found }, () =>
      found.length === 0
        ? `nothing of ${name} was set aside here`
        : found.map((each) => `discarded ${describeSetAside(each)}\n`).join(''),
    );
  });
  return undefined;
}
