import { type Clock, systemClock } from '../base/clock.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import type {
  ByteRange,
  CallOptions,
  ReadOptions,
  ListedKey,
  ListOptions,
  ListPage,
  ObjectStart,
  ObjectStore,
  RegisterValue,
} from '../base/object-store.ts';
import { throwIfAborted } from './cancel.ts';
import { checkKey, checkPrefix } from './keys.ts';
import { checkedObject, etagOf, parseContentRange } from './s3-answers.ts';
import { S3Client } from './s3-client.ts';
import {
  createDefaultCredentials,
  type S3Credentials,
  type S3CredentialsProvider,
} from './s3-credentials.ts';
import { faultError, readFault } from './s3-errors.ts';
import { defaultHttpTimeouts, type HttpAnswer, type HttpTimeouts } from './s3-http.ts';
import { parseListing } from './s3-listing.ts';
import { settleSwap } from './settle-swap.ts';

export interface S3StoreOptions {
  readonly bucket: string;
  /** What all keys begin with, without slashes at its ends; nothing when empty. */
  readonly prefix?: string;
  /** The server's URL; Amazon's of the region when not given. */
  readonly endpoint?: string;
  readonly region?: string;
  /** The bucket in the path, not the host's name: by default with an endpoint or a dot in it. */
  readonly pathStyle?: boolean;
  /** S3's name of the storage class for objects; registers keep the bucket's default. */
  readonly storageClass?: string;
  /** A PEM file with the authorities that the server's certificate may come from. */
  readonly caFile?: string;
  /** The AWS chain (environment, profile, process, instance metadata) when not given. */
  readonly credentials?: S3Credentials | S3CredentialsProvider;
  readonly maxConnections?: number;
  readonly timeouts?: Partial<HttpTimeouts>;
  readonly clock?: Clock;
}

/** A store in a bucket. */
export interface S3Store extends ObjectStore {
  /** Makes the bucket if it is not there. */
  ensureBucket(options?: CallOptions): Promise<void>;
}

const defaultRegion = 'us-east-1';
const defaultMaxConnections = 64;
/** Larger than any object that is ever written. */
const maxAnswerBytes = 256 << 20;
const maxKeysPerPage = 1000;
const contentType = 'application/octet-stream';

/**
 * A store in an S3 bucket, spoken to directly over HTTP. One request per call and no repetition:
 * `withRetry` does that for all stores. Registers need a server that keeps `If-None-Match: *` and
 * `If-Match` on PUT; `probeStore` finds out.
 */
export function createS3Store(options: S3StoreOptions): S3Store {
  return new S3ObjectStore(options);
}

function endpointOf(options: S3StoreOptions, region: string): URL {
  const text = options.endpoint ?? `https://s3.${region}.amazonaws.com`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const good =
    url !== undefined &&
    /^https?:$/.test(url.protocol) &&
    url.pathname === '/' &&
    `${url.username}${url.password}${url.search}${url.hash}` === '';
  if (good) return url;
  throw new StorageError(
    'usage',
    'The S3 endpoint must look like https://host or http://host:port.',
  );
}

function checkBucket(bucket: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$/.test(bucket)) return;
  throw new StorageError('usage', `${JSON.stringify(bucket)} cannot be the name of an S3 bucket.`);
}

class S3ObjectStore implements S3Store {
  readonly url: string;
  readonly #options: S3StoreOptions;
  readonly #region: string;
  readonly #prefix: string;
  readonly #client: S3Client;
  /** Most servers take an ETag with quotes in If-Match or without; some take only one of them. */
  #quoteEtags = false;
  #closed = false;

