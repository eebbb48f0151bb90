import { createCipheriv, createDecipheriv, randomFillSync } from 'node:crypto';
import { StorageError } from '../base/errors.ts';
import { askKeyServer, briefly, parseAnswer } from './http.ts';
import {
  concatKdf,
  type EcJwk,
  generatorOf,
  isEcJwk,
  jwkOf,
  pointOf,
  randomScalar,
  secretOf,
  thumbprintOf,
} from './jose.ts';
import { wipe } from './wiping.ts';

const algorithm = 'A256GCM';
const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

/** A JWE (RFC 7516, compact) to the server's exchange key, as `clevis encrypt tang` makes it. */
export function sealJwe(
  secret: Uint8Array,
  { kty, crv, x, y }: EcJwk,
  url: string,
  advertised: readonly EcJwk[],
): string {
  const own = randomScalar(crv);
  const server: EcJwk = { kty, crv, x, y };
  const header = encode({
    alg: 'ECDH-ES',
    clevis: { pin: 'tang', tang: { adv: { keys: advertised }, url } },
    enc: algorithm,
    epk: jwkOf(crv, generatorOf(crv).multiply(own)),
    kid: thumbprintOf(server),
  });
  const agreed = secretOf(crv, pointOf(server).multiply(own));
  const key = concatKdf(agreed, algorithm, keyBytes);
  const nonce = randomFillSync(new Uint8Array(nonceBytes));
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes });
  cipher.setAAD(Buffer.from(header));
  const sealed = Buffer.concat([cipher.update(secret), cipher.final()]);
  wipe(agreed, key);
  // With this agreement the second part, a key that is wrapped, is empty.
  return [header, '', ...[nonce, sealed, cipher.getAuthTag()].map(base64)].join('.');
}

/**
 * Asks the server for what opens it. It is sent the public key of the JWE with a random point added to it, and
 * so learns nothing; what that point adds to its answer is taken off again with its public key.
 */
export async function openJwe(jwe: string, url: string): Promise<Uint8Array> {
  const [header = '', , nonce = '', sealed = '', tag = ''] = jwe.split('.');
  const { epk, kid, advertised } = readHeader(header);
  const { crv } = epk;
  const server = advertised.find((key) => thumbprintOf(key) === kid && key.crv === crv);
  if (server === undefined) throw damaged('it does not hold the key of the server');
  const blinding = randomScalar(crv);
  const asked = pointOf(epk).add(generatorOf(crv).multiply(blinding));
  const answered = await recover(url, kid, jwkOf(crv, asked));
  const agreed = secretOf(crv, pointOf(answered).subtract(pointOf(server).multiply(blinding)));
  const key = concatKdf(agreed, algorithm, keyBytes);
  const cipher = createDecipheriv('aes-256-gcm', key, bytesOf(nonce), { authTagLength: tagBytes });
  let plain: Uint8Array | undefined;
  try {
    cipher.setAAD(Buffer.from(header)).setAuthTag(bytesOf(tag));
    plain = cipher.update(bytesOf(sealed));
    cipher.final();
    return plain;
  } catch {
    wipe(plain);
    throw damaged(`what the Tang server ${url} answers does not open it`);
  } finally {
    wipe(agreed, key);
  }
}

async function recover(url: string, kid: string, jwk: EcJwk): Promise<EcJwk> {
  const server = `the Tang server ${url}`;
  const { status, text } = await askKeyServer({
    ...{ server, method: 'POST', url: `${url}/rec/${kid}` },
    headers: { 'content-type': 'application/jwk+json' },
    body: JSON.stringify({ alg: 'ECMR', ...jwk }),
  });
  if (status === 404) {
    throw new StorageError('wrong-key', `${server} does not have its key ${kid} any more`);
  }
  if (status !== 200) {
    throw new StorageError('wrong-key', `${server} refuses (${status}): ${briefly(text)}`);
  }
  const answered = parseAnswer(server, text);
  if (isEcJwk(answered) && answered.crv === jwk.crv) return answered;
  throw new StorageError('wrong-key', `${server} answers with something else than a key`);
}

function readHeader(encoded: string): {
  readonly epk: EcJwk;
  readonly kid: string;
  readonly advertised: readonly EcJwk[];
} {
  const text = Buffer.from(encoded, 'base64url').toString();
  const { alg, enc, epk, kid, clevis } = parseAnswer('what a Tang server wrapped', text);
  const { tang } = (clevis ?? {}) as { readonly tang?: { readonly adv?: unknown } };
  const { keys } = (tang?.adv ?? {}) as { readonly keys?: unknown };
  const isKnown = alg === 'ECDH-ES' && enc === algorithm && isEcJwk(epk);
  if (!isKnown || typeof kid !== 'string' || !/^[\w-]+$/.test(kid) || !Array.isArray(keys)) {
    throw damaged('its header is that of something else');
  }
  return { epk, kid, advertised: keys.filter(isEcJwk) };
}

function damaged(why: string): StorageError {
  return new StorageError('wrong-key', `what a Tang server wrapped cannot be opened: ${why}`);
}

function encode(header: object): string {
  return Buffer.from(JSON.stringify(header)).toString('base64url');
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url');
}

function bytesOf(text: string): Uint8Array {
  return Buffer.from(text, 'base64url');
}
