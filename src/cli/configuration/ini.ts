import { StorageError } from '../../base/errors.ts';
import { didYouMean } from '../did-you-mean.ts';
import type { Assignment } from './assignment.ts';
import { cacheBytesMinimum } from './keys.ts';

/**
 * The `config.ini` of the first ElasticDrive (2007): one bucket, one drive, one port. It is read as
 * the same assignments that a TOML file gives, and a drive that is made where it is missing.
 */
export interface FirstDrive {
  readonly volumeName: string;
  readonly sizeBytes: number;
  /** From the file; without them, the usual AWS chain is asked. */
  readonly credentials:
    | { readonly accessKeyId: string; readonly secretAccessKey: string }
    | undefined;
}

export interface IniFile {
  readonly assignments: Assignment[];
  readonly drive: FirstDrive;
}

const volumeName = 'drive0';
const known = {
  s3: [
    'aws_access_key_id',
    'aws_secret_access_key',
    'bucket',
    'stripe',
    'volumesize',
    'endpoint',
    'region',
  ],
  server: ['port', 'debug', 'cachesize', 'cachettl'],
};

/** Whether the text is that INI file and no TOML: only there is `BUCKET` a key. */
export function looksLikeIni(source: string, file: string): boolean {
  if (/\.(ini|cfg)$/i.test(file)) return true;
  return !/\.toml$/i.test(file) && /^\s*bucket\s*[=:]/im.test(source);
}

export function readIni(source: string, file: string, baseDirectory: string): IniFile {
  const entries = readEntries(source, file);
  const stripeBytes = entries.number('stripe', { fallback: 65_536, minimum: 4096 });
  const sizeBytes = entries.number('volumesize', { minimum: 4096 });
  if (sizeBytes % 4096 !== 0) {
    throw entries.wrong('volumesize', 'bytes, a multiple of 4096');
  }
  const assignments: Assignment[] = [];
  const say = (name: string, text: string, origin: string): void => {
    assignments.push({ path: name.split('.'), value: { texts: [text] }, origin, baseDirectory });
  };
  say('store', `s3://${entries.text('bucket')}`, entries.origin('bucket'));
  say('default_volume', volumeName, entries.origin('bucket'));
  if (entries.has('endpoint')) {
    say('s3.endpoint', entries.text('endpoint'), entries.origin('endpoint'));
  }
  if (entries.has('region')) say('s3.region', entries.text('region'), entries.origin('region'));
  const port = entries.number('port', { fallback: 9999, minimum: 0, maximum: 65_535 });
  say('listen', `nbd://127.0.0.1:${port}`, entries.origin('port'));
  if (entries.has('debug')) {
    const level = entries.number('debug', { minimum: 0 }) === 0 ? 'info' : 'debug';
    say('log.level', level, entries.origin('debug'));
  }
  if (entries.has('cachesize')) {
    // A count of stripes. In 2007 two megabytes were a cache; they are rounded up, not refused.
    const cacheBytes = entries.number('cachesize', { minimum: 0 }) * stripeBytes;
    say(
      'cache.memory',
      String(Math.max(cacheBytes, cacheBytesMinimum)),
      entries.origin('cachesize'),
    );
  }
  if (entries.has('cachettl')) {
    // How long a stripe stayed in the cache before S3 had it: here, the upload interval.
    const seconds = entries.number('cachettl', { minimum: 0, maximum: 86_400 });
    say('upload.interval', seconds === 0 ? '10ms' : `${seconds}s`, entries.origin('cachettl'));
  }
  return { assignments, drive: { volumeName, sizeBytes, credentials: credentialsOf(entries) } };
}

function credentialsOf(entries: Entries): FirstDrive['credentials'] {
  if (!entries.has('aws_access_key_id') && !entries.has('aws_secret_access_key')) return undefined;
  return {
    accessKeyId: entries.text('aws_access_key_id'),
    secretAccessKey: entries.text('aws_secret_access_key'),
  };
}

interface NumberRule {
  /** Without it, the key must be there. */
  readonly fallback?: number;
  readonly minimum: number;
  readonly maximum?: number;
}

class Entries {
  readonly #file: string;
  readonly #values = new Map<string, { text: string; line: number }>();

  constructor(file: string) {
    this.#file = file;
  }

  set(key: string, text: string, line: number): void {
    this.#values.set(key, { text, line });
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  origin(key: string): string {
    const line = this.#values.get(key)?.line;
    return line === undefined ? this.#file : `${this.#file}:${line}`;
  }

  text(key: string): string {
    const text = this.#values.get(key)?.text ?? '';
    if (text === '') throw this.wrong(key, 'a value');
    return text;
  }

  number(
    key: string,
    { fallback, minimum, maximum = Number.MAX_SAFE_INTEGER }: NumberRule,
  ): number {
    const text = this.#values.get(key)?.text;
    if (text === undefined && fallback !== undefined) return fallback;
    const value = /^\d{1,16}$/.test(text ?? '') ? Number(text) : Number.NaN;
    if (value >= minimum && value <= maximum) return value;
    const upTo = maximum === Number.MAX_SAFE_INTEGER ? '' : ` and at most ${maximum}`;
    throw this.wrong(key, `a whole number of at least ${minimum}${upTo}`);
  }

  wrong(key: string, expected: string): StorageError {
    return new StorageError(
      'usage',
      `${this.origin(key)}: "${key.toUpperCase()}" expected ${expected}`,
    );
  }
}

function readEntries(source: string, file: string): Entries {
  const entries = new Entries(file);
  let section: keyof typeof known | undefined;
  for (const [index, raw] of source.split(/\r?\n/).entries()) {
    const line = raw.replace(/^\uFEFF/, '').trim();
    const fail = (problem: string): StorageError =>
      new StorageError('usage', `${file}:${index + 1}: ${problem}`);
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue;
    const header = /^\[([^\]]*)\]$/.exec(line)?.[1]?.trim().toLowerCase();
    if (header !== undefined) {
      if (header !== 's3' && header !== 'server') {
        throw fail(`unknown section "[${header}]"; expected [s3] or [server]`);
      }
      section = header;
      continue;
    }
    const [, name, text] = /^([^=:]+?)\s*[=:]\s*(.*)$/.exec(line) ?? [];
    if (name === undefined || text === undefined)
      throw fail('expected KEY=value, a [section] or #');
    if (section === undefined) throw fail('expected [s3] or [server] before the first key');
    const key = name.toLowerCase();
    if (!known[section].includes(key)) {
      throw fail(`unknown key "${name}" in [${section}]${didYouMean(key, known[section])}`);
    }
    entries.set(key, text, index + 1);
  }
  return entries;
}