  constructor(options: S3StoreOptions) {
    const { bucket, prefix = '', credentials, clock = systemClock } = options;
    checkBucket(bucket);
    if (prefix !== '') checkKey(prefix);
    this.#options = options;
    this.#region = options.region ?? defaultRegion;
    this.#prefix = prefix === '' ? '' : `${prefix}/`;
    this.url = `s3://${bucket}${prefix === '' ? '' : `/${prefix}`}`;
    this.#client = new S3Client({
      bucket,
      endpoint: endpointOf(options, this.#region),
      region: this.#region,
      pathStyle: options.pathStyle ?? (options.endpoint !== undefined || bucket.includes('.')),
      caFile: options.caFile,
      credentials: providerOf(credentials),
      maxConnections: options.maxConnections ?? defaultMaxConnections,
      maxAnswerBytes,
      timeouts: { ...defaultHttpTimeouts, ...options.timeouts },
      clock,
    });
  }

  async put(key: string, parts: readonly Uint8Array[], options?: CallOptions): Promise<void> {
    const { storageClass } = this.#options;
    const headers: Record<string, string> = { 'content-type': contentType };
    if (storageClass !== undefined) headers['x-amz-storage-class'] = storageClass;
    const answer = await this.#send({ method: 'PUT', key, headers, body: parts }, options);
    this.#checkStored(`Writing ${key}`, answer);
  }

  async get(key: string, range?: ByteRange, options?: ReadOptions): Promise<Uint8Array> {
    if (range === undefined) return (await this.#getWhole(key, options)).body;
    const { offset, lengthBytes } = range;
    const end = offset + lengthBytes;
    const { bytes, from } = await this.#getRange(key, offset, end, options);
    const skip = offset - from;
    if (bytes.length >= skip + lengthBytes) return bytes.subarray(skip, skip + lengthBytes);
    throw new StorageError('corrupt', `${key} in ${this.url} ends before byte ${end}.`);
  }

  async getStart(key: string, maxBytes: number, options?: ReadOptions): Promise<ObjectStart> {
    try {
      const { bytes, objectBytes } = await this.#getRange(key, 0, maxBytes, options);
      if (bytes.length >= Math.min(maxBytes, objectBytes)) {
        return { bytes: bytes.subarray(0, maxBytes), objectBytes };
      }
      throw this.#nonsense(`Reading ${key}`, 'fewer bytes than the object has');
    } catch (error) {
      if (!isStorageError(error, 'corrupt')) throw error;
      // No first byte can be had of an empty object: such a range is refused.
      const { body } = await this.#getWhole(key, options);
      return { bytes: body.subarray(0, maxBytes), objectBytes: body.length };
    }
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ListPage> {
    checkPrefix(prefix);
    const { startAfter, maxKeys = maxKeysPerPage } = options;
    const query: Record<string, string> = {
      'list-type': '2',
      'encoding-type': 'url',
      'max-keys': String(Math.min(maxKeys, maxKeysPerPage)),
      prefix: this.#prefix + prefix,
    };
    if (startAfter !== undefined) query['start-after'] = this.#prefix + startAfter;
    const doing = `Listing ${prefix}`;
    const keys: ListedKey[] = [];
    for (;;) {
      const answer = await this.#send({ method: 'GET', key: undefined, query }, options);
      if (answer.status !== 200) throw this.#fault(doing, answer);
      const page = parseListing(answer.body);
      if (page === undefined) throw this.#nonsense(doing, 'no listing');
      for (const { key, sizeBytes } of page.keys) {
        if (!key.startsWith(this.#prefix))
          throw this.#nonsense(doing, 'keys that were not asked for');
        keys.push({ key: key.slice(this.#prefix.length), sizeBytes });
      }
      // A page without keys that is not the last one would end the caller's walk: follow it here.
      if (keys.length > 0 || page.next === undefined) {
        return { keys, truncated: page.next !== undefined };
      }
      query['continuation-token'] = page.next;
    }
  }

  async delete(key: string, options?: CallOptions): Promise<void> {
    const answer = await this.#send({ method: 'DELETE', key }, options);
    if (answer.status === 204 || answer.status === 200) return;
    if (readFault(answer).code !== 'NoSuchKey') throw this.#fault(`Deleting ${key}`, answer);
  }

  async load(key: string, options?: CallOptions): Promise<RegisterValue | undefined> {
    const answer = await this.#send({ method: 'GET', key }, options);
    if (readMissing(answer)) return undefined;
    if (answer.status !== 200) throw this.#fault(`Reading ${key}`, answer);
    const { body, etag } = this.#object(`Reading ${key}`, answer);
    return { value: body, version: etag };
  }

  async swap(
    key: string,
    expected: string | undefined,
    value: Uint8Array,
    options?: CallOptions,
  ): Promise<string | undefined> {
    let answer: HttpAnswer;
    try {
      answer = await this.#putIf(key, expected, value, options);
    } catch (error) {
      if (!isStorageError(error, 'store-unavailable')) throw error;
      const outcome = await settleSwap(this, key, expected, value, options);
      if (outcome.kind === 'applied') return outcome.version;
      throw error;
    }
    if (answer.status === 412) return this.#refused(key, expected, value, options);
    // A condition on an object that is not there: S3 says so in its own way.
    if (readMissing(answer) && expected !== undefined) return undefined;
    try {
      return this.#checkStored(`Changing ${key}`, answer);
    } catch (error) {
      if (!isStorageError(error, 'store-unavailable') && answer.status !== 409) throw error;
      const outcome = await settleSwap(this, key, expected, value, options);
      if (outcome.kind === 'applied') return outcome.version;
      // 409 says that another call was in the way and that ours changed nothing.
      if (answer.status === 409 && outcome.kind === 'other') return undefined;
      throw error;
    }
  }

  remove(key: string, options?: CallOptions): Promise<void> {
    return this.delete(key, options);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#client.close();
  }

  async ensureBucket(options?: CallOptions): Promise<void> {
    const { bucket, endpoint } = this.#options;
    const query = { 'list-type': '2', 'max-keys': '1' };
    const found = await this.#send({ method: 'GET', key: undefined, query }, options);
    if (found.status === 200) return;
    if (readFault(found).code !== 'NoSuchBucket') throw this.#fault(`Finding ${bucket}`, found);
    // Amazon wants to be told the region, except in the one that came first; others refuse it.
    const body =
      endpoint === undefined && this.#region !== defaultRegion
        ? [new TextEncoder().encode(bucketConfiguration(this.#region))]
        : [];
    const made = await this.#send({ method: 'PUT', key: undefined, body }, options);
    if (made.status === 200 || readFault(made).code === 'BucketAlreadyOwnedByYou') return;
    throw this.#fault(`Making the bucket ${bucket}`, made);
  }

  /** `key` undefined means the bucket itself. */
  async #send(
    request: {
      readonly method: 'GET' | 'PUT' | 'DELETE';
      readonly key: string | undefined;
      readonly query?: Readonly<Record<string, string>>;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: readonly Uint8Array[];
    },
    options: ReadOptions | undefined,
  ): Promise<HttpAnswer> {
    if (this.#closed) throw new StorageError('shutting-down', 'The store has been closed.');
    throwIfAborted(options?.signal);
    const { key } = request;
    if (key !== undefined) checkKey(key);
    return this.#client.send(
      { ...request, key: key === undefined ? '' : this.#prefix + key },
      options,
    );
  }

  #putIf(
    key: string,
    expected: string | undefined,
    value: Uint8Array,
    options: CallOptions | undefined,
  ): Promise<HttpAnswer> {
    const condition =
      expected === undefined
        ? { 'if-none-match': '*' }
        : { 'if-match': this.#quoteEtags ? `"${expected}"` : expected };
    const headers = { 'content-type': contentType, ...condition };
    return this.#send({ method: 'PUT', key, headers, body: [value] }, options);
  }

  /**
   * The server says that the condition does not hold. It is believed unless the register holds our
   * own value (a proxy sent the request twice) or still is what we expected: then the server reads
   * ETags in the other of the two spellings.
   */
  async #refused(
    key: string,
    expected: string | undefined,
    value: Uint8Array,
    options: CallOptions | undefined,
  ): Promise<string | undefined> {
    const outcome = await settleSwap(this, key, expected, value, options);
    if (outcome.kind === 'applied') return outcome.version;
    if (outcome.kind === 'other' || expected === undefined) return undefined;
    this.#quoteEtags = !this.#quoteEtags;
    const answer = await this.#putIf(key, expected, value, options);
    if (answer.status === 200) return this.#checkStored(`Changing ${key}`, answer);
    this.#quoteEtags = !this.#quoteEtags;
    throw this.#fault(`Changing ${key}`, answer);
  }

  async #getWhole(
    key: string,
    options: ReadOptions | undefined,
  ): Promise<{ readonly body: Uint8Array }> {
    const answer = await this.#send({ method: 'GET', key }, options);
    if (answer.status !== 200) throw this.#fault(`Reading ${key}`, answer);
    return this.#object(`Reading ${key}`, answer);
  }

  /** Bytes from `from` of the object: those asked for, or all when the server ignores ranges. */
  async #getRange(
    key: string,
    offset: number,
    end: number,
    options: ReadOptions | undefined,
  ): Promise<{ bytes: Uint8Array; from: number; objectBytes: number }> {
    const headers = { range: `bytes=${offset}-${end - 1}` };
    const answer = await this.#send({ method: 'GET', key, headers }, options);
    const doing = `Reading ${key}`;
    if (answer.status === 200) {
      const { body } = this.#object(doing, answer);
      return { bytes: body, from: 0, objectBytes: body.length };
    }
    if (answer.status === 416) {
      throw new StorageError('corrupt', `${key} in ${this.url} ends before byte ${end}.`);
    }
    if (answer.status !== 206) throw this.#fault(doing, answer);
    const { body } = this.#object(doing, answer);
    const range = parseContentRange(answer);
    const good =
      range?.from === offset &&
      range.end === Math.min(end, range.objectBytes) &&
      range.end - range.from === body.length;
    if (!good) throw this.#nonsense(doing, 'another range than was asked for');
    return { bytes: body, from: offset, objectBytes: range.objectBytes };
  }

  #object(doing: string, answer: HttpAnswer): { body: Uint8Array; etag: string } {
    const object = checkedObject(answer);
    if (typeof object !== 'string') return object;
    throw this.#nonsense(doing, object);
  }

  /** The version of what a PUT has stored. */
  #checkStored(doing: string, answer: HttpAnswer): string {
    if (answer.status !== 200) throw this.#fault(doing, answer);
    const etag = etagOf(answer);
    if (etag !== undefined && answer.body.length === 0) return etag;
    if (readFault(answer).code !== '') throw this.#fault(doing, answer);
    throw this.#nonsense(doing, 'an answer that is not of S3');
  }

  #fault(doing: string, answer: HttpAnswer): StorageError {
    return faultError(`${doing} in ${this.url}`, answer);
  }

  #nonsense(doing: string, what: string): StorageError {
    return new StorageError(
      'store-unavailable',
      `${doing} in ${this.url}: the server gave ${what}.`,
    );
  }
}

function readMissing(answer: HttpAnswer): boolean {
  return answer.status === 404 && readFault(answer).code === 'NoSuchKey';
}

function providerOf(
  credentials: S3Credentials | S3CredentialsProvider | undefined,
): S3CredentialsProvider {
  if (typeof credentials === 'function') return credentials;
  return credentials === undefined ? createDefaultCredentials() : async () => credentials;
}

function bucketConfiguration(region: string): string {
  const location = `<LocationConstraint>${region}</LocationConstraint>`;
  const namespace = 'http://s3.amazonaws.com/doc/2006-03-01/';
  return `<CreateBucketConfiguration xmlns="${namespace}">${location}</CreateBucketConfiguration>`;
}
