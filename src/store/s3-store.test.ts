import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../base/clock.ts';
import { isStorageError, type StorageError } from '../base/errors.ts';
import { seededRandom } from '../base/random.ts';
import { BusyError } from './busy-error.ts';
import { createS3Store, type S3Store } from './s3-store.ts';
import { HastyClock } from './testing/hasty-clock.ts';
import { fault, listing, PlainS3, type Prank, type PlainAnswer, send } from './testing/plain-s3.ts';
import { withRetry } from './with-retry.ts';

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const secretAccessKey = 'a secret that nobody may see';

let server: PlainS3;
let store: S3Store;
beforeEach(async () => {
  server = await PlainS3.start();
  store = createS3Store({
    bucket: 'bucket',
    prefix: 'p',
    endpoint: server.endpoint,
    credentials: { accessKeyId: 'id', secretAccessKey },
    timeouts: { totalMs: 1_000 },
  });
});
afterEach(async () => {
  await store.close();
  await server[Symbol.asyncDispose]();
});

async function errorOf(call: Promise<unknown>): Promise<StorageError> {
  try {
    await call;
  } catch (error) {
    if (isStorageError(error)) return error;
    throw error;
  }
  throw new Error('the call did not fail');
}

const answer =
  (given: PlainAnswer): Prank =>
  (response) =>
    send(response, given);
/** Does what was asked and then answers something else. */
const afterwards =
  (spoil: Prank): Prank =>
  (response, request, honest) => {
    honest();
    spoil(response, request, honest);
  };
const reset: Prank = (response) => response.socket?.resetAndDestroy();
const etag = { etag: '"0123"' };

describe('an answer that is no data', () => {
  beforeEach(() => store.put('key', [new Uint8Array(1000).fill(7)]));

  it.each<[string, Prank]>([
    [
      'a body cut off',
      (response) => {
        response.writeHead(200, { ...etag, 'content-length': '1000' });
        response.write(new Uint8Array(500), () => response.destroy());
      },
    ],
    [
      'a chunked body cut off',
      (response) => {
        response.writeHead(200, etag);
        response.write(new Uint8Array(500), () => response.destroy());
      },
    ],
    [
      'a body of unannounced length',
      (response) => {
        response.writeHead(200, etag);
        response.end(new Uint8Array(1000));
      },
    ],
    ['an error document with status 200', answer({ ...fault(200, 'InternalError') })],
    [
      'an error document with status 200 and an ETag',
      answer({
        ...fault(200, 'InternalError'),
        headers: { ...etag, 'content-type': 'application/xml' },
      }),
    ],
    [
      'a page of a proxy',
      answer({ status: 200, headers: { 'content-type': 'text/html' }, body: 'Hi' }),
    ],
    ['no object', answer({ status: 204 })],
    ['an encoded body', answer({ status: 200, headers: { ...etag, 'content-encoding': 'gzip' } })],
    ['a reset', reset],
    ['a bad gateway', answer({ status: 502, body: '<html>' })],
    ['a 404 of a proxy', answer({ status: 404, body: '<html>' })],
    ['no HTTP', (response) => response.socket?.end('garbage\r\n\r\n')],
    [
      'bytes that come too slowly',
      (response) => {
        response.writeHead(200, { ...etag, 'content-length': '1000' });
        const timer = setInterval(() => response.write('x'), 20);
        response.on('close', () => clearInterval(timer));
      },
    ],
    ['nothing at all', () => undefined],
  ])('%s is an error that may pass', async (_, prank) => {
    server.play(prank, prank, prank);
    expect((await errorOf(store.get('key'))).code).toBe('store-unavailable');
    expect((await errorOf(store.load('key'))).code).toBe('store-unavailable');
    const range = { offset: 0, lengthBytes: 10 };
    expect((await errorOf(store.get('key', range))).code).toBe('store-unavailable');
    expect(await store.get('key')).toHaveLength(1000);
  });

  it.each([
    ['bytes 1-10/1000', 10],
    ['bytes 0-9/1000', 9],
    ['bytes 0-4/1000', 5],
    ['bytes */1000', 10],
    ['nonsense', 10],
  ])('the range %s with %d bytes is an error', async (contentRange, bodyBytes) => {
    const headers = { ...etag, 'content-range': contentRange };
    server.play(answer({ status: 206, headers, body: new Uint8Array(bodyBytes) }));
    const range = { offset: 0, lengthBytes: 10 };
    expect((await errorOf(store.get('key', range))).code).toBe('store-unavailable');
  });

  it('takes the whole object where ranges are ignored, and the range out of it', async () => {
    const body = seededRandom(1).bytes(100);
    server.play(answer({ status: 200, headers: etag, body }));
    const got = await store.get('key', { offset: 40, lengthBytes: 20 });
    expect(Buffer.compare(got, body.subarray(40, 60))).toBe(0);
  });

  it('gives up with its caller', async () => {
    const controller = new AbortController();
    server.play((response) => {
      response.writeHead(200, { ...etag, 'content-length': '1000' });
      response.write('x', () => controller.abort());
    });
    const { signal } = controller;
    const { message } = await errorOf(store.get('key', undefined, { signal }));
    expect(message).toContain('cancelled');
  });
});

