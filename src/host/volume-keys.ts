import { hkdfSync } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { StorageError, toStorageError } from '../base/errors.ts';
import type { LocalDisk } from '../base/local-disk.ts';
import type { Log } from '../base/log.ts';
import type { KeyProvider } from '../crypto/key-provider.ts';
import type { KeyEntry } from '../crypto/keyring-entry.ts';
import type { KeySurroundings } from '../crypto/providers.ts';
import { unwrapByRecovery, wrapForRecovery } from '../crypto/recovery-key.ts';
import type { VolumeKeys, WrappedOfVolume } from '../crypto/volume-keys.ts';
import { wipe } from '../crypto/wiping.ts';
import { Fields, parseJson } from '../format/json-fields.ts';
import type { WrappedGeneration, WrappedKey } from '../format/wrapped-key.ts';
import type { AuditEvent, AuditLog } from './audit-log.ts';
import { HeldKeys } from './held-keys.ts';

export interface VolumeKeysOptions extends KeySurroundings {
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly log: Log;
  /** The state directory: remembers which data keys volumes had. */
  readonly disk: LocalDisk;
  /** The key from the paper, where somebody brought it. */
  readonly recoverySecret?: (() => Promise<Uint8Array>) | undefined;
}

/** The keys of volumes by what this host has: its keyring, the servers it reaches, a recovery key. */
export function hostVolumeKeys(options: VolumeKeysOptions): VolumeKeys {
  const held = new HeldKeys(options, options.clock);
  return {
    async unwrapAll(volumeName, all) {
      const secrets: Uint8Array[] = [];
      try {
        // One at a time, so that what goes wrong is told of one, and what is opened is wiped.
        for (const each of all) secrets.push(await unwrap(options, held, volumeName, each));
        await remember(options, volumeName, all, secrets);
        return secrets;
      } catch (error) {
        wipe(...secrets);
        throw error;
      }
    },
    async wrapNew(volumeName, secret, context, by) {
      const wrap = async (
        provider: KeyProvider,
        entry: KeyEntry | undefined,
      ): Promise<WrappedGeneration> => {
        const wrapped = await provider.wrap(secret, context);
        await options.audit.add({
          ...{ action: 'wrap', volume: volumeName, ...context },
          ...auditOf(wrapped),
          result: 'ok',
        });
        const { generation } = context;
        if (entry?.recovery === undefined) return { generation, wrapped };
        const recovery = wrapForRecovery(entry.recovery, wrapped.keyName, secret, context);
        return { generation, wrapped, recovery };
      };
      return typeof by === 'object' ? held.of(by, wrap) : held.named(by, wrap);
    },
  };
}

async function unwrap(
  options: VolumeKeysOptions,
  held: HeldKeys,
  volumeName: string,
  { volumeId, generation, wrapped, recovery }: WrappedOfVolume,
): Promise<Uint8Array> {
  const context = { volumeId, generation };
  const attempt = async (
    by: WrappedKey,
    action: () => Promise<Uint8Array>,
  ): Promise<Uint8Array> => {
    const event: Omit<AuditEvent, 'result'> = {
      ...{ action: 'unwrap', volume: volumeName, ...context },
      ...auditOf(by),
    };
    let secret: Uint8Array;
    try {
      secret = await action();
    } catch (error) {
      await options.audit.add({ ...event, result: toStorageError(error).message });
      throw error;
    }
    try {
      await options.audit.add({ ...event, result: 'ok' });
    } catch (error) {
      wipe(secret);
      throw error;
    }
    return secret;
  };
  try {
    return await attempt(wrapped, () =>
      held.of(wrapped, (provider) => provider.unwrap(wrapped, context)),
    );
  } catch (error) {
    const { recoverySecret } = options;
    if (recoverySecret !== undefined && recovery !== undefined) {
      return attempt(recovery, async () => {
        const paper = await recoverySecret();
        try {
          return unwrapByRecovery(paper, recovery, context);
        } finally {
          wipe(paper);
        }
      });
    }
    const { code, message } = toStorageError(error);
    // What the local disk did to the audit log or the keyring is not a question of keys.
    if (code !== 'wrong-key') throw error;
    throw new StorageError(
      'wrong-key',
      `the volume "${volumeName}" is encrypted with the key "${wrapped.keyName}" (${wrapped.provider}): ${message}`,
      { cause: error },
    );
  }
}

function auditOf(
  wrapped: WrappedKey,
): Pick<AuditEvent, 'provider' | 'key' | 'keyId' | 'keyVersion'> {
  const { provider, keyName, keyId, keyVersion } = wrapped;
  return { provider, key: keyName, keyId, keyVersion };
}

/**
 * A key that wraps by its public half (Tang's, a recovery key's) does not say who wrapped: whoever can
 * write to the store could put a volume of his own in a volume's place. So a host remembers which data
 * keys it has seen, by a value that says nothing of them, and refuses others for the same generation.
 */
async function remember(
  { disk, log }: VolumeKeysOptions,
  volumeName: string,
  all: readonly WrappedOfVolume[],
  secrets: readonly Uint8Array[],
): Promise<void> {
  const byVolume = Map.groupBy(
    all.map((each, at) => ({ ...each, print: fingerprintOf(secrets[at] as Uint8Array) })),
    ({ volumeId }) => volumeId,
  );
  for (const [volumeId, keys] of byVolume) {
    const path = `data-keys/${volumeId}.json`;
    const before = await disk.readFile(path);
    const known: Record<string, string> =
      before === undefined
        ? {}
        : { ...new Fields({ seen: parseJson(before, path) }, path).texts('seen') };
    const isNew = Object.keys(known).length === 0;
    const matches = keys.filter(({ generation, print }) => known[generation] === print);
    const differs = keys.some(({ generation, print }) => (known[generation] ?? print) !== print);
    if (differs || (!isNew && matches.length === 0)) {
      throw new StorageError(
        'wrong-key',
        `the volume "${volumeName}" has another data key than when this host last had it: somebody put another volume in its place, or remove ${path} of the state directory if that was you`,
      );
    }
    if (matches.length === keys.length) continue;
    if (!isNew)
      log.warn('a volume has a data key that is new to this host', { volume: volumeName });
    for (const { generation, print } of keys) known[generation] = print;
    await disk.replaceFile(path, Buffer.from(`${JSON.stringify(known)}\n`));
  }
}

function fingerprintOf(secret: Uint8Array): string {
  const none = new Uint8Array(0);
  return Buffer.from(hkdfSync('sha256', secret, none, 'elasticdrive 1 fingerprint', 16)).toString(
    'hex',
  );
}
