import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StorageError } from '../base/errors.ts';
import { passphraseFrom } from '../crypto/passphrase.ts';
import { Keyring } from '../crypto/keyring.ts';
import type { KeySurroundings } from '../crypto/providers.ts';
import { parseRecoveryKey } from '../crypto/recovery-key.ts';
import { wipe } from '../crypto/wiping.ts';
import { AuditLog } from '../host/audit-log.ts';
import { createAwsSigner } from '../store/aws-signer.ts';
import { createDefaultCredentials } from '../store/s3-credentials.ts';
import { keyringPathOf, stateDirectoryOf } from './configuration/places.ts';
import type { Configuration } from './configuration/load.ts';
import type { Invocation } from './verb.ts';

/** What the configuration says of keys, for whoever uses them. */
export interface ConfiguredKeys extends KeySurroundings {
  readonly audit: AuditLog;
  readonly recoverySecret: (() => Promise<Uint8Array>) | undefined;
}

/** `command` is that of this program, for the audit log. */
export function keysOf(
  { drivers, environment, workingDirectory }: Invocation,
  configuration: Configuration,
  command: string,
): ConfiguredKeys {
  const { settings } = configuration;
  const { clock, pid, userId } = drivers;
  const stateDirectory = stateDirectoryOf(configuration, environment, workingDirectory);
  const asker = { uid: userId, pid, command };
  return {
    keyring: new Keyring(
      keyringPathOf(configuration, environment, userId),
      // systemd lets a service read its credentials by lists of access, which look like a mode.
      environment['CREDENTIALS_DIRECTORY'],
    ),
    ask: passphraseFrom({
      file: settings.password_file,
      command: settings.password_command,
      environment,
      readStandardInput: () => drivers.readStandardInput(),
    }),
    environment,
    signForAws: createAwsSigner(createDefaultCredentials(), clock),
    audit: new AuditLog(join(stateDirectory, 'audit.log'), asker, clock),
    recoverySecret: recoverySecretIn(settings.recovery_file),
  };
}

function recoverySecretIn(path: string | undefined): (() => Promise<Uint8Array>) | undefined {
  if (path === undefined) return undefined;
  return async () => {
    const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
      const message = `cannot read the recovery key in ${path} (${cause.code})`;
      throw new StorageError('wrong-key', message, { cause });
    });
    try {
      return parseRecoveryKey(bytes.toString('utf8'));
    } finally {
      wipe(bytes);
    }
  };
}
