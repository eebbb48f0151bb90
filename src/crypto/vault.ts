import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StorageError } from '../base/errors.ts';
import type { KeyKeeper } from './envelope-key.ts';
import { askKeyServer, briefly, parseAnswer } from './http.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** A key of a transit engine, of HashiCorp Vault or OpenBao. */
export interface VaultSettings {
  readonly address: string;
  readonly mount: string;
  readonly key: string;
  /** Of Vault Enterprise and OpenBao; empty for none. */
  readonly namespace: string;
  /** Where the token is, which an agent renews; empty for where the vault's own client has it. */
  readonly tokenFile: string;
}

const pathPattern = /^[\w-][\w.-]*(\/[\w-][\w.-]*)*$/;

/**
 * By the public API of the transit engine. The token goes to `address`, so that comes from this host:
 * from its keyring, or as VAULT_ADDR from its environment.
 */
export function vaultKeeper(
  settings: Readonly<Record<string, string>>,
  environment: Environment,
): KeyKeeper {
  const { address = '', mount = '', key = '', namespace = '', tokenFile = '' } = settings;
  const server = `the vault ${address}`;
  const where = `as the transit key "${mount}/${key}" in ${server}`;
  const post = async (path: string, body: object): Promise<Readonly<Record<string, unknown>>> => {
    if (![mount, key].every((each) => pathPattern.test(each))) {
      throw new StorageError('wrong-key', `${mount}/${key} cannot be a key of a vault`);
    }
    const { status, text } = await askKeyServer({
      ...{ server, method: 'POST', url: `${address.replace(/\/+$/, '')}/v1/${mount}/${path}` },
      headers: {
        'content-type': 'application/json',
        'x-vault-request': 'true',
        'x-vault-token': await tokenFrom(tokenFile, environment),
        ...(namespace === '' ? {} : { 'x-vault-namespace': namespace }),
      },
      body: JSON.stringify(body),
      authorityFile: environment['VAULT_CACERT'],
    });
    if (status === 204) return {};
    const answer = parseAnswer(server, text);
    if (status === 200) return (answer['data'] ?? {}) as Readonly<Record<string, unknown>>;
    const { errors } = answer;
    const said = Array.isArray(errors) && errors.length > 0 ? errors.join(', ') : text;
    throw new StorageError('wrong-key', `${server} refuses (${status}): ${briefly(said)}`);
  };
  const textOf = (data: Readonly<Record<string, unknown>>, name: string): string => {
    const value = data[name];
    if (typeof value === 'string') return value;
    throw new StorageError('wrong-key', `${server} answers without "${name}"`);
  };
  return {
    where,
    async protect(secret) {
      const plaintext = Buffer.from(secret).toString('base64');
      const ciphertext = textOf(await post(`encrypt/${key}`, { plaintext }), 'ciphertext');
      return { mount, key, namespace, ciphertext };
    },
    async recover({ ciphertext }) {
      return Buffer.from(
        textOf(await post(`decrypt/${key}`, { ciphertext }), 'plaintext'),
        'base64',
      );
    },
    async rotate() {
      await post(`keys/${key}/rotate`, {});
      return {};
    },
  };
}

/** Of a key that is in no keyring here: in the vault that this host's environment names. */
export function vaultSettingsOf(
  fields: Readonly<Record<string, string>>,
  environment: Environment,
): VaultSettings {
  const { mount = '', key = '', namespace = '' } = fields;
  const address = environment['VAULT_ADDR'];
  if (address !== undefined && address !== '') {
    return { address, mount, key, namespace, tokenFile: '' };
  }
  throw new StorageError(
    'wrong-key',
    `it is the transit key "${mount}/${key}" of a vault: set VAULT_ADDR, or make the key here with "elasticdrive key import"`,
  );
}

/** As the vault's own client finds it, or in a file of its own. */
async function tokenFrom(file: string, environment: Environment): Promise<string> {
  const { HOME: home, VAULT_TOKEN: given, CREDENTIALS_DIRECTORY: credentials } = environment;
  const read = async (path: string): Promise<string | undefined> => {
    const text = await readFile(path, 'utf8').catch(() => '');
    return text.trim() === '' ? undefined : text.trim();
  };
  const token =
    file === ''
      ? (given ??
        (credentials && (await read(join(credentials, 'elasticdrive.vault-token')))) ??
        (home && (await read(join(home, '.vault-token')))))
      : await read(file);
  if (token !== undefined && token !== '') return token;
  throw new StorageError(
    'wrong-key',
    file === ''
      ? 'there is no token for the vault: set VAULT_TOKEN, or name a file with --vault-token-file'
      : `there is no token for the vault in ${file}`,
  );
}
