import { accessRuleHint, formatAccessRule, parseAccessRule } from '../../host/access.ts';
import { formatListenAddress, listenHint, parseListenAddress } from '../../host/listen-address.ts';
import {
  formatMetricsAddress,
  metricsAddressHint,
  parseMetricsAddress,
} from '../../host/metrics-address.ts';
import { type TlsMode, tlsModes } from '../../host/tls-files.ts';
import { formatSchedule, parseSchedule, scheduleHint } from '../../host/snapshot-schedule.ts';
import { defaultNbdLimits } from '../../nbd/limits.ts';
import { defaultVolumeSettings } from '../../volume/settings.ts';
import { boolean, choice, count, duration, type Kind, list, path, size, text } from './kinds.ts';
import { normalizeStoreUrl, storeUrlHint } from './store-url.ts';

const mebibyte = 2 ** 20;
const tebibyte = 2 ** 40;
/** Less would give up blocks before a single large request is answered. */
export const cacheBytesMinimum = 2 ** 20;

/**
 * What a key is a setting of. `store` keys may stand in a `[[store]]` (by the last part of their
 * name), `volume` keys in a `[volume.NAME]`; there they are for that one only.
 */
export type Scope = 'daemon' | 'store' | 'volume';

export interface Key<T> {
  readonly scope: Scope;
  readonly kind: Kind<NonNullable<T>>;
  readonly defaultValue: T;
  /** Where `defaultValue` is `undefined`: what happens then. */
  readonly otherwise: string;
  readonly description: string;
}

function required<T>(
  scope: Scope,
  kind: Kind<NonNullable<T>>,
  defaultValue: T,
  description: string,
): Key<T> {
  return { scope, kind, defaultValue, otherwise: '', description };
}

function optional<T>(
  scope: Scope,
  kind: Kind<NonNullable<T>>,
  otherwise: string,
  description: string,
): Key<T | undefined> {
  return { scope, kind, defaultValue: undefined, otherwise, description };
}

