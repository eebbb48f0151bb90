import { isStorageError, StorageError } from '../base/errors.ts';
import type { KeyContext } from '../format/wrapped-key.ts';
import type { KeyKeeper } from './envelope-key.ts';
import { askKeyServer, briefly, parseAnswer } from './http.ts';

/** Signs a request for whoever this host is to AWS; resolves with its headers. */
export type SignForAws = (request: {
  readonly service: string;
  readonly region: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}) => Promise<Readonly<Record<string, string>>>;

/** A symmetric key of AWS KMS. */
export interface KmsSettings {
  readonly keyArn: string;
  /** Another server than that of Amazon for the region; empty for none. */
  readonly endpoint: string;
}

const arnPattern = /^arn:(aws[a-z-]*):kms:([a-z0-9-]+):\d{12}:(?:key|alias)\/[\w/-]+$/;
const suffixes: Readonly<Record<string, string>> = { 'aws-cn': 'amazonaws.com.cn' };

export function isKmsArn(text: string): boolean {
  return arnPattern.test(text);
}

/** By the public API of KMS, which also binds what it encrypts to volume and generation, and logs them. */
export function kmsKeeper(settings: Readonly<Record<string, string>>, sign: SignForAws): KeyKeeper {
  const { keyArn = '', endpoint = '' } = settings;
  const [, partition = '', region = ''] = arnPattern.exec(keyArn) ?? [];
  const server = `AWS KMS in ${region}`;
  const call = async (action: string, body: object): Promise<Readonly<Record<string, unknown>>> => {
    if (region === '') throw new StorageError('wrong-key', `"${keyArn}" is no key of AWS KMS`);
    const usual = `https://kms.${region}.${suffixes[partition] ?? 'amazonaws.com'}/`;
    const url = new URL(endpoint === '' ? usual : endpoint);
    const request = {
      ...{ service: 'kms', region, url, body: JSON.stringify(body) },
      headers: {
        'content-type': 'application/x-amz-json-1.1',
        'x-amz-target': `TrentService.${action}`,
      },
    };
    const { status, text } = await askKeyServer({
      ...{ server, method: 'POST', url: url.href, body: request.body },
      headers: await signed(sign, request),
    });
    const answer = text === '' ? {} : parseAnswer(server, text);
    if (status === 200) return answer;
    const { __type: type, message, Message: other } = answer;
    const said = [type, message ?? other].filter((each) => typeof each === 'string').join(': ');
    throw new StorageError('wrong-key', `${server} refuses (${status}): ${briefly(said)}`);
  };
  const bytesOf = (answer: Readonly<Record<string, unknown>>, name: string): Buffer => {
    const value = answer[name];
    if (typeof value === 'string') return Buffer.from(value, 'base64');
    throw new StorageError('wrong-key', `${server} answers without "${name}"`);
  };
  return {
    where: `as ${keyArn} in AWS KMS`,
    async protect(secret, context) {
      const plaintext = Buffer.from(secret).toString('base64');
      const request = { KeyId: keyArn, Plaintext: plaintext, ...bindingOf(context) };
      const sealed = bytesOf(await call('Encrypt', request), 'CiphertextBlob');
      return { keyArn, ciphertext: sealed.toString('base64') };
    },
    async recover({ ciphertext }, context) {
      const request = { KeyId: keyArn, CiphertextBlob: ciphertext, ...bindingOf(context) };
      return bytesOf(await call('Decrypt', request), 'Plaintext');
    },
    async rotate() {
      await call('RotateKeyOnDemand', { KeyId: keyArn });
      return {};
    },
  };
}

/** Of a key that is in no keyring here: where it is says its name, and Amazon's servers are known. */
export function kmsSettingsOf(
  { keyArn = '' }: Readonly<Record<string, string>>,
  environment: Readonly<Record<string, string | undefined>>,
): KmsSettings {
  return { keyArn, endpoint: environment['AWS_ENDPOINT_URL_KMS'] ?? '' };
}

function bindingOf({ volumeId, generation }: KeyContext): { readonly EncryptionContext: object } {
  return {
    EncryptionContext: {
      'elasticdrive:volume': volumeId,
      'elasticdrive:generation': String(generation),
    },
  };
}

async function signed(
  sign: SignForAws,
  request: Parameters<SignForAws>[0],
): Promise<Readonly<Record<string, string>>> {
  try {
    return await sign(request);
  } catch (cause) {
    if (isStorageError(cause)) throw cause;
    const message = 'there are no AWS credentials: set AWS_ACCESS_KEY_ID and so on, or a profile';
    throw new StorageError('wrong-key', message, { cause });
  }
}
