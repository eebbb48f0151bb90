import { Option } from 'commander';
import { StorageError } from '../../base/errors.ts';
import { parseVersionName } from '../../format/version-name.ts';
import type { SnapshotWish } from '../../volume/snapshot-changes.ts';
import { daemonKeys } from '../daemon.ts';
import { momentIn, momentOptions } from '../moments.ts';
import { snapshotNow } from '../snapshotting.ts';
import { snapshotData } from '../snapshots.ts';
import { withStores } from '../stores.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';
import { findOne } from '../volumes.ts';

export const createVerb: Verb = {
  name: 'create',
  summary: 'Make a snapshot: the volume as of one moment, while clients write',
  examples: [
    ['create data', 'make one that is called after the time'],
    [
      'create data before-upgrade --wait',
      'name it, and return when it would survive the loss of this machine',
    ],
    [
      'create data nightly --description "after the batch" --tag team=billing',
      'say what it is for',
    ],
  ],
  arguments: [
    ['<volume>', 'its name; VOLUME@NAME names the snapshot too'],
    ['[name]', 'what the snapshot is called; by default the time in UTC'],
  ],
  options: [
    new Option('--description <text>', 'what people are told of it').default(''),
    new Option('--tag <key=value>', 'something for machines; can be given several times')
      .argParser(addTag)
      .default({}, 'none'),
    ...momentOptions,
    new Option('--wait', 'return when it is completed: all of it in the store'),
  ],
  keys: [...daemonKeys, ...storeKeys],
  run: create,
};

function addTag(text: string, before: unknown): Readonly<Record<string, string>> {
  const at = text.indexOf('=');
  if (at < 1) throw new StorageError('usage', `--tag expected KEY=VALUE, not "${text}"`);
  return { ...(before as Record<string, string>), [text.slice(0, at)]: text.slice(at + 1) };
}

async function create(invocation: Invocation): Promise<undefined> {
  const { output, drivers, options } = invocation;
  const { volume, wish } = wishOf(invocation);
  const waits = options['wait'] === true;
  await withStores(invocation, async (all) => {
    const { opened, manifest } = await findOne(all, volume);
    const { store } = opened;
    const context = { clock: drivers.clock, random: drivers.random, store };
    output.progress(`making a snapshot of ${volume} …`);
    const made = await snapshotNow(invocation, context, manifest, wish, { waits });
    output.result(snapshotData({ opened, manifest }, made), () =>
      made.isCompleted
        ? `created ${volume}@${made.name}`
        : `created ${volume}@${made.name}; the rest of it is on its way to ${store.url}`,
    );
  });
  return undefined;
}

function wishOf({ arguments: [first = '', second], options }: Invocation): {
  readonly volume: string;
  readonly wish: SnapshotWish;
} {
  const { volume, version } = parseVersionName(first) ?? { volume: first };
  if (version !== undefined && second !== undefined) {
    throw new StorageError('usage', `name the snapshot once: ${volume}@${second}`);
  }
  const name = version ?? second;
  const tags = options['tag'] as Readonly<Record<string, string>>;
  const asOf = momentIn(options);
  const said = {
    ...{ description: String(options['description']), tags },
    ...(asOf === undefined ? {} : { asOf }),
  };
  return { volume, wish: name === undefined ? said : { ...said, name } };
}
