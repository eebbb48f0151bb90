import { corrupt } from '../format/binary.ts';
import { Fields } from '../format/json-fields.ts';
import { type KeyProviderKind, keyProviderKinds } from '../format/wrapped-key.ts';
import type { ScryptParameters } from './scrypt.ts';

/** A named key of this host: sealed with a passphrase, or where it lives. */
export interface KeyEntry {
  readonly name: string;
  /** 32 hexadecimal digits, made with the key; the name may be another on another host. */
  readonly id: string;
  readonly provider: Exclude<KeyProviderKind, 'recovery'>;
  readonly createdAt: string;
  /** The version that wraps. */
  readonly version: number;
  /** Of a passphrase: each version's key, sealed, the first one first. */
  readonly sealed?: SealedVersions;
  /** Of the others: where the key lives, in the provider's words. */
  readonly settings: Readonly<Record<string, string>>;
  /** The public half of the recovery key, for which each data key is wrapped too. */
  readonly recovery?: string;
}

export interface SealedVersions {
  readonly scrypt: ScryptParameters;
  readonly versions: readonly Uint8Array[];
}

const entryFormat = 'elasticdrive-key';
const entryVersion = 1;

export function encodableEntry(entry: KeyEntry): object {
  const { sealed } = entry;
  return {
    format: entryFormat,
    formatVersion: entryVersion,
    name: entry.name,
    id: entry.id,
    provider: entry.provider,
    createdAt: entry.createdAt,
    version: entry.version,
    settings: entry.settings,
    recovery: entry.recovery ?? null,
    sealed:
      sealed === undefined
        ? null
        : {
            scrypt: { ...sealed.scrypt, salt: base64(sealed.scrypt.salt) },
            versions: sealed.versions.map(base64),
          },
  };
}

export function decodeEntry(value: unknown): KeyEntry {
  const fields = new Fields(value, 'key of a keyring');
  if (fields.text('format') !== entryFormat) throw corrupt('not a key that was exported');
  const found = fields.count('formatVersion');
  if (found !== entryVersion) {
    throw corrupt(`a key of format ${found}, and this program knows ${entryVersion}`);
  }
  const provider = fields.oneOf('provider', keyProviderKinds);
  if (provider === 'recovery') throw corrupt('a recovery key that is in a keyring');
  const sealed = fields.optional('sealed', decodeSealed);
  if ((sealed !== undefined) !== (provider === 'passphrase')) {
    throw corrupt('a key whose provider and content do not go together');
  }
  const version = fields.count('version');
  if (sealed !== undefined && sealed.versions.length !== version) {
    throw corrupt(`a key of ${version} versions that has ${sealed.versions.length}`);
  }
  const recovery = fields.optional('recovery', () => fields.text('recovery'));
  return {
    name: fields.matching('name', keyNamePattern),
    id: fields.matching('id', /^[0-9a-f]{32}$/),
    provider,
    createdAt: fields.text('createdAt'),
    version,
    settings: fields.texts('settings'),
    ...(sealed === undefined ? {} : { sealed }),
    ...(recovery === undefined ? {} : { recovery }),
  };
}

export const keyNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

function decodeSealed(value: unknown): SealedVersions {
  const fields = new Fields(value, 'sealed key');
  const scrypt = fields.nested('scrypt', (each) => new Fields(each, 'scrypt'));
  return {
    scrypt: {
      N: scrypt.count('N'),
      r: scrypt.count('r'),
      p: scrypt.count('p'),
      salt: Buffer.from(scrypt.text('salt'), 'base64url'),
    },
    versions: fields.list('versions').map((each) => Buffer.from(String(each), 'base64url')),
  };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url');
}
