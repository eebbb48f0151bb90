import { createHash, createHmac, type Hash, type Hmac } from 'node:crypto';
import { SignatureV4 } from '@smithy/signature-v4';
import type { Clock } from '../base/clock.ts';
import type { S3CredentialsProvider } from './s3-credentials.ts';

/** Node's SHA-256 in the form that the signer wants. */
export class Sha256 {
  readonly #hash: Hash | Hmac;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash =
      secret === undefined
        ? createHash('sha256')
        : createHmac('sha256', typeof secret === 'string' ? secret : viewOf(secret));
  }

  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(typeof data === 'string' ? data : viewOf(data));
  }

  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }
}

function viewOf(data: ArrayBuffer | ArrayBufferView): Uint8Array {
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** A request to a service of AWS that takes all in its body. */
export interface AwsRequest {
  readonly service: string;
  readonly region: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Resolves with the headers of the request, signed for whoever the usual AWS chain finds. */
export function createAwsSigner(
  credentials: S3CredentialsProvider,
  clock: Clock,
): (request: AwsRequest) => Promise<Readonly<Record<string, string>>> {
  return async ({ service, region, url, headers, body }) => {
    const signer = new SignatureV4({ service, region, credentials, sha256: Sha256 });
    const { protocol, host, hostname, pathname: path } = url;
    const signed = await signer.sign(
      { method: 'POST', protocol, hostname, path, headers: { host, ...headers }, body },
      { signingDate: new Date(clock.wallMs()) },
    );
    return signed.headers;
  };
}
