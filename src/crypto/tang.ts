import { StorageError } from '../base/errors.ts';
import type { KeyKeeper } from './envelope-key.ts';
import { askKeyServer, parseAnswer } from './http.ts';
import { type EcJwk, isEcJwk, isSignedBy, thumbprintOf } from './jose.ts';
import { openJwe, sealJwe } from './tang-jwe.ts';

/** What a key that a Tang server stands for needs to know of it. */
export interface TangSettings {
  readonly url: string;
  /** The server's keys, as it advertised them when they were trusted. */
  readonly advertisement: string;
  /** RFC 7638, with SHA-256: of the key that signed the advertisement and is trusted. */
  readonly thumbprint: string;
}

/** The server's keys, when all signed that sign and one of them is the trusted one. */
export async function fetchAdvertisement(
  url: string,
  trusted: string | undefined,
): Promise<TangSettings> {
  const base = url.replace(/\/+$/, '');
  const keys = await fetchSigned(base, '/adv', []);
  const signing = signingKeysOf(keys);
  const known = signing.map(thumbprintOf);
  const thumbprint = trusted ?? known[0];
  if (thumbprint === undefined || !known.includes(thumbprint)) {
    const message = `${serverAt(base)} does not sign with the key ${thumbprint}, but with ${known.join(', ')}`;
    throw new StorageError('wrong-key', message);
  }
  exchangeKeyOf(base, keys);
  return { url: base, advertisement: JSON.stringify({ keys }), thumbprint };
}

/**
 * A Tang server: the secret is a JWE as clevis makes it, of which only the server can say what opens it,
 * and that without learning it (the exchange of McCallum and Relyea). Nothing is asked to wrap.
 */
export function tangKeeper(settings: Readonly<Record<string, string>>): KeyKeeper {
  const { url = '', advertisement = '{}', thumbprint = '' } = settings;
  const server = serverAt(url);
  const keysOf = (): EcJwk[] => requireKeys(server, parseAnswer(server, advertisement));
  return {
    where: `on ${server}`,
    async protect(secret) {
      const keys = keysOf();
      return { jwe: sealJwe(secret, exchangeKeyOf(url, keys), url, keys) };
    },
    recover: ({ jwe = '' }) => openJwe(jwe, url),
    async rotate() {
      const trusted = keysOf().filter((key) => thumbprintOf(key) === thumbprint);
      // Also when it signs with it no more than for those who ask.
      const keys = await fetchSigned(url, `/adv/${thumbprint}`, trusted);
      const [signer] = signingKeysOf(keys);
      if (signer === undefined) throw new StorageError('wrong-key', `${server} signs with no key`);
      return { advertisement: JSON.stringify({ keys }), thumbprint: thumbprintOf(signer) };
    },
  };
}

/** The settings of a key that is in no keyring here: what stands in what it wrapped says enough. */
export function tangSettingsOf(fields: Readonly<Record<string, string>>): Record<string, string> {
  const [header = ''] = (fields['jwe'] ?? '').split('.');
  const server = 'what a Tang server wrapped';
  const { clevis } = parseAnswer(server, Buffer.from(header, 'base64url').toString()) as {
    readonly clevis?: { readonly tang?: { readonly url?: unknown; readonly adv?: unknown } };
  };
  const url = clevis?.tang?.url;
  if (typeof url !== 'string' || !/^https?:\/\//.test(url)) {
    throw new StorageError('wrong-key', `${server} does not say which one that is`);
  }
  return { url, advertisement: JSON.stringify(clevis?.tang?.adv ?? {}), thumbprint: '' };
}

export function serverAt(url: string): string {
  return `the Tang server ${url}`;
}

/** The keys that the server advertises, signed by all of them that sign, and by each of `also`. */
async function fetchSigned(url: string, path: string, also: readonly EcJwk[]): Promise<EcJwk[]> {
  const server = serverAt(url);
  const { status, text } = await askKeyServer({ server, method: 'GET', url: `${url}${path}` });
  if (status !== 200) {
    throw new StorageError('wrong-key', `${server} does not have the key any more (${status})`);
  }
  const { payload, signatures, ...single } = parseAnswer(server, text);
  if (typeof payload !== 'string') throw new StorageError('wrong-key', `${server} signs nothing`);
  const all = (Array.isArray(signatures) ? signatures : [single]) as {
    readonly protected?: unknown;
    readonly signature?: unknown;
  }[];
  const keys = requireKeys(
    server,
    parseAnswer(server, Buffer.from(payload, 'base64url').toString('utf8')),
  );
  const signing = signingKeysOf(keys);
  const isSigned = (key: EcJwk): boolean =>
    all.some(
      ({ protected: header, signature }) =>
        typeof header === 'string' &&
        typeof signature === 'string' &&
        isSignedBy(key, `${header}.${payload}`, signature),
    );
  if (signing.length === 0 || ![...signing, ...also].every(isSigned)) {
    throw new StorageError('wrong-key', `${server} advertises keys that it did not sign`);
  }
  return keys;
}

function requireKeys(server: string, { keys }: Readonly<Record<string, unknown>>): EcJwk[] {
  if (Array.isArray(keys)) return keys.filter(isEcJwk);
  throw new StorageError('wrong-key', `${server} advertises no keys`);
}

function signingKeysOf(keys: readonly EcJwk[]): EcJwk[] {
  return keys.filter(({ key_ops: uses }) => uses?.includes('verify'));
}

function exchangeKeyOf(url: string, keys: readonly EcJwk[]): EcJwk {
  const key = keys.find(({ key_ops: uses }) => uses?.includes('deriveKey'));
  if (key !== undefined) return key;
  throw new StorageError(
    'wrong-key',
    `${serverAt(url)} has no key on a curve of NIST to wrap with`,
  );
}
