import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { SignatureV4 } from '@smithy/signature-v4';
import { breathe, type Clock } from '../base/clock.ts';
import type { ReadOptions } from '../base/object-store.ts';
import { Sha256 } from './aws-signer.ts';
import { totalBytes } from './parts.ts';
import { type S3CredentialsProvider, withCredentialErrors } from './s3-credentials.ts';
import { type HttpAnswer, HttpClient, type HttpTimeouts } from './s3-http.ts';

export interface S3ClientOptions {
  readonly bucket: string;
  /** Where the server is: scheme, host and port. */
  readonly endpoint: URL;
  readonly region: string;
  /** The bucket in the path, not in the host's name. */
  readonly pathStyle: boolean;
  readonly caFile: string | undefined;
  readonly credentials: S3CredentialsProvider;
  readonly maxConnections: number;
  readonly maxAnswerBytes: number;
  readonly timeouts: HttpTimeouts;
  readonly clock: Clock;
}

export interface S3Request {
  readonly method: 'GET' | 'PUT' | 'DELETE';
  /** The whole key in the bucket; empty for the bucket itself. */
  readonly key: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: readonly Uint8Array[];
}

const emptyHash = createHash('sha256').digest('hex');
/** Hashing goes on for about a millisecond at a time: 1.8 GB/s. */
const hashSliceBytes = 2 << 20;

/** Signed requests to one bucket. Answers come back whole, whatever their status. */
export class S3Client {
  readonly #options: S3ClientOptions;
  readonly #host: string;
  readonly #basePath: string;
  readonly #signer: SignatureV4;
  readonly #http: HttpClient;

  constructor(options: S3ClientOptions) {
    this.#options = options;
    const { bucket, endpoint, pathStyle } = options;
    this.#host = pathStyle ? endpoint.host : `${bucket}.${endpoint.host}`;
    this.#basePath = pathStyle ? `/${bucket}` : '';
    this.#signer = new SignatureV4({
      service: 's3',
      region: options.region,
      credentials: withCredentialErrors(options.credentials),
      sha256: Sha256,
      uriEscapePath: false,
      applyChecksum: false,
    });
    this.#http = new HttpClient({ ...options, origin: `${endpoint.protocol}//${this.#host}` });
  }

  async send(request: S3Request, options?: ReadOptions): Promise<HttpAnswer> {
    const { method, key, query = {}, body = [] } = request;
    const path = key === '' && this.#basePath !== '' ? this.#basePath : `${this.#basePath}/${key}`;
    const headers: Record<string, string> = {
      host: this.#host,
      'accept-encoding': 'identity',
      ...request.headers,
      ...(await this.#bodyHeaders(method, body)),
    };
    const signed = await this.#signer.sign(
      { method, protocol: this.#options.endpoint.protocol, hostname: '', path, query, headers },
      { signingDate: new Date(this.#options.clock.wallMs()) },
    );
    const sent = { method, path: path + encodeQuery(query), headers: signed.headers, body };
    return this.#http.send(sent, options);
  }

  close(): Promise<void> {
    return this.#http.close();
  }

  /**
   * What lets the server see that the body arrived as it was: over TLS a CRC, otherwise a hash that
   * the signature covers.
   */
  async #bodyHeaders(method: string, body: readonly Uint8Array[]): Promise<Record<string, string>> {
    if (method !== 'PUT') return { 'x-amz-content-sha256': emptyHash };
    const headers = { 'content-length': String(totalBytes(body)) };
    if (this.#options.endpoint.protocol === 'https:') {
      let sum = 0;
      for await (const slice of this.#slices(body)) sum = crc32(slice, sum);
      const checksum = Buffer.alloc(4);
      checksum.writeUInt32BE(sum);
      return {
        ...headers,
        'x-amz-content-sha256': 'UNSIGNED-PAYLOAD',
        'x-amz-checksum-crc32': checksum.toString('base64'),
      };
    }
    const hash = createHash('sha256');
    for await (const slice of this.#slices(body)) hash.update(slice);
    return { ...headers, 'x-amz-content-sha256': hash.digest('hex') };
  }

  /** The body piece by piece, with a pause for other work after every `hashSliceBytes`. */
  async *#slices(body: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
    let sincePauseBytes = 0;
    for (const part of body) {
      for (let offset = 0; offset < part.length; offset += hashSliceBytes) {
        const slice = part.subarray(offset, offset + hashSliceBytes);
        if (sincePauseBytes + slice.length > hashSliceBytes) {
          await breathe(this.#options.clock);
          sincePauseBytes = 0;
        }
        yield slice;
        sincePauseBytes += slice.length;
      }
    }
  }
}

/** The query as the signature covers it: RFC 3986, sorted by name. */
function encodeQuery(query: Readonly<Record<string, string>>): string {
  const names = Object.keys(query).sort();
  if (names.length === 0) return '';
  return `?${names.map((name) => `${encode(name)}=${encode(query[name] ?? '')}`).join('&')}`;
}

function encode(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
