import { readFile } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createS3Store, type S3Store } from '../../src/store/s3-store.ts';
import { PlainS3 } from '../../src/store/testing/plain-s3.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';

const missing = missingPrograms({ openssl: 'openssl' });

describe('S3 over TLS', () => {
  let directory: TemporaryDirectory;
  let server: PlainS3;
  beforeEach(({ skip }) => skip(missing !== undefined, missing));
  beforeAll(async () => {
    if (missing !== undefined) return;
    directory = await TemporaryDirectory.make();
    const [keyPath, certPath] = [directory.join('key.pem'), directory.join('ca.pem')];
    await run('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-keyout', keyPath, '-out', certPath, '-days', '2', '-subj', '/CN=test'],
      ...['-addext', 'subjectAltName=IP:127.0.0.1'],
    ]);
    server = await PlainS3.start({
      key: await readFile(keyPath, 'utf8'),
      cert: await readFile(certPath, 'utf8'),
    });
  });
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
    await directory?.[Symbol.asyncDispose]();
  });
  const open = (caFile?: string): S3Store =>
    createS3Store({
      bucket: 'bucket',
      endpoint: server.endpoint,
      credentials: { accessKeyId: 'id', secretAccessKey: 'none' },
      ...(caFile === undefined ? {} : { caFile }),
    });

  it('trusts the authorities of its own file, and sends a CRC of each body', async () => {
    const store = open(directory.join('ca.pem'));
    const body = new Uint8Array(5 << 20).fill(3);
    await store.put('key', [body.subarray(0, 1000), body.subarray(1000)]);
    expect(Buffer.compare(await store.get('key'), body)).toBe(0);
    const headers = server.requests.find(({ method }) => method === 'PUT')?.headers;
    expect(headers?.['x-amz-content-sha256']).toBe('UNSIGNED-PAYLOAD');
    const sum = Buffer.from(String(headers?.['x-amz-checksum-crc32']), 'base64').readUInt32BE();
    expect(sum).toBe(crc32(body));
    await store.close();
  });

  it('does not speak to a server that it cannot trust', async () => {
    const before = server.requests.length;
    const store = open();
    await expect(store.get('key')).rejects.toMatchObject({ code: 'store-unavailable' });
    expect(server.requests).toHaveLength(before);
    await store.close();
  });

  it('says so when the file of authorities cannot be read', async () => {
    const store = open(directory.join('absent.pem'));
    await expect(store.get('key')).rejects.toMatchObject({ code: 'usage' });
    await store.close();
  });
});
