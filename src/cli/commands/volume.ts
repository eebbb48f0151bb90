import { Option } from 'commander';
import { StorageError } from '../../base/errors.ts';
import { formatSize, parseSize, roundSize, sizeHint } from '../../base/quantity.ts';
import type { Manifest } from '../../format/manifest.ts';
import type { SpaceAccount } from '../../volume/space-accounting.ts';
import type { Family } from '../../volume/family.ts';
import {
  describeRetention,
  describeWindow,
  retainIn,
  retainOption,
  retentionFields,
} from '../retention.ts';
import { setVerb } from './volume-set.ts';
import { describeEncryption, encryptionIn, encryptionOptions } from '../encryption.ts';
import { fields, table } from '../output.ts';
import { snapshotData, stateOf } from '../snapshots.ts';
import { withStores } from '../stores.ts';
import { takeOverIn, WatchProgress } from '../taking-over.ts';
import { type Invocation, type Noun, storeKeys } from '../verb.ts';
import { findOne, parentIn, type StoredVolume, volumesOf, withStore } from '../volumes.ts';
import { attachVerb, detachVerb } from './attach.ts';
import { checkVerb } from './volume-check.ts';
import { cloneVerb } from './volume-clone.ts';
import { repairVerb } from './volume-repair.ts';
import { resizeVerb } from './volume-resize.ts';
import { compactVerb } from './volume-compact.ts';
import { flattenVerb } from './volume-flatten.ts';
import { rollbackVerb } from './volume-rollback.ts';
import { scrubVerb } from './volume-scrub.ts';
import { describeSetAside, discardVerb, findSetAside } from './volume-discard.ts';

const shownSnapshots = 8;

export const volumeNoun: Noun = {
  name: 'volume',
  summary: 'Make, clone, list, show, resize, roll back, check, mend, move and delete volumes',
  verbs: [
    {
      name: 'create',
      summary: 'Make a volume',
      examples: [
        ['create data --size 10GiB', 'make a volume in the store of the configuration'],
        ['create data --size 4T --store s3://bucket/prefix', 'make one in a bucket'],
        ['create data --size 4T --encrypt --key main', 'make one that only this key opens'],
      ],
      arguments: [['<name>', 'its name, unique in the store']],
      options: [
        new Option(
          '--size <size>',
          `${sizeHint}; binary units, as with qemu`,
        ).makeOptionMandatory(),
        new Option('--codec <codec>', 'how its data is compressed')
          .choices(['zstd', 'lz4', 'none'])
          .default('zstd'),
        new Option(
          '--durability <what>',
          'what an answered flush survives: loss of power or of the host',
        )
          .choices(['local', 'store'])
          .default('local'),
        retainOption,
        ...encryptionOptions,
        new Option('--no-compression', 'as --codec none: lengths then tell nothing of contents'),
      ],
      keys: storeKeys,
      run: create,
    },
    {
      name: 'list',
      summary: 'List the volumes of the stores',
      examples: [
        ['list', 'list the volumes of the configured stores'],
        ['list --store s3://bucket --json', 'list those of a bucket, for a machine'],
      ],
      keys: storeKeys,
      run: list,
    },
    {
      name: 'show',
      summary: 'Show what is known of a volume',
      examples: [['show data', 'show a volume: its size, its store, who has it']],
      arguments: [['<name>', 'its name']],
      keys: ['state_dir', ...storeKeys],
      run: show,
    },
    {
      name: 'delete',
      summary: 'Delete a volume and all of its data, for good',
      examples: [
        ['delete data --confirm data', 'delete a volume: its name is to be given twice'],
        ['delete data --confirm data --take-over', 'delete one that a lost machine still has'],
      ],
      arguments: [['<name>', 'its name']],
      options: [
        new Option('--confirm <name>', 'its name again').makeOptionMandatory(),
        new Option('--take-over', 'delete it when its writer\u2019s lease has ended'),
        new Option('--force', 'delete it whether or not a writer has it'),
      ],
      keys: storeKeys,
      run: remove,
    },
    resizeVerb,
    rollbackVerb,
    cloneVerb,
    flattenVerb,
    setVerb,
    checkVerb,
    scrubVerb,
    compactVerb,
    repairVerb,
    attachVerb,
    detachVerb,
    discardVerb,
  ],
};

