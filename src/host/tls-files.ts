import type { Stats } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { StorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { formatListenAddress, isLocal, type ListenAddress } from './listen-address.ts';

/** Where the secret side of TLS lies: a certificate and its key, or pre-shared keys. */
export interface TlsFiles {
  readonly certificate?: string | undefined;
  readonly key?: string | undefined;
  readonly clientAuthority?: string | undefined;
  readonly preSharedKeys?: string | undefined;
}

/** What the files hold; certificates and keys as PEM. */
export interface LoadedTls {
  readonly certificate?: string;
  readonly key?: string;
  readonly clientAuthority?: string;
  readonly preSharedKeys?: ReadonlyMap<string, Uint8Array>;
}

export const tlsModes = ['off', 'allowed', 'required'] as const;
export type TlsMode = (typeof tlsModes)[number];

/**
 * What a listener does about TLS. Where other machines reach it, it wants TLS unless that was switched
 * off; `usage` when it has nothing to offer there.
 */
export function tlsModeOf(
  address: ListenAddress,
  mode: TlsMode | undefined,
  files: TlsFiles | undefined,
): TlsMode {
  if (files !== undefined) return mode ?? (isLocal(address) ? 'allowed' : 'required');
  if (mode === 'off' || isLocal(address)) return 'off';
  throw new StorageError(
    'usage',
    `${formatListenAddress(address)} is reached by other machines: set tls.certificate and tls.key ("elasticdrive tls create" makes a first pair), or tls.mode = "off" where the network is trusted`,
  );
}

/**
 * The files, read again when one has changed: certificates are renewed while clients are connected.
 * What cannot be read leaves what was read before in use, and is logged.
 */
export class TlsFileReader {
  private readonly files: TlsFiles;
  private readonly log: Log;
  private loaded: LoadedTls | undefined;
  private version = '';

  constructor(files: TlsFiles, log: Log) {
    this.files = files;
    this.log = log;
  }

  async read(): Promise<LoadedTls> {
    try {
      const version = await this.versionNow();
      if (this.loaded === undefined || version !== this.version) {
        this.loaded = await load(this.files);
        if (this.version !== '') this.log.info('TLS certificates and keys were read again');
        this.version = version;
      }
      return this.loaded;
    } catch (error) {
      if (this.loaded === undefined) throw error;
      this.log.warn('TLS files cannot be read; those read before stay in use', {
        reason: (error as Error).message,
      });
      return this.loaded;
    }
  }

  private async versionNow(): Promise<string> {
    const { certificate, key, clientAuthority, preSharedKeys } = this.files;
    const paths = [certificate, key, clientAuthority, preSharedKeys].flatMap((path) => path ?? []);
    const stats = await Promise.all(paths.map((path) => statOf(path)));
    return stats.map(({ mtimeMs, ino, size }) => `${mtimeMs}-${ino}-${size}`).join(' ');
  }
}

async function load(files: TlsFiles): Promise<LoadedTls> {
  const { certificate, key, clientAuthority, preSharedKeys } = files;
  if (preSharedKeys !== undefined) {
    return { preSharedKeys: parseKeys(await readSecret(preSharedKeys), preSharedKeys) };
  }
  if (certificate === undefined || key === undefined) {
    throw new StorageError('usage', 'tls.certificate and tls.key are used together: set both');
  }
  return {
    certificate: await readText(certificate),
    key: await readSecret(key),
    ...(clientAuthority === undefined ? {} : { clientAuthority: await readText(clientAuthority) }),
  };
}

/** Lines of `name:hexadecimal key`, as GnuTLS's psktool writes them. */
function parseKeys(text: string, path: string): Map<string, Uint8Array> {
  const keys = new Map<string, Uint8Array>();
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const [, name, key] = /^([^:\s]+):((?:[0-9a-fA-F]{2}){16,64})\s*$/.exec(line) ?? [];
    if (name === undefined || key === undefined) {
      // The line is not shown: it is likely a key.
      throw new StorageError(
        'usage',
        `${path}:${index + 1}: expected NAME:KEY with a key of 32 to 128 hexadecimal digits`,
      );
    }
    keys.set(name, Buffer.from(key, 'hex'));
  }
  return keys;
}

async function readSecret(path: string): Promise<string> {
  const { mode } = await statOf(path);
  if ((mode & 0o004) !== 0) {
    throw new StorageError('usage', `every user can read the key in ${path}: chmod o= ${path}`);
  }
  return readText(path);
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw unreadable(path, error);
  }
}

async function statOf(path: string): Promise<Stats> {
  try {
    return await stat(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, cause: unknown): StorageError {
  const { code } = cause as NodeJS.ErrnoException;
  return new StorageError('usage', `cannot read ${path} for TLS (${code})`, { cause });
}