const listenAddresses = list('address', listenHint, (value) => {
  const address = parseListenAddress(value);
  return address === undefined ? undefined : formatListenAddress(address);
});
const accessRules = list('rule', accessRuleHint, (value) => {
  const rule = parseAccessRule(value);
  return rule === undefined ? undefined : formatAccessRule(rule);
});
const snapshotSchedules = list('schedule', `schedules such as ${scheduleHint}`, (value) => {
  const schedule = parseSchedule(value);
  return schedule === undefined ? undefined : formatSchedule(schedule);
});
const passwordFile = text('path', path.expected, (value, base) =>
  value === '-' ? value : path.fromTexts([value], base),
);
const storeUrls = list('url', storeUrlHint, normalizeStoreUrl);
const endpoint = text(
  'url',
  'a URL such as "https://s3.example.org" without a password',
  (value) => (/^https?:\/\/[^/@?#\s]+\/?$/.test(value) ? value : undefined),
);
const logLevel = choice(['debug', 'info', 'warn', 'error']);
const durability = choice(['local', 'store']);

/**
 * Every key there is. `a.b` is key `b` in the table `[a]` of the file, the flag `--a-b` and the
 * environment variable `ELASTICDRIVE_A_B`.
 */
export const keys = {
  store: optional<readonly string[]>(
    'daemon',
    storeUrls,
    './elasticdrive-data/store',
    'Stores whose volumes are served; in the file, one [[store]] with a url for each',
  ),
  listen: required<readonly string[]>(
    'daemon',
    listenAddresses,
    ['nbd://127.0.0.1:10809'],
    'Where NBD clients connect',
  ),
  state_dir: optional<string>(
    'daemon',
    path,
    './elasticdrive-data/state, or among the state of the user when a store is named',
    'Directory for journals, caches and the control socket; one daemon each',
  ),
  default_volume: optional<string>(
    'daemon',
    text('name', 'the name of a volume'),
    'the only volume, when there is one',
    'The volume that a client gets who asks for no name',
  ),
  control_socket: optional<string>(
    'daemon',
    path,
    'control.sock in the state directory',
    'Unix socket that "elasticdrive status" asks',
  ),
  durability: optional<'local' | 'store'>(
    'volume',
    durability,
    'as the volume was created',
    'What an answered flush survives: loss of power (local) or of the host (store)',
  ),
  'cache.memory': required<number>(
    'volume',
    size({ minimum: cacheBytesMinimum, maximum: tebibyte }),
    defaultVolumeSettings.cacheBytes,
    'Memory for data read, for each attached volume',
  ),
  'cache.disk': required<number>(
    'volume',
    size({ minimum: 0, maximum: 64 * tebibyte }),
    defaultVolumeSettings.diskCacheBytes,
    'Local disk for data read, for each attached volume',
  ),
  'cache.snapshots': required<number>(
    'daemon',
    size({ minimum: 16 * mebibyte, maximum: tebibyte }),
    128 * mebibyte,
    'Memory for reading snapshots, for all of them together',
  ),
  'journal.size': required<number>(
    'volume',
    size({ minimum: 64 * mebibyte, maximum: tebibyte }),
    defaultVolumeSettings.journalBytes,
    'Local disk for data not yet in the store, for each attached volume',
  ),
  'writes.answered': required<'memory' | 'journal' | 'disk'>(
    'volume',
    choice(['memory', 'journal', 'disk']),
    defaultVolumeSettings.writesAnswered,
    'What has a write when it is answered: with memory it is lost when the daemon is killed',
  ),
  'upload.interval': required<number>(
    'volume',
    duration({ minimum: 10, maximum: 86_400_000 }),
    defaultVolumeSettings.uploadIntervalMs,
    'Longest time that written data waits before its upload begins',
  ),
  'upload.concurrency': required<number>(
    'volume',
    count({ minimum: 1, maximum: 64 }),
    defaultVolumeSettings.putConcurrency,
    'Uploads under way at once, for each attached volume',
  ),
  'read.concurrency': required<number>(
    'volume',
    count({ minimum: 1, maximum: 256 }),
    defaultVolumeSettings.getConcurrency,
    'Entry tables read from the store at once while a volume is attached',
  ),
  'read.ahead': required<number>(
    'volume',
    size({ minimum: 0, maximum: 1024 * mebibyte }),
    defaultVolumeSettings.readaheadBytes,
    'How far ahead of a sequential reader the store is read; 0 for not at all',
  ),
  'scrub.interval': optional<number>(
    'volume',
    duration({ minimum: 60_000, maximum: 366 * 86_400_000 }),
    'never by itself',
    'How often all objects of an attached volume are read and verified',
  ),
  'scrub.rate': required<number>(
    'volume',
    size({ minimum: 64 * 1024, maximum: tebibyte }),
    defaultVolumeSettings.scrubBytesPerSecond,
    'How much of a volume is read and verified in a second',
  ),
  'snapshots.schedule': optional<readonly string[]>(
    'volume',
    snapshotSchedules,
    'none',
    'When the daemon makes snapshots of an attached volume by itself, and how many of them it keeps',
  ),
  'compaction.rate': required<number>(
    'volume',
    size({ minimum: 0, maximum: tebibyte }),
    defaultVolumeSettings.space.bytesPerSecond,
    'How much compaction reads in a second; 0: no space is given back by itself',
  ),
  'compaction.grace': required<number>(
    'volume',
    duration({ minimum: 0, maximum: 30 * 86_400_000 }),
    defaultVolumeSettings.space.graceMs,
    'How long what nothing needs any more stays, for those that read by an older map',
  ),
  'lease.time': required<number>(
    'volume',
    duration({ minimum: 1000, maximum: 86_400_000 }),
    defaultVolumeSettings.leaseMs,
    'How long a writer must be silent before another may take its volume over',
  ),
  unsafe_single_writer: required<boolean>(
    'volume',
    boolean,
    false,
    'Write also to a store whose compare-and-swap is none: you see to it that one daemon writes',
  ),
  's3.endpoint': optional<string>(
    'store',
    endpoint,
    'that of Amazon for the region',
    'URL of the S3 server',
  ),
  's3.region': optional<string>(
    'store',
    text('name', 'the name of a region'),
    'AWS_REGION, the profile, or us-east-1',
    'Region that requests are signed for',
  ),
  's3.path_style': optional<boolean>(
    'store',
    boolean,
    'true with an endpoint, or when the bucket has a dot in its name',
    'Whether the bucket stands in the path instead of the host name',
  ),
  's3.storage_class': optional<string>(
    'store',
    text('name', 'the name of a storage class'),
    'that of the bucket',
    'Storage class of new objects',
  ),
  's3.ca_file': optional<string>(
    'store',
    path,
    'the authorities that Node trusts',
    'PEM file with the certificate authorities of the S3 server',
  ),
  'new_volumes.encrypt': required<boolean>(
    'store',
    boolean,
    false,
    'Whether volumes that are made in the store are encrypted, unless it is said otherwise',
  ),
  'new_volumes.key': optional<string>(
    'store',
    text('name', 'the name of a key'),
    'the default key of the keyring',
    'Which key wraps the data keys of encrypted volumes that are made in the store',
  ),
  keyring: optional<string>(
    'daemon',
    path,
    'keys.json beside the configuration of the user, /etc/elasticdrive/keys.json for root',
    'File with the keys that encrypt volumes; it lies in no store',
  ),
  password_file: optional<string>(
    'daemon',
    passwordFile,
    'the credentials that systemd gives: elasticdrive.KEY, elasticdrive.password',
    'File with the passphrase of the keys in the keyring; - is standard input',
  ),
  password_command: optional<string>(
    'daemon',
    text('command', 'a line for the shell'),
    'none',
    'Command that prints the passphrase of the key that $ELASTICDRIVE_KEY names',
  ),
  recovery_file: optional<string>(
    'daemon',
    path,
    'none',
    'File with a recovery key, which is used where the key itself is not to be had',
  ),
  'tls.certificate': optional<string>(
    'daemon',
    path,
    'no TLS',
    'PEM file with the certificate of this server, and those between it and its authority',
  ),
  'tls.key': optional<string>('daemon', path, 'no TLS', 'PEM file with the key of tls.certificate'),
  'tls.client_ca': optional<string>(
    'daemon',
    path,
    'clients need no certificate',
    'PEM file with the authorities that sign the certificates of clients; each must show one',
  ),
  'tls.psk_file': optional<string>(
    'daemon',
    path,
    'no pre-shared keys',
    'File with lines of NAME:KEY, as psktool writes them; used instead of a certificate',
  ),
  'tls.access': optional<readonly string[]>(
    'daemon',
    accessRules,
    'every client that has proved who it is may read and write all',
    'What clients may do, by the name in their certificate or of their key',
  ),
  'tls.mode': optional<TlsMode>(
    'daemon',
    choice(tlsModes),
    'required where other machines reach the address, else allowed with a certificate and off without',
    'Whether NBD clients may, must or cannot use TLS',
  ),
  'limits.connections': required<number>(
    'daemon',
    count({ minimum: 1, maximum: 65_536 }),
    defaultNbdLimits.connections,
    'NBD connections at once',
  ),
  'limits.in_flight': required<number>(
    'daemon',
    size({ minimum: defaultNbdLimits.inFlightBytesPerConnection, maximum: tebibyte }),
    defaultNbdLimits.inFlightBytesTotal,
    'Memory for requests under way, over all NBD connections',
  ),
  'limits.busy_poll': required<boolean>(
    'daemon',
    boolean,
    false,
    'Look for the next request of a prompt client for up to 0.1 ms before sleeping',
  ),
  'metrics.listen': optional<string>(
    'daemon',
    text('url', metricsAddressHint, (value) => {
      const address = parseMetricsAddress(value);
      return address === undefined ? undefined : formatMetricsAddress(address);
    }),
    'nowhere',
    'Where /metrics, /healthz and /readyz are served over HTTP',
  ),
  'metrics.remote': required<boolean>(
    'daemon',
    boolean,
    false,
    'Whether metrics.listen may be an address that other machines reach',
  ),
  'log.level': required<'debug' | 'info' | 'warn' | 'error'>(
    'daemon',
    logLevel,
    'info',
    'Least important lines to log',
  ),
} as const satisfies Record<string, Key<never> | Key<unknown>>;

export type KeyName = keyof typeof keys;

/** The values of all keys, with their defaults where nothing was said. */
export type Settings = { [K in KeyName]: (typeof keys)[K] extends Key<infer T> ? T : never };
export const keyNames = Object.keys(keys) as KeyName[];

export type AnyKey = Key<unknown>;
export function keyOf(name: KeyName): AnyKey {
  return keys[name];
}

/** The value where nobody said anything, or in brackets what happens then. */
export function defaultText(name: KeyName): string {
  const { defaultValue, otherwise, kind } = keyOf(name);
  return defaultValue === undefined || defaultValue === null
    ? `(${otherwise})`
    : kind.show(defaultValue);
}

export function flagName(name: KeyName): string {
  return `--${name.replaceAll(/[._]/g, '-')}`;
}

export function environmentName(name: KeyName): string {
  return `ELASTICDRIVE_${name.replaceAll('.', '_').toUpperCase()}`;
}

/** The name of a store's key inside a `[[store]]`: without the `s3.`. */
export function nameInStore(name: KeyName): string {
  return name.slice(name.indexOf('.') + 1);
}
