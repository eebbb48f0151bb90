import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';

/** A request as the tests see it. */
export interface PlainRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

export interface PlainAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | string;
}

/** Answers a request itself, or spoils what the server does. */
export type Prank = (
  response: ServerResponse,
  request: PlainRequest,
  /** What an honest server does and answers. */
  honest: () => PlainAnswer,
) => void;

/** PEM texts. */
export interface TlsIdentity {
  readonly key: string;
  readonly cert: string;
}

/**
 * The least of an S3 server, in memory on loopback, that can be told to misbehave: each prank spoils
 * one request, in order. It checks no signatures; the tests on a real server do.
 */
export class PlainS3 implements AsyncDisposable {
  readonly requests: PlainRequest[] = [];
  readonly objects = new Map<string, Buffer>();
  /** Whether If-Match is understood with quotes only. */
  quotesOnly = false;
  /** Takes conditions and does not look at them, as some servers do. */
  ignoresConditions = false;
  readonly #pranks: Prank[] = [];
  readonly #server: ReturnType<typeof createServer> | ReturnType<typeof createTlsServer>;
  readonly #scheme: string;

  private constructor(tls: TlsIdentity | undefined) {
    const serve = (request: IncomingMessage, response: ServerResponse): void => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => this.#serve(request, Buffer.concat(chunks), response));
      request.on('error', () => undefined);
    };
    this.#scheme = tls === undefined ? 'http' : 'https';
    this.#server = tls === undefined ? createServer(serve) : createTlsServer(tls, serve);
  }

  static async start(tls?: TlsIdentity): Promise<PlainS3> {
    const plain = new PlainS3(tls);
    await new Promise<void>((resolve) => {
      plain.#server.listen(0, '127.0.0.1', resolve);
    });
    return plain;
  }

  get endpoint(): string {
    const address = this.#server.address();
    if (typeof address !== 'object' || address === null) throw new Error('not listening');
    return `${this.#scheme}://127.0.0.1:${address.port}`;
  }

  /** The next requests go like this. */
  play(...pranks: Prank[]): void {
    this.#pranks.push(...pranks);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }

  #serve(message: IncomingMessage, body: Buffer, response: ServerResponse): void {
    const url = new URL(message.url ?? '/', 'http://server');
    const request: PlainRequest = {
      method: message.method ?? '',
      path: url.pathname,
      query: url.searchParams,
      headers: message.headers,
      body,
    };
    this.requests.push(request);
    const honest = (): PlainAnswer => this.#answer(request);
    const prank = this.#pranks.shift();
    if (prank === undefined) send(response, honest());
    else prank(response, request, honest);
  }

  #answer(request: PlainRequest): PlainAnswer {
    if (request.query.get('list-type') === '2') return this.#list(request);
    if (request.method === 'PUT') return this.#put(request);
    if (request.method === 'DELETE') {
      this.objects.delete(request.path);
      return { status: 204 };
    }
    const object = this.objects.get(request.path);
    if (object === undefined) return fault(404, 'NoSuchKey');
    const headers = { etag: `"${etagOf(object)}"`, 'content-type': 'application/octet-stream' };
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    if (range === null) return { status: 200, headers, body: object };
    const from = Number(range[1]);
    if (from >= object.length) return fault(416, 'InvalidRange');
    const body = object.subarray(from, Number(range[2]) + 1);
    const contentRange = `bytes ${from}-${from + body.length - 1}/${object.length}`;
    return { status: 206, headers: { ...headers, 'content-range': contentRange }, body };
  }

  #put({ path, headers, body }: PlainRequest): PlainAnswer {
    const present = this.objects.get(path);
    const asked = this.ignoresConditions ? {} : headers;
    if (asked['if-none-match'] === '*' && present !== undefined) {
      return fault(412, 'PreconditionFailed');
    }
    const condition = asked['if-match'];
    if (condition !== undefined) {
      if (present === undefined) return fault(404, 'NoSuchKey');
      const etag = etagOf(present);
      const spellings = this.quotesOnly ? [`"${etag}"`] : [etag];
      if (!spellings.includes(condition)) return fault(412, 'PreconditionFailed');
    }
    this.objects.set(path, body);
    return { status: 200, headers: { etag: `"${etagOf(body)}"` } };
  }

  #list({ path, query }: PlainRequest): PlainAnswer {
    const after = query.get('start-after') ?? '';
    const keys = [...this.objects.keys()]
      .map((name) => name.slice(path.length + 1))
      .filter((key) => key.startsWith(query.get('prefix') ?? '') && key > after)
      .sort();
    const page = keys.slice(0, Number(query.get('max-keys') ?? 1000));
    const contents = page.map((key) => `<Contents><Key>${key}</Key><Size>0</Size></Contents>`);
    return { status: 200, body: listing(page.length < keys.length, contents.join('')) };
  }
}

export function listing(truncated: boolean, contents: string): string {
  const next = truncated ? '<NextContinuationToken>next</NextContinuationToken>' : '';
  return `<?xml version="1.0"?><ListBucketResult><IsTruncated>${truncated}</IsTruncated>${next}${contents}</ListBucketResult>`;
}

export function fault(status: number, code: string, message = 'No.'): PlainAnswer {
  return {
    status,
    headers: { 'content-type': 'application/xml' },
    body: `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`,
  };
}

export function send(response: ServerResponse, { status, headers, body }: PlainAnswer): void {
  const bytes = Buffer.from(body ?? '');
  response.writeHead(status, { 'content-length': String(bytes.length), ...headers });
  response.end(bytes);
}

function etagOf(bytes: Buffer): string {
  return createHash('md5').update(bytes).digest('hex');
}