describe('what the server says is wrong', () => {
  it.each([
    [404, 'NoSuchKey', 'not-found', 'NoSuchKey'],
    [404, 'NoSuchBucket', 'not-found', 'create the bucket'],
    [403, 'AccessDenied', 'store-denied', 'permissions'],
    [403, 'SignatureDoesNotMatch', 'store-denied', 'secret access key'],
    [403, 'RequestTimeTooSkewed', 'store-denied', 'clock'],
    [403, 'QuotaExceeded', 'no-space', 'QuotaExceeded'],
    [400, 'AuthorizationHeaderMalformed', 'store-denied', 'region'],
    [400, 'RequestTimeout', 'store-unavailable', 'RequestTimeout'],
    [400, 'InvalidArgument', 'store-denied', 'InvalidArgument'],
    [500, 'InternalError', 'store-unavailable', 'InternalError'],
    [501, 'NotImplemented', 'unsupported', 'NotImplemented'],
    [507, 'Whatever', 'no-space', 'Whatever'],
  ])('%d %s is %s', async (status, code, expected, hint) => {
    server.play(answer(fault(status, code)));
    const error = await errorOf(store.get('key'));
    expect(error.code).toBe(expected);
    expect(error.message).toContain(hint);
    expect(error.message).not.toContain(secretAccessKey);
  });

  it('names the region that the bucket is in', async () => {
    server.play(
      answer({ status: 301, headers: { 'x-amz-bucket-region': 'eu-central-1' } }),
      answer({ status: 301 }),
    );
    const error = await errorOf(store.get('key'));
    expect(error.code).toBe('store-denied');
    expect(error.message).toContain('eu-central-1');
    expect((await errorOf(store.get('key'))).code).toBe('store-denied');
  });

  it('passes on how long to leave it alone', async () => {
    server.play(
      answer({ ...fault(503, 'SlowDown'), headers: { 'retry-after': '7' } }),
      answer(fault(429, 'TooManyRequests')),
      answer({ status: 503, headers: { 'retry-after': '999999' } }),
    );
    const errors = [];
    for (let i = 0; i < 3; i += 1) errors.push(await errorOf(store.get('key')));
    const waits = errors.map((error) => error instanceof BusyError && error.retryAfterMs);
    expect(waits).toEqual([7000, 1000, 60_000]);
  });

  it('does not take a missing bucket for a missing register', async () => {
    server.play(answer(fault(404, 'NoSuchBucket')), answer(fault(404, 'NoSuchKey')));
    expect((await errorOf(store.load('register'))).code).toBe('not-found');
    expect(await store.load('register')).toBeUndefined();
  });

  it('shows no control characters and no endless texts of the server', async () => {
    server.play(answer(fault(400, 'Odd', `\u001b[2J${'x'.repeat(5000)}`)));
    const { message } = await errorOf(store.get('key'));
    expect(message).toMatch(/^[\x20-\x7e]{1,400}$/);
  });
});

describe('a write', () => {
  it('is not done when an error document comes with status 200', async () => {
    server.play(answer(fault(200, 'InternalError')), answer({ status: 200 }));
    expect((await errorOf(store.put('key', [bytesOf('x')]))).code).toBe('store-unavailable');
    expect((await errorOf(store.put('key', [bytesOf('x')]))).code).toBe('store-unavailable');
  });

  it('goes with a hash of its body, which the server checks', async () => {
    await store.put('key', [bytesOf('ab'), bytesOf('c')]);
    const [request] = server.requests;
    expect(request?.body.toString()).toBe('abc');
    // SHA-256 of "abc", as FIPS 180-4 has it.
    expect(request?.headers['x-amz-content-sha256']).toBe(
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    );
    expect(request?.headers.authorization).toContain('x-amz-content-sha256');
    expect(request?.path).toBe('/bucket/p/key');
  });
});

