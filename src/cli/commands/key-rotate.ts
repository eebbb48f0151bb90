import { resolve } from 'node:path';
import { Option } from 'commander';
import { StorageError } from '../../base/errors.ts';
import type { KeyEntry } from '../../crypto/keyring-entry.ts';
import type { AskPassphrase } from '../../crypto/passphrase.ts';
import { auditOf, keyringKeys, keysFor } from '../keys.ts';
import { type Invocation, storeKeys, type Verb } from '../verb.ts';

export const rotateVerb: Verb = {
  name: 'rotate',
  summary: 'Give a key a new version that wraps the data keys of all volumes, or a new passphrase',
  examples: [
    ['rotate main', 'a new version, for the volumes of all configured stores too'],
    ['rotate main --only-volumes', 'for those that could not be had when it was rotated'],
    ['rotate main --new-password-file new', 'seal it with another passphrase, and no more'],
  ],
  arguments: [['<name>', 'its name']],
  options: [
    new Option('--only-volumes', 'make no new version, only wrap with the newest one'),
    new Option('--new-password-file <path>', 'file with its next passphrase'),
    new Option('--new-password-command <command>', 'command that prints its next passphrase'),
  ],
  keys: [...new Set([...keyringKeys, ...storeKeys])],
  run: rotate,
};

async function rotate(invocation: Invocation): Promise<number> {
  const { arguments: given, options } = invocation;
  const { keyring } = await keysFor(invocation);
  const entry = await keyring.find(given[0]);
  const next = await nextPassphrase(invocation);
  if (next === undefined) return renew(invocation, entry);
  if (options['onlyVolumes'] === true) {
    throw new StorageError(
      'usage',
      'a new passphrase is for the keyring: leave out --only-volumes',
    );
  }
  return changePassphrase(invocation, entry, next);
}

async function renew(invocation: Invocation, before: KeyEntry): Promise<number> {
  const { options, output } = invocation;
  const surroundings = await keysFor(invocation);
  if (options['onlyVolumes'] !== true) {
    const { providerOf } = await import('../../crypto/providers.ts');
    const keyVersion = await providerOf(before, surroundings).rotate();
    await surroundings.audit.add({
      ...{ action: 'rotate', ...auditOf(before), keyVersion, result: 'ok' },
    });
  }
  const { keys } = await surroundings.keyring.read();
  const entry = keys.find(({ id }) => id === before.id) ?? before;
  const { rewrapAll } = await import('../key-rewrapping.ts');
  const { volumes, failures } = await rewrapAll(invocation, entry);
  const { name, id, version } = entry;
  output.result({ rotated: name, id, version, rewrapped: volumes, failures }, () => {
    const wraps = `the key "${name}" wraps with its version ${version} from now on`;
    return `${wraps}, and the data keys of ${volumes.join(', ') || 'no volume that there was'}`;
  });
  for (const failure of failures) output.warning(`still wrapped by an older version: ${failure}`);
  return failures.length === 0 ? 0 : 1;
}

async function changePassphrase(
  invocation: Invocation,
  entry: KeyEntry,
  next: AskPassphrase,
): Promise<number> {
  const surroundings = await keysFor(invocation);
  const { providerOf } = await import('../../crypto/providers.ts');
  const { PassphraseKey } = await import('../../crypto/passphrase-key.ts');
  const provider = providerOf(entry, surroundings);
  if (!(provider instanceof PassphraseKey)) {
    const message = `the key "${entry.name}" has no passphrase, it is ${provider.describe().where}`;
    throw new StorageError('usage', message);
  }
  await provider.changePassphrase(await next(entry.name));
  await surroundings.audit.add({ action: 'new-passphrase', ...auditOf(entry), result: 'ok' });
  invocation.output.result(
    { name: entry.name, id: entry.id, version: entry.version, passphrase: 'changed' },
    () =>
      `the key "${entry.name}" has another passphrase in ${surroundings.keyring.path}; copies of that file still have the old one`,
  );
  return 0;
}

async function nextPassphrase({
  options,
  environment,
  drivers,
  workingDirectory,
}: Invocation): Promise<AskPassphrase | undefined> {
  const { newPasswordFile: file, newPasswordCommand: command } = options;
  if ((file ?? command) === undefined) return undefined;
  const { passphraseFrom } = await import('../../crypto/passphrase.ts');
  const path = typeof file === 'string' && file !== '-' ? resolve(workingDirectory, file) : file;
  return passphraseFrom({
    file: path as string | undefined,
    command: typeof command === 'string' ? command : undefined,
    environment,
    readStandardInput: () => drivers.readStandardInput(),
  });
}
