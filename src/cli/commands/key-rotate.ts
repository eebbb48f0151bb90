import { resolve } from 'node:path';
import { Option } from 'commander';
import { StorageError } from '../../base/errors.ts';
import { auditOf, keyringKeys, keysFor } from '../keys.ts';
import type { Invocation, Verb } from '../verb.ts';

export const rotateVerb: Verb = {
  name: 'rotate',
  summary: 'Give a key a new version, and with it a new passphrase where one is named',
  examples: [
    ['rotate main', 'what older versions wrapped can still be opened'],
    ['rotate main --new-password-file new', 'seal all of its versions with another passphrase'],
  ],
  arguments: [['<name>', 'its name']],
  options: [
    new Option('--new-password-file <path>', 'file with its next passphrase'),
    new Option('--new-password-command <command>', 'command that prints its next passphrase'),
  ],
  keys: keyringKeys,
  run: rotate,
};

async function rotate(invocation: Invocation): Promise<undefined> {
  const { arguments: given, options, output, environment, drivers } = invocation;
  const surroundings = await keysFor(invocation, 'key rotate');
  const { keyring, audit } = surroundings;
  const entry = await keyring.find(given[0]);
  const { passphraseFrom } = await import('../../crypto/passphrase.ts');
  const { PassphraseKey } = await import('../../crypto/passphrase-key.ts');
  const { providerOf } = await import('../../crypto/providers.ts');
  const file = pathIn(invocation, options['newPasswordFile']);
  const command = options['newPasswordCommand'];
  const provider = providerOf(entry, surroundings);
  let version: number;
  if ((file ?? command) === undefined) {
    version = await provider.rotate();
  } else {
    if (!(provider instanceof PassphraseKey)) {
      const message = `the key "${entry.name}" has no passphrase, it is ${provider.describe().where}`;
      throw new StorageError('usage', message);
    }
    const ask = passphraseFrom({
      file,
      command: command as string | undefined,
      environment,
      readStandardInput: () => drivers.readStandardInput(),
    });
    version = await provider.rotateUnder(await ask(entry.name));
  }
  await audit.add({ action: 'rotate', ...auditOf(entry), keyVersion: version, result: 'ok' });
  output.result(
    { rotated: entry.name, id: entry.id, version },
    () =>
      `the key "${entry.name}" wraps with its version ${version} from now on; older ones still open what they wrapped`,
  );
  return undefined;
}

function pathIn({ workingDirectory }: Invocation, value: unknown): string | undefined {
  if (typeof value !== 'string') return undefined;
  return value === '-' ? value : resolve(workingDirectory, value);
}