describe('a swap', () => {
  const dropped: Prank = (response) => response.destroy();

  it.each<[string, Prank]>([
    ['answered with 500', answer(fault(500, 'InternalError'))],
    ['answered with 200 and an error document', answer(fault(200, 'InternalError'))],
    ['answered with 503', answer(fault(503, 'SlowDown'))],
    ['answered with 409', answer(fault(409, 'ConditionalRequestConflict'))],
    ['not answered but reset', reset],
    ['not answered but closed', dropped],
    ['sent twice by a proxy, the second one refused', answer(fault(412, 'PreconditionFailed'))],
  ])('that was made and %s has won', async (_, spoil) => {
    server.play(afterwards(spoil));
    const first = await store.swap('register', undefined, bytesOf('one'));
    expect(await store.load('register')).toEqual({ value: bytesOf('one'), version: first });
    server.play(afterwards(spoil));
    const second = await store.swap('register', first, bytesOf('two'));
    expect(await store.load('register')).toEqual({ value: bytesOf('two'), version: second });
  });

  it.each<[string, Prank]>([
    ['500', answer(fault(500, 'InternalError'))],
    ['409', answer(fault(409, 'ConditionalRequestConflict'))],
    ['a reset', reset],
  ])('that was not made and met %s is repeated', async (_, spoil) => {
    const patient = withRetry(store, { clock: new HastyClock(), random: seededRandom(1) });
    server.play(spoil);
    expect((await errorOf(store.swap('register', undefined, bytesOf('x')))).code).toBe(
      'store-unavailable',
    );
    server.play(spoil);
    const first = await patient.swap('register', undefined, bytesOf('one'));
    server.play(spoil);
    const second = await patient.swap('register', first, bytesOf('two'));
    expect(await store.load('register')).toEqual({ value: bytesOf('two'), version: second });
  });

  it('has lost when another was first, and says unknown when that cannot be told', async () => {
    await store.swap('register', undefined, bytesOf('theirs'));
    expect(await store.swap('register', undefined, bytesOf('mine'))).toBeUndefined();
    server.play(answer(fault(409, 'ConditionalRequestConflict')));
    expect(await store.swap('register', undefined, bytesOf('mine'))).toBeUndefined();
    server.play(answer(fault(500, 'InternalError')));
    expect((await errorOf(store.swap('register', undefined, bytesOf('mine')))).code).toBe(
      'store-unavailable',
    );
  });

  it('finds out which spelling of ETags the server takes, and remembers it', async () => {
    server.quotesOnly = true;
    let version = await store.swap('register', undefined, bytesOf('0'));
    for (let i = 1; i <= 3; i += 1) {
      version = await store.swap('register', version, bytesOf(`${i}`));
      expect(version).toBeDefined();
    }
    const tries = server.requests.filter(({ headers }) => headers['if-match'] !== undefined);
    expect(tries).toHaveLength(4);
    expect(await store.swap('register', 'another', bytesOf('x'))).toBeUndefined();
  });
});

describe('a listing', () => {
  const contents = '<Contents><Key>p/a</Key><Size>1</Size></Contents>';

  it.each([
    ['cut off', listing(false, contents).slice(0, -10)],
    ['of another kind', '<Error><Code>InternalError</Code></Error>'],
    ['without an end', listing(false, contents).replace('<IsTruncated>false</IsTruncated>', '')],
    ['without sizes', listing(false, '<Contents><Key>p/a</Key></Contents>')],
    ['of keys that nobody asked for', listing(false, contents.replace('p/a', 'q/a'))],
    ['that is empty text', ''],
  ])('%s is an error', async (_, body) => {
    server.play(answer({ status: 200, body }));
    expect((await errorOf(store.list(''))).code).toBe('store-unavailable');
  });

  it('goes on over a page without keys', async () => {
    server.play(
      answer({ status: 200, body: listing(true, '') }),
      answer({ status: 200, body: listing(true, '') }),
      answer({ status: 200, body: listing(false, contents) }),
    );
    expect(await store.list('')).toEqual({ keys: [{ key: 'a', sizeBytes: 1 }], truncated: false });
    expect(server.requests.at(-1)?.query.get('continuation-token')).toBe('next');
  });

  it('decodes keys that came encoded', async () => {
    const body = listing(
      false,
      '<EncodingType>url</EncodingType><Contents><Key>p%2Fa%20b+c</Key><Size>1</Size></Contents>',
    );
    server.play(answer({ status: 200, body }));
    expect((await store.list('')).keys[0]?.key).toBe('a b c');
  });
});

describe('credentials', () => {
  const withProvider = (credentials: () => Promise<never>): S3Store =>
    createS3Store({ bucket: 'bucket', endpoint: server.endpoint, credentials, clock: systemClock });

  it('that cannot be had are an error that says what to do', async () => {
    const other = withProvider(() => Promise.reject(new Error('none')));
    const error = await errorOf(other.get('key'));
    expect(error.code).toBe('store-denied');
    expect(error.message).toContain('AWS_ACCESS_KEY_ID');
    await other.close();
  });
});
