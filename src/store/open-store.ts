import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { type Log, silentLog } from '../base/log.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Random } from '../base/random.ts';
import { createFileStore } from './file-store.ts';
import type { S3Credentials, S3CredentialsProvider } from './s3-credentials.ts';
import type { HttpTimeouts } from './s3-http.ts';
import {
  type ConcurrencyLimits,
  defaultConcurrencyLimits,
  withConcurrencyLimit,
} from './with-concurrency-limit.ts';
import { type MeasuredStore, withMetrics } from './with-metrics.ts';
import { withRetry } from './with-retry.ts';

/** What a store's URL says. */
export type StoreLocation =
  | { readonly kind: 'file'; readonly directory: string }
  | { readonly kind: 's3'; readonly bucket: string; readonly prefix: string };

export interface OpenStoreOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly log?: Log;
  /** Where the AWS_… variables are looked for. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** What a relative path starts from; the current directory when not given. */
  readonly baseDirectory?: string;
  readonly limits?: Partial<ConcurrencyLimits>;
  /** How long a failing call is repeated before it fails. */
  readonly retryDeadlineMs?: number;
  readonly s3?: OpenS3Options;
}

/** Options of an S3 store; each goes before what the environment says. */
export interface OpenS3Options {
  readonly endpoint?: string;
  readonly region?: string;
  readonly pathStyle?: boolean;
  readonly storageClass?: string;
  readonly caFile?: string;
  readonly credentials?: S3Credentials | S3CredentialsProvider;
  readonly timeouts?: Partial<HttpTimeouts>;
  /** Makes the bucket if it is not there. */
  readonly createBucket?: boolean;
}

/**
 * The place that `url` names: `s3://bucket/prefix`, `file:///directory`, or a path. Throws a
 * `StorageError` of code `usage` for anything else.
 */
export function parseStoreUrl(url: string, baseDirectory = '.'): StoreLocation {
  const s3 = /^s3:\/\/([^/]+)(?:\/(.*))?$/.exec(url);
  if (s3?.[1] !== undefined) {
    return { kind: 's3', bucket: s3[1], prefix: (s3[2] ?? '').replace(/\/+$/, '') };
  }
  if (url.startsWith('file:///')) return { kind: 'file', directory: fileURLToPath(url) };
  if (url !== '' && !/^[a-z][a-z0-9+.-]*:/i.test(url)) {
    return { kind: 'file', directory: resolve(baseDirectory, url) };
  }
  throw new StorageError(
    'usage',
    'A store is named by s3://bucket/prefix, file:///directory or the path of a directory.',
  );
}

/** Opens a store for use: its driver, measured, with bounded concurrency, repeating what may pass. */
export async function openStore(url: string, options: OpenStoreOptions): Promise<MeasuredStore> {
  const { clock, random, log = silentLog, retryDeadlineMs } = options;
  const limits = { ...defaultConcurrencyLimits, ...options.limits };
  const measured = withMetrics(await openDriver(url, options, limits), { clock });
  const retrying = withRetry(withConcurrencyLimit(measured, limits), {
    clock,
    random,
    ...(retryDeadlineMs === undefined ? {} : { deadlineMs: retryDeadlineMs }),
    onRetry: ({ code, message }, delayMs) => {
      log.warn('the store failed; trying again', { store: measured.url, code, message, delayMs });
    },
  });
  return { ...retrying, snapshot: () => measured.snapshot() };
}

async function openDriver(
  url: string,
  options: OpenStoreOptions,
  limits: ConcurrencyLimits,
): Promise<ObjectStore> {
  const location = parseStoreUrl(url, options.baseDirectory);
  const { clock, random } = options;
  if (location.kind === 'file') {
    return createFileStore({ directory: location.directory, clock, random });
  }
  const { createBucket, ...given } = options.s3 ?? {};
  const environment = options.environment ?? {};
  const endpoint = environment['AWS_ENDPOINT_URL_S3'] ?? environment['AWS_ENDPOINT_URL'];
  const caFile = environment['AWS_CA_BUNDLE'];
  // Whoever uses a directory does not wait for the S3 driver and its libraries to load.
  const { createS3Store } = await import('./s3-store.ts');
  const store = createS3Store({
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(caFile === undefined ? {} : { caFile }),
    ...given,
    region: given.region ?? (await findRegion(environment)),
    bucket: location.bucket,
    prefix: location.prefix,
    maxConnections: limits.reads + limits.writes + limits.registers,
    clock,
  });
  if (createBucket === true) await store.ensureBucket();
  return store;
}

/** The region of the environment or the profile, or the one that S3 began in. */
async function findRegion(
  environment: Readonly<Record<string, string | undefined>>,
): Promise<string> {
  const named = environment['AWS_REGION'] ?? environment['AWS_DEFAULT_REGION'];
  if (named !== undefined) return named;
  const { loadSharedConfigFiles } = await import('@smithy/core/config');
  const { configFile, credentialsFile } = await loadSharedConfigFiles().catch(() => ({
    configFile: {},
    credentialsFile: {},
  }));
  const profile = environment['AWS_PROFILE'] ?? 'default';
  const profiles: Record<string, Record<string, string | undefined>> = {
    ...credentialsFile,
    ...configFile,
  };
  return profiles[profile]?.['region'] ?? 'us-east-1';
}