function nameArgument({ arguments: [name] }: Invocation): string {
  return name ?? '';
}

async function create(invocation: Invocation): Promise<undefined> {
  const { options, output, drivers } = invocation;
  const sizeBytes = parseSize(String(options['size']));
  if (sizeBytes === undefined) {
    throw new StorageError('usage', `--size expected ${sizeHint}`);
  }
  const choices = {
    name: nameArgument(invocation),
    sizeBytes,
    codec: codecIn(options),
    durability: options['durability'] as Manifest['durability'],
    retainMs: retainIn(options) ?? 0,
  };
  await withStores(invocation, async (all) => {
    const [opened, ...others] = all;
    if (opened === undefined || others.length > 0) {
      throw new StorageError('usage', 'there are several stores: choose one with --store');
    }
    const { createVolume } = await import('../../volume/catalog.ts');
    const { clock, random } = drivers;
    output.progress(`making ${choices.name} …`);
    const encryption = encryptionIn(options, opened);
    const wanted = { ...choices, encryption };
    const manifest = await createVolume(opened.store, wanted, { clock, random });
    output.result(withStore({ opened, manifest }), () => {
      const kind = manifest.encryption === undefined ? '' : ', encrypted';
      return `created ${manifest.name}, ${formatSize(sizeBytes)}${kind}, in ${opened.store.url}`;
    });
  });
  return undefined;
}

function codecIn(options: Invocation['options']): Manifest['codec'] {
  return options['compression'] === false ? 'none' : (options['codec'] as Manifest['codec']);
}

async function list(invocation: Invocation): Promise<undefined> {
  await withStores(invocation, async (all) => {
    const { volumes, damage } = await volumesOf(all);
    const listed = volumes.map((volume) => ({
      ...withStore(volume),
      cloneOf: parentIn(volumes, volume) ?? null,
    }));
    invocation.output.result(listed, () =>
      volumes.length === 0
        ? `no ${damage.length === 0 ? '' : 'sound '}volume in ${all.map(({ store }) => store.url).join(' ')}`
        : volumeTable(volumes),
    );
    for (const error of damage) throw error;
  });
  return undefined;
}

function volumeTable(volumes: readonly StoredVolume[]): string {
  return table(
    [
      { header: 'NAME' },
      { header: 'SIZE', align: 'right' },
      { header: 'CODEC' },
      { header: 'DURABILITY' },
      { header: 'CREATED' },
      { header: 'WRITER' },
      { header: 'CLONE OF' },
      { header: 'STORE' },
    ],
    volumes.map((volume) => {
      const { opened, manifest } = volume;
      const parent = parentIn(volumes, volume);
      return [
        manifest.name,
        formatSize(manifest.sizeBytes),
        manifest.codec,
        manifest.durability,
        manifest.createdAt,
        manifest.writer?.host ?? '-',
        parent === undefined ? '-' : `${parent.volume}@${parent.snapshot}`,
        opened.store.url,
      ];
    }),
  );
}

async function show(invocation: Invocation): Promise<undefined> {
  await withStores(invocation, async (all) => {
    const found = await findOne(all, nameArgument(invocation));
    const { manifest, opened } = found;
    const { accountForSpace } = await import('../../volume/space-accounting.ts');
    invocation.output.progress(`measuring ${manifest.name} …`);
    const usage = await accountForSpace(opened.store, invocation.drivers.clock, manifest);
    const setAside = await findSetAside(invocation, manifest.id);
    const { familyOf } = await import('../../volume/family.ts');
    const { clock, random } = invocation.drivers;
    const family = await familyOf({ clock, random, store: opened.store }, manifest);
    const retention = await retentionFields(manifest, clock.wallMs());
    const window = await describeWindow(manifest, clock.wallMs());
    const snapshots = manifest.snapshots.map((snapshot) => snapshotData(found, snapshot));
    const result = { ...withStore(found), retention, usage, setAside, family, snapshots };
    invocation.output.result(result, () =>
      fields([
        ...rowsOf(found, usage),
        ...familyRows(family),
        ...snapshotRows(manifest),
        ['keeps', describeRetention(manifest)],
        ['can be had as of', window],
        ...setAside.map((each): [string, string] => ['set aside', describeSetAside(each)]),
      ]),
    );
  });
  return undefined;
}

