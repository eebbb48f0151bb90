import { readFile, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Option } from 'commander';
import { StorageError } from '../../base/errors.ts';
import type { KeyEntry } from '../../crypto/keyring-entry.ts';
import type { Dependant } from '../key-dependants.ts';
import { fields, table } from '../output.ts';
import { type Invocation, type Noun, storeKeys } from '../verb.ts';
import { auditOf, badName, depended, keyringKeys, keysFor, nameTaken } from '../keys.ts';
import { createVerb } from './key-create.ts';
import { rotateVerb } from './key-rotate.ts';

const listKeys = ['keyring', ...storeKeys] as const;

export const keyNoun: Noun = {
  name: 'key',
  summary: 'Make, list, show, rotate, export, import and delete the keys that encrypt volumes',
  verbs: [
    createVerb,
    {
      name: 'list',
      summary: 'List the keys, and which volumes of the stores depend on each',
      examples: [
        ['list', 'list the keys of the keyring, and those that volumes of the stores need'],
      ],
      keys: listKeys,
      run: list,
    },
    {
      name: 'show',
      summary: 'Show where a key lives and what depends on it',
      examples: [['show main', 'show the key "main"']],
      arguments: [['<name>', 'its name']],
      keys: listKeys,
      run: show,
    },
    rotateVerb,
    {
      name: 'export',
      summary: 'Write a key to a file, sealed with its passphrase, for another host or a safe',
      examples: [['export main --to main.key', 'the passphrase is still needed to use the file']],
      arguments: [['<name>', 'its name']],
      options: [new Option('--to <file>', 'a file that is not there yet').makeOptionMandatory()],
      keys: keyringKeys,
      run: exportKey,
    },
    {
      name: 'import',
      summary: 'Take a key that was exported into the keyring',
      examples: [['import main.key', 'volumes that this key encrypts can be opened here then']],
      arguments: [['<file>', 'what "key export" wrote']],
      options: [new Option('--as <name>', 'another name for it here')],
      keys: keyringKeys,
      run: importKey,
    },
    {
      name: 'delete',
      summary: 'Delete a key from the keyring, when no volume of the stores depends on it',
      examples: [['delete old --confirm old', 'its name is to be given twice']],
      arguments: [['<name>', 'its name']],
      options: [new Option('--confirm <name>', 'its name again').makeOptionMandatory()],
      keys: ['state_dir', ...listKeys],
      run: remove,
    },
  ],
};

async function list(invocation: Invocation): Promise<undefined> {
  const { keyring, ...surroundings } = await keysFor(invocation);
  const { keys, defaultKey } = await keyring.read();
  const needed = await depended(invocation);
  const { providerOf } = await import('../../crypto/providers.ts');
  const here = keys.map((entry) => ({
    ...summaryOf(entry, defaultKey),
    where: providerOf(entry, { keyring, ...surroundings }).describe().where,
    dependants: needed.get(entry.id)?.dependants ?? [],
  }));
  const known = new Set(keys.map(({ id }) => id));
  const elsewhere = [...needed.values()]
    .filter(({ keyId }) => !known.has(keyId))
    .map(({ keyName: name, keyId: id, provider, dependants }) => ({
      ...{ name, id, provider, version: null, createdAt: null, isDefault: false },
      ...{ hasRecoveryKey: null, where: 'not in this keyring', dependants },
    }));
  const all = [...here, ...elsewhere];
  invocation.output.result(all, () =>
    all.length === 0
      ? `no key in ${keyring.path}: make one with "elasticdrive key create"`
      : table(
          ['KEY', 'PROVIDER', 'VERSION', 'WHERE', 'VOLUMES'].map((header) => ({ header })),
          all.map((key) => [
            key.isDefault ? `${key.name} (default)` : key.name,
            key.provider,
            key.version === null ? '-' : String(key.version),
            key.where,
            key.dependants.map(describeDependant).join(', ') || '-',
          ]),
        ),
  );
  return undefined;
}

async function show(invocation: Invocation): Promise<undefined> {
  const [name] = invocation.arguments;
  const surroundings = await keysFor(invocation);
  const entry = await surroundings.keyring.find(name);
  const { defaultKey } = await surroundings.keyring.read();
  const { providerOf } = await import('../../crypto/providers.ts');
  const { where } = providerOf(entry, surroundings).describe();
  const dependants = (await depended(invocation)).get(entry.id)?.dependants ?? [];
  const data = { ...summaryOf(entry, defaultKey), where, settings: entry.settings, dependants };
  invocation.output.result(data, () =>
    fields([
      ['name', entry.name],
      ['id', entry.id],
      ['provider', entry.provider],
      ['where', where],
      ['version', String(entry.version)],
      ['created', entry.createdAt],
      ['default', data.isDefault ? 'yes' : 'no'],
      ['recovery key', data.hasRecoveryKey ? 'made with it, on paper' : 'none'],
      ...dependants.map((each) => ['needed by', describeDependant(each)] as const),
    ]),
  );
  return undefined;
}

function summaryOf(entry: KeyEntry, defaultKey: string | undefined) {
  const { name, id, provider, version, createdAt, recovery } = entry;
  return {
    ...{ name, id, provider, version, createdAt },
    isDefault: name === defaultKey,
    hasRecoveryKey: recovery !== undefined,
  };
}

