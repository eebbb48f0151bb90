import { createHash, createHmac, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../base/clock.ts';
import { createAwsSigner } from '../store/aws-signer.ts';
import { kmsKeeper, type SignForAws } from './aws-kms.ts';
import { Keyring } from './keyring.ts';
import type { KeyEntry } from './keyring-entry.ts';
import { type KeySurroundings, providerFor, providerOf } from './providers.ts';
import { type Answer, LoopbackServer, type Received } from './testing/loopback-server.ts';

const credentials = {
  accessKeyId: 'AKIDEXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCY',
};
const sign = createAwsSigner(() => Promise.resolve(credentials), systemClock);
const keyArn = 'arn:aws:kms:us-east-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab';
const context = { volumeId: '0123456789abcdef0123456789abcdef', generation: 1 };
const json = (status: number, body: unknown): Answer => ({ status, body: JSON.stringify(body) });

/** Signature Version 4, as its specification describes it, of what was received. */
function expectedSignature({ method, path, headers, body }: Received): string {
  const authorization = headers.authorization ?? '';
  const [, scope = '', names = ''] =
    /Credential=AKIDEXAMPLE\/([^,]+), SignedHeaders=([^,]+),/.exec(authorization) ?? [];
  const lines = names.split(';').map((name) => `${name}:${String(headers[name])}\n`);
  const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
  const canonical = [method, path, '', lines.join(''), names, sha256(body)].join('\n');
  const date = String(headers['x-amz-date']);
  const toSign = ['AWS4-HMAC-SHA256', date, scope, sha256(canonical)].join('\n');
  const hmac = (key: string | Buffer, text: string): Buffer =>
    createHmac('sha256', key).update(text).digest();
  const key = scope.split('/').reduce<string | Buffer>(hmac, `AWS4${credentials.secretAccessKey}`);
  return hmac(key, toSign).toString('hex');
}

/** KMS as its API is documented, with one key. */
function kms(received: Received): Answer {
  const { headers, body } = received;
  const refuse = (type: string, message: string): Answer => json(400, { __type: type, message });
  if (!headers.authorization?.endsWith(`Signature=${expectedSignature(received)}`)) {
    return refuse('InvalidSignatureException', 'The request signature does not match.');
  }
  const asked = JSON.parse(body) as Record<string, unknown>;
  if (asked['KeyId'] !== keyArn)
    return refuse('NotFoundException', `Key '${String(asked['KeyId'])}'`);
  const bound = JSON.stringify(asked['EncryptionContext']);
  switch (headers['x-amz-target']) {
    case 'TrentService.Encrypt': {
      const blob = Buffer.from(JSON.stringify([bound, asked['Plaintext']])).toString('base64');
      return json(200, {
        CiphertextBlob: blob,
        KeyId: keyArn,
        EncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
      });
    }
    case 'TrentService.Decrypt': {
      const blob = Buffer.from(String(asked['CiphertextBlob']), 'base64').toString();
      const [boundTo, Plaintext] = JSON.parse(blob) as [string, string];
      if (boundTo !== bound) return json(400, { __type: 'InvalidCiphertextException' });
      return json(200, { KeyId: keyArn, Plaintext });
    }
    case 'TrentService.RotateKeyOnDemand':
      return json(200, { KeyId: keyArn });
    default:
      return refuse('UnknownOperationException', '');
  }
}

function surroundings(environment: KeySurroundings['environment'], signer = sign): KeySurroundings {
  return {
    keyring: new Keyring('/nowhere/keys.json'),
    ask: () => Promise.reject(new Error('no passphrase is needed')),
    signForAws: signer,
    environment,
  };
}

function entryOf(endpoint: string, arn = keyArn): KeyEntry {
  const settings = { keyArn: arn, endpoint };
  return {
    name: 'main',
    id: 'c'.repeat(32),
    provider: 'aws-kms',
    createdAt: '',
    version: 1,
    settings,
  };
}

describe('a key of AWS KMS', () => {
  it('speaks as the reference of the API says', async () => {
    const plaintext = 'VGhpcyBpcyBEYXkgMSBmb3IgdGhlIEludGVybmV0Cg==';
    const blob = 'CiDPoCH188S65r5Cy7pAhIFJMXDlU7mewhSlYUpuQIVBrhKmAQEBAgB4z6Ah9fPEuua+Qsu6QISB';
    await using server = await LoopbackServer.start(({ headers }) =>
      json(
        200,
        headers['x-amz-target'] === 'TrentService.Encrypt'
          ? { CiphertextBlob: blob, KeyId: keyArn }
          : { KeyId: keyArn, Plaintext: plaintext, EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' },
      ),
    );
    const keeper = kmsKeeper({ keyArn, endpoint: server.url }, sign);
    const fields = await keeper.protect(Buffer.from(plaintext, 'base64'), context);
    expect(fields).toEqual({ keyArn, ciphertext: blob });
    const secret = await keeper.recover(fields, context);
    expect(Buffer.from(secret).toString('base64')).toBe(plaintext);
    const [encrypt, decrypt] = server.received;
    const EncryptionContext = {
      'elasticdrive:volume': context.volumeId,
      'elasticdrive:generation': '1',
    };
    expect(encrypt).toMatchObject({
      ...{ method: 'POST', path: '/' },
      headers: {
        'content-type': 'application/x-amz-json-1.1',
        'x-amz-target': 'TrentService.Encrypt',
      },
    });
    expect(JSON.parse(encrypt?.body ?? '')).toEqual({
      ...{ KeyId: keyArn, Plaintext: plaintext, EncryptionContext },
    });
    expect(JSON.parse(decrypt?.body ?? '')).toEqual({
      ...{ KeyId: keyArn, CiphertextBlob: blob, EncryptionContext },
    });
    expect(decrypt?.headers.authorization).toMatch(
      /^AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE\/\d{8}\/us-east-2\/kms\/aws4_request, SignedHeaders=\S*host;/,
    );
  });

  it('wraps and unwraps by requests that are signed, for one volume and generation', async () => {
    await using server = await LoopbackServer.start(kms);
    const provider = providerOf(entryOf(server.url), surroundings({}));
    const secret = randomBytes(32);
    const wrapped = await provider.wrap(secret, context);
    expect(Buffer.from(await provider.unwrap(wrapped, context))).toEqual(secret);
    const moved = provider.unwrap(wrapped, { ...context, generation: 2 });
    await expect(moved).rejects.toThrow(/refuses \(400\): InvalidCiphertextException/);
    expect(await kmsKeeper(entryOf(server.url).settings, sign).rotate()).toEqual({});
    const there = surroundings({ AWS_ENDPOINT_URL_KMS: server.url });
    const elsewhere = await providerFor(wrapped, there);
    expect(Buffer.from(await elsewhere.unwrap(wrapped, context))).toEqual(secret);
    const sent = server.received.map(({ body }) => body).join();
    expect(sent).not.toContain(secret.toString('base64'));
  });

  it('says what AWS says when it refuses, and what is missing', async () => {
    await using server = await LoopbackServer.start(kms);
    const wrap = (entry: KeyEntry, signer?: SignForAws): Promise<unknown> =>
      providerOf(entry, surroundings({}, signer)).wrap(randomBytes(32), context);
    const wrong = { ...credentials, secretAccessKey: 'other' };
    const other = createAwsSigner(() => Promise.resolve(wrong), systemClock);
    await expect(wrap(entryOf(server.url), other)).rejects.toMatchObject({
      code: 'wrong-key',
      message:
        'AWS KMS in us-east-2 refuses (400): InvalidSignatureException: The request signature does not match.',
    });
    const nobody = createAwsSigner(() => Promise.reject(new Error('none')), systemClock);
    await expect(wrap(entryOf(server.url), nobody)).rejects.toThrow(/no AWS credentials/);
    const missing = wrap(entryOf(server.url, keyArn.replace('1234abcd', 'ffffffff')));
    await expect(missing).rejects.toThrow(/NotFoundException/);
    const bad = wrap(entryOf(server.url, 'arn:aws:kms:evil.example/:1:key/x'));
    await expect(bad).rejects.toThrow(/is no key of AWS KMS/);
  });
});
