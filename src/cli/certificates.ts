import { generateKeyPair, randomBytes } from 'node:crypto';
import { isIP } from 'node:net';
import { promisify } from 'node:util';
import forge from 'node-forge';

/** A certificate and its key, both as PEM. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

export interface Validity {
  readonly fromMs: number;
  readonly days: number;
}

const keyBits = 3072;
const dayMs = 86_400_000;
/** Clocks of the machines that meet here differ. */
const toleranceMs = dayMs;

type Extensions = readonly Readonly<Record<string, unknown>>[];

/** A certificate authority that nobody but its own servers and clients trusts. */
export async function createAuthority(name: string, validity: Validity): Promise<KeyPair> {
  const keys = await makeKeys();
  const extensions = [
    { name: 'basicConstraints', cA: true, critical: true },
    { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
  ];
  return { certificate: signed(keys, name, extensions, validity, undefined), key: keys.key };
}

/** For a server that is known by these names; host names and IP addresses. */
export function createServerPair(
  authority: KeyPair,
  names: readonly string[],
  validity: Validity,
): Promise<KeyPair> {
  const altNames = names.map((name) =>
    isIP(name) === 0 ? { type: 2, value: name } : { type: 7, ip: name },
  );
  const extensions = [{ name: 'subjectAltName', altNames }, usage({ serverAuth: true })];
  return createPair(authority, names[0] ?? '', extensions, validity);
}

/** For a client that rules of access know by this name. */
export function createClientPair(
  authority: KeyPair,
  name: string,
  validity: Validity,
): Promise<KeyPair> {
  return createPair(authority, name, [usage({ clientAuth: true })], validity);
}

function usage(purposes: Readonly<Record<string, boolean>>): Readonly<Record<string, unknown>> {
  return { name: 'extKeyUsage', ...purposes };
}

async function createPair(
  authority: KeyPair,
  name: string,
  extensions: Extensions,
  validity: Validity,
): Promise<KeyPair> {
  const keys = await makeKeys();
  const all = [
    { name: 'basicConstraints', cA: false },
    { name: 'keyUsage', digitalSignature: true, keyEncipherment: true, critical: true },
    ...extensions,
  ];
  return { certificate: signed(keys, name, all, validity, authority), key: keys.key };
}

interface MadeKeys {
  readonly publicKey: string;
  readonly key: string;
}

async function makeKeys(): Promise<MadeKeys> {
  const { publicKey, privateKey } = await promisify(generateKeyPair)('rsa', {
    modulusLength: keyBits,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  return { publicKey, key: privateKey };
}

/** The certificate of these keys, signed by the authority, or by themselves where there is none. */
function signed(
  keys: MadeKeys,
  name: string,
  extensions: Extensions,
  { fromMs, days }: Validity,
  authority: KeyPair | undefined,
): string {
  const { pki, md } = forge;
  const certificate = pki.createCertificate();
  const subject = [{ name: 'commonName', value: name }];
  const issuer =
    authority === undefined ? undefined : pki.certificateFromPem(authority.certificate);
  certificate.publicKey = pki.publicKeyFromPem(keys.publicKey);
  // Positive, as RFC 5280 wants it: the first bit is 0.
  certificate.serialNumber = `01${randomBytes(15).toString('hex')}`;
  certificate.validity.notBefore = new Date(fromMs - toleranceMs);
  certificate.validity.notAfter = new Date(fromMs + days * dayMs);
  certificate.setSubject(subject);
  certificate.setIssuer(issuer?.subject.attributes ?? subject);
  certificate.setExtensions([
    ...extensions,
    { name: 'subjectKeyIdentifier' },
    ...(issuer === undefined ? [] : [identifierOf(issuer)]),
  ]);
  certificate.sign(pki.privateKeyFromPem(authority?.key ?? keys.key), md.sha256.create());
  return pki.certificateToPem(certificate);
}

function identifierOf(issuer: forge.pki.Certificate): Readonly<Record<string, unknown>> {
  const keyIdentifier = issuer.generateSubjectKeyIdentifier().getBytes();
  return { name: 'authorityKeyIdentifier', keyIdentifier };
}