function rowsOf({ manifest, opened }: StoredVolume, usage: SpaceAccount): [string, string][] {
  const { writer, head } = manifest;
  return [
    ['name', manifest.name],
    ['id', manifest.id],
    ['store', opened.store.url],
    ['size', `${formatSize(manifest.sizeBytes)} (${manifest.sizeBytes} bytes)`],
    ['stored', `${roundSize(usage.storedBytes)} in ${usage.objects} objects`],
    ...usageRows(usage),
    ['created', manifest.createdAt],
    ['codec', manifest.codec],
    ['encrypted', describeEncryption(manifest)],
    ['durability', manifest.durability],
    ['writer', writer === undefined ? 'none' : `on ${writer.host}`],
    ['epoch', String(manifest.epoch)],
    ['checkpoint', head === undefined ? 'none' : `of segment ${head.segment}`],
  ];
}

/** The newest ones; `snapshot list` has them all. */
function snapshotRows({ snapshots }: Manifest): [string, string][] {
  const shown = snapshots.slice(-shownSnapshots).map((snapshot): [string, string] => {
    const { name, createdAt } = snapshot;
    return ['snapshot', `${name}, of ${createdAt}, ${stateOf(snapshot, undefined)}`];
  });
  const more = snapshots.length - shown.length;
  return more === 0 ? shown : [['snapshots', `${more} older ones, and`], ...shown];
}

function familyRows({ ancestors, clones }: Family): [string, string][] {
  const line = ancestors.map(({ volume, snapshot }) => `${volume}@${snapshot}`);
  return [
    ...(line.length === 0 ? [] : [['clone of', line.join(', of ')] as [string, string]]),
    ...(clones.length === 0 ? [] : [['clones', clones.join(', ')] as [string, string]]),
  ];
}

/** What of the bytes in the store is there for what; they add up to what is stored. */
function usageRows(usage: SpaceAccount): [string, string][] {
  const kept = usage.snapshots.map(({ name, bytes }): [string, number] => [
    `  only snapshot ${name}`,
    bytes,
  ]);
  const rows: [string, number][] = [
    ...kept,
    ['  several snapshots', usage.sharedBytes],
    ['  kept of the past', usage.retainedBytes],
    ['  dead', usage.deadBytes],
    ['  unknown', usage.unknownBytes],
  ];
  const shown = rows.filter(([, bytes]) => bytes > 0);
  return [['  live', usage.liveBytes] as [string, number], ...shown].map(([what, bytes]) => [
    what,
    roundSize(bytes),
  ]);
}

async function remove(invocation: Invocation): Promise<undefined> {
  const name = nameArgument(invocation);
  if (invocation.options['confirm'] !== name) {
    throw new StorageError(
      'usage',
      `deleting takes all of the volume's data with it: repeat its name with --confirm ${name}`,
    );
  }
  await withStores(invocation, async (all) => {
    const { opened, manifest } = await findOne(all, name);
    const { deleteVolume } = await import('../../volume/deletion.ts');
    const { clock, random } = invocation.drivers;
    const progress = new WatchProgress(invocation.output);
    invocation.output.progress(`deleting ${name} …`);
    await deleteVolume(opened.store, name, {
      clock,
      random,
      takeOver: takeOverIn(invocation.options),
      onWatch: (watch) => progress.show(watch),
    });
    invocation.output.result({ deleted: withStore({ opened, manifest }) }, () => {
      return `deleted ${name} from ${opened.store.url}`;
    });
  });
  return undefined;
}
