import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StorageError } from '../base/errors.ts';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { passphraseFrom } from '../crypto/passphrase.ts';
import { Keyring } from '../crypto/keyring.ts';
import type { KeySurroundings } from '../crypto/providers.ts';
import { parseRecoveryKey } from '../crypto/recovery-key.ts';
import type { VolumeKeys } from '../crypto/volume-keys.ts';
import { wipe } from '../crypto/wiping.ts';
import { AuditLog } from '../host/audit-log.ts';
import { hostVolumeKeys } from '../host/volume-keys.ts';
import { createAwsSigner } from '../store/aws-signer.ts';
import { createDefaultCredentials } from '../store/s3-credentials.ts';
import { keyringPathOf, stateDirectoryOf } from './configuration/places.ts';
import type { Configuration } from './configuration/load.ts';
import type { Invocation } from './verb.ts';

/** What the configuration says of keys, for whoever uses them. */
export interface ConfiguredKeys extends KeySurroundings {
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly recoverySecret: (() => Promise<Uint8Array>) | undefined;
}

export function keysOf(
  { drivers, environment, workingDirectory, command }: Invocation,
  configuration: Configuration,
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
    clock,
    signForAws: createAwsSigner(createDefaultCredentials(), clock),
    audit: new AuditLog(join(stateDirectory, 'audit.log'), asker, clock),
    recoverySecret: recoverySecretIn(settings.recovery_file),
  };
}

/** The keys of volumes by what the configuration says. */
export function volumeKeysOf(
  invocation: Invocation,
  configuration: Configuration,
  log: Log,
): VolumeKeys {
  const { drivers, environment, workingDirectory } = invocation;
  const stateDirectory = stateDirectoryOf(configuration, environment, workingDirectory);
  const disk = drivers.openDisk(stateDirectory);
  return hostVolumeKeys({ ...keysOf(invocation, configuration), disk, log });
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