function describeDependant({ volume, snapshots, isClone }: Dependant): string {
  const parts = [
    ...(isClone ? ['a clone'] : []),
    ...(snapshots.length === 0 ? [] : [`${snapshots.length} snapshots`]),
  ];
  return parts.length === 0 ? volume : `${volume} (${parts.join(', ')})`;
}

async function exportKey(invocation: Invocation): Promise<undefined> {
  const { arguments: given, options, workingDirectory, output } = invocation;
  const { keyring, audit } = await keysFor(invocation);
  const entry = await keyring.find(given[0]);
  const path = resolve(workingDirectory, String(options['to']));
  const { encodableEntry } = await import('../../crypto/keyring-entry.ts');
  await audit.add({ action: 'export', ...auditOf(entry), result: 'ok' });
  try {
    const text = `${JSON.stringify(encodableEntry(entry), null, 2)}\n`;
    await writeFile(path, text, { mode: 0o600, flag: 'wx', flush: true });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EEXIST') throw new StorageError('already-exists', `${path} is there already`);
    throw new StorageError('local-io', `cannot write ${path} (${code})`, { cause });
  }
  output.result({ exported: entry.name, to: path }, () =>
    entry.provider === 'passphrase'
      ? `wrote ${path}: whoever has it and the passphrase has the key`
      : `wrote ${path}: it says where the key lives, and holds nothing secret`,
  );
  return undefined;
}

async function importKey(invocation: Invocation): Promise<undefined> {
  const { arguments: given, options, workingDirectory, output } = invocation;
  const surroundings = await keysFor(invocation);
  const path = resolve(workingDirectory, given[0] ?? '');
  const { decodeEntry, keyNamePattern } = await import('../../crypto/keyring-entry.ts');
  const { parseJson } = await import('../../format/json-fields.ts');
  const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    const code = cause.code === 'ENOENT' ? 'not-found' : 'local-io';
    throw new StorageError(code, `cannot read ${path} (${cause.code})`, { cause });
  });
  const read = decodeEntry(parseJson(bytes, path));
  const entry: KeyEntry = {
    ...read,
    name: (options['as'] as string | undefined) ?? read.name,
    // What is sent to a server as a token is said on this host, not by a file.
    ...('tokenFile' in read.settings ? { settings: { ...read.settings, tokenFile: '' } } : {}),
  };
  if (!keyNamePattern.test(entry.name)) throw badName(entry.name);
  if (entry.provider === 'command') {
    // Its program would run with the rights of this user, and a file could say anything.
    throw new StorageError(
      'unsupported',
      `${path} names a program: make the key here with "elasticdrive key create --command PROGRAM --id ${entry.id}"`,
    );
  }
  const { providerOf } = await import('../../crypto/providers.ts');
  const { PassphraseKey } = await import('../../crypto/passphrase-key.ts');
  const provider = providerOf(entry, surroundings);
  // Now, not when a volume is needed.
  if (provider instanceof PassphraseKey) await provider.verify();
  const { where } = provider.describe();
  provider.close();
  await surroundings.audit.add({ action: 'import', ...auditOf(entry), result: 'ok' });
  await surroundings.keyring.change(({ keys, defaultKey }) => {
    const same = keys.find(({ id }) => id === entry.id);
    const isNewer = same !== undefined && same.version < entry.version;
    if (same !== undefined && !isNewer) {
      throw new StorageError(
        'already-exists',
        `the key is here already, as "${same.name}", in version ${same.version}`,
      );
    }
    const others = keys.filter((each) => each !== same);
    const added = isNewer ? { ...entry, name: same.name } : entry;
    if (others.some(({ name }) => name === added.name)) throw nameTaken(added.name);
    return { keys: [...others, added], defaultKey: defaultKey ?? added.name };
  });
  output.result(
    { imported: entry.name, id: entry.id },
    () => `imported the key "${entry.name}", version ${entry.version}, ${where}`,
  );
  return undefined;
}

async function remove(invocation: Invocation): Promise<undefined> {
  const { arguments: given, options, output } = invocation;
  const { keyring, audit } = await keysFor(invocation);
  const entry = await keyring.find(given[0]);
  if (options['confirm'] !== entry.name) {
    throw new StorageError('usage', `--confirm expected the name "${entry.name}" again`);
  }
  const dependants = (await depended(invocation)).get(entry.id)?.dependants ?? [];
  if (dependants.length > 0) {
    const volumes = dependants.map(describeDependant).join(', ');
    throw new StorageError('in-use', `the key "${entry.name}" is needed by ${volumes}`);
  }
  await audit.add({ action: 'delete', ...auditOf(entry), result: 'ok' });
  await keyring.change(({ keys, defaultKey }) => ({
    keys: keys.filter(({ id }) => id !== entry.id),
    defaultKey: defaultKey === entry.name ? undefined : defaultKey,
  }));
  output.result(
    { deleted: entry.name, id: entry.id },
    () => `deleted the key "${entry.name}" from ${keyring.path}`,
  );
  return undefined;
}
