import { Option } from 'commander';
import { StorageError } from '../../base/errors.ts';
import { parseVersionName } from '../../format/version-name.ts';
import { Fields } from '../../format/json-fields.ts';
import { decodeSnapshot, encodableSnapshot, type Snapshot } from '../../format/snapshot.ts';
import { askForVolume, daemonKeys } from '../daemon.ts';
import { withStores } from '../stores.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { findOne } from '../volumes.ts';
import { withoutDaemon } from '../without-daemon.ts';

export const rollbackVerb: Verb = {
  name: 'rollback',
  summary: 'Make a volume again what it was at a snapshot, at once',
  examples: [
    [
      'rollback data before-upgrade --confirm data',
      'go back: what it is now becomes a snapshot first',
    ],
  ],
  arguments: [
    ['<name>', 'the volume, which no client may have'],
    ['<snapshot>', 'one of its snapshots, by name or id'],
  ],
  options: [new Option('--confirm <name>', 'its name again').makeOptionMandatory()],
  keys: [...daemonKeys, ...storeKeys],
  run: rollback,
};

interface Done {
  readonly to: Snapshot;
  readonly before: Snapshot;
}

async function rollback(invocation: Invocation): Promise<undefined> {
  const { output } = invocation;
  const { name, snapshot } = wanted(invocation);
  await requireSnapshot(invocation, name, snapshot);
  output.progress(`rolling ${name} back to ${snapshot} …`);
  const { to, before } =
    (await askForIt(invocation, name, snapshot)) ?? (await doIt(invocation, name, snapshot));
  const data = {
    ...{ rolledBack: name, to: to.name, sizeBytes: to.sizeBytes },
    before: encodableSnapshot(before),
  };
  output.result(
    data,
    () =>
      `${name} is again what it was at ${to.name}, ${to.createdAt}; what it was until now is ${name}@${before.name}`,
  );
  return undefined;
}

function wanted({ arguments: [name = '', word = ''], options }: Invocation): {
  readonly name: string;
  readonly snapshot: string;
} {
  if (options['confirm'] !== name) {
    throw new StorageError(
      'usage',
      `what was written since is then only in a snapshot: repeat the volume's name with --confirm ${name}`,
    );
  }
  const { volume, version } = parseVersionName(word) ?? { volume: name, version: word };
  if (volume === name) return { name, snapshot: version };
  throw new StorageError('usage', `${word} is no snapshot of ${name}`);
}

/** Before anybody is asked for what cannot be. */
async function requireSnapshot(
  invocation: Invocation,
  name: string,
  snapshot: string,
): Promise<void> {
  await withStores(invocation, async (all) => {
    const { findSnapshot } = await import('../../volume/snapshot-changes.ts');
    findSnapshot((await findOne(all, name)).manifest, snapshot);
  });
}

/** Asks the daemon; `undefined` when there is none, or the volume is in no store of its own. */
async function askForIt(
  invocation: Invocation,
  volume: string,
  snapshot: string,
): Promise<Done | undefined> {
  const answer = await askForVolume(invocation, 'rollback', { volume, snapshot });
  if (answer === undefined) return undefined;
  const fields = new Fields(answer, 'rollback');
  const decode = (key: string): Snapshot => {
    const value = fields.optional(key, decodeSnapshot);
    if (value !== undefined) return value;
    throw new StorageError('internal', 'the daemon does not say what it has done');
  };
  return { to: decode('to'), before: decode('before') };
}

async function doIt(invocation: Invocation, name: string, snapshot: string): Promise<Done> {
  const { rollBackDetached } = await import('../../host/rolling-back.ts');
  return withoutDaemon(invocation, name, (source) => rollBackDetached(source, name, snapshot));
}
