import { randomBytes } from 'node:crypto';
import { Option } from 'commander';
import { isoTime } from '../../base/clock.ts';
import { StorageError } from '../../base/errors.ts';
import type { KeyEntry } from '../../crypto/keyring-entry.ts';
import type { KeySurroundings } from '../../crypto/providers.ts';
import { auditOf, badName, keyringKeys, keysFor, nameTaken } from '../keys.ts';
import { placeIn, placeOptions } from '../key-places.ts';
import type { Invocation, Verb } from '../verb.ts';

export const createVerb: Verb = {
  name: 'create',
  summary: 'Make a key that encrypts volumes, in the keyring or where somebody else keeps it',
  examples: [
    ['create main --password-file /etc/elasticdrive/password', 'sealed with a passphrase'],
    ['create main --recovery --password-file -', 'and one for paper, shown once'],
    ['create rack --tang http://tang.example.org', 'to be had only where that server is'],
    ['create team --vault https://vault.example.org', 'kept by a Vault, as the transit key "team"'],
    ['create token --command "/usr/local/bin/wrap-key --slot 9"', 'kept by a program'],
  ],
  arguments: [['<name>', 'its name, unique in the keyring']],
  options: [
    ...placeOptions,
    new Option('--id <id>', 'the id that the key has on another host').hideHelp(),
    new Option('--recovery', 'make a recovery key with it, and print it'),
    new Option('--default', 'use it for volumes that name no key; the first one is used anyway'),
  ],
  keys: keyringKeys,
  run: create,
};

async function create(invocation: Invocation): Promise<undefined> {
  const { arguments: given, options, output, drivers } = invocation;
  const name = given[0] ?? '';
  const { keyNamePattern } = await import('../../crypto/keyring-entry.ts');
  if (!keyNamePattern.test(name)) throw badName(name);
  if (options['recovery'] === true && options['json'] === true) {
    throw new StorageError('usage', 'a recovery key is for paper: leave out --json');
  }
  const surroundings = await keysFor(invocation);
  const { keyring, audit } = surroundings;
  const before = await keyring.read();
  if (before.keys.some((each) => each.name === name)) throw nameTaken(name);
  const createdAt = isoTime(drivers.clock.wallMs());
  const made = await makeEntry(name, createdAt, invocation, surroundings);
  const { newRecoveryKey } = await import('../../crypto/recovery-key.ts');
  const recovery = options['recovery'] === true ? newRecoveryKey() : undefined;
  const entry = recovery === undefined ? made : { ...made, recovery: recovery.publicKey };
  await tryOut(entry, surroundings);
  const isDefault = options['default'] === true || before.defaultKey === undefined;
  await audit.add({ action: 'create', ...auditOf(entry), result: 'ok' });
  await keyring.change(({ keys, defaultKey }) => {
    if (keys.some((each) => each.name === name)) throw nameTaken(name);
    return { keys: [...keys, entry], defaultKey: isDefault ? name : defaultKey };
  });
  const { provider, id } = entry;
  output.result({ name, id, provider, keyring: keyring.path, isDefault }, () => {
    const use = isDefault ? '; volumes that name no key use it' : '';
    const created = `created the key "${name}" (${provider}) in ${keyring.path}${use}`;
    if (recovery === undefined) return created;
    return `${created}\n\nIts recovery key, shown this once. Write it down and keep it elsewhere:\n\n  ${recovery.text}\n`;
  });
  return undefined;
}

async function makeEntry(
  name: string,
  createdAt: string,
  invocation: Invocation,
  { ask }: KeySurroundings,
): Promise<KeyEntry> {
  const place = await placeIn(invocation);
  if (place !== undefined) {
    const id = idIn(invocation.options) ?? randomBytes(16).toString('hex');
    return { name, id, createdAt, version: 1, ...place };
  }
  const { newPassphraseKey } = await import('../../crypto/passphrase-key.ts');
  const { wipe } = await import('../../crypto/wiping.ts');
  const { bytes } = await ask(name);
  try {
    return await newPassphraseKey(name, createdAt, bytes);
  } finally {
    wipe(bytes);
  }
}

function idIn(options: Invocation['options']): string | undefined {
  const { id } = options;
  if (id === undefined) return undefined;
  if (typeof id === 'string' && /^[0-9a-f]{32}$/.test(id)) return id;
  throw new StorageError('usage', '--id expected 32 hexadecimal digits');
}

/** That what the key wraps comes back, before anything depends on it. */
async function tryOut(entry: KeyEntry, surroundings: KeySurroundings): Promise<void> {
  const { providerOf } = await import('../../crypto/providers.ts');
  const provider = providerOf(entry, surroundings);
  const context = { volumeId: '0'.repeat(32), generation: 0 };
  const sample = randomBytes(32);
  try {
    const unwrapped = await provider.unwrap(await provider.wrap(sample, context), context);
    if (sample.equals(unwrapped)) return;
    throw new StorageError('wrong-key', `the key "${entry.name}" gives back something else`);
  } finally {
    provider.close();
  }
}
