import { createHash, createPublicKey, verify } from 'node:crypto';
import { p256, p384, p521 } from '@noble/curves/nist.js';
import { StorageError } from '../base/errors.ts';

/** Of JOSE, what Tang needs: keys on the curves of NIST, their thumbprints, signatures and agreement. */

/** A public key (RFC 7517) on a curve of NIST. */
export interface EcJwk {
  readonly kty: 'EC';
  readonly crv: CurveName;
  readonly x: string;
  readonly y: string;
  readonly alg?: string;
  readonly key_ops?: readonly string[];
}

const curves = {
  'P-256': { curve: p256, bytes: 32, hash: 'sha256' },
  'P-384': { curve: p384, bytes: 48, hash: 'sha384' },
  'P-521': { curve: p521, bytes: 66, hash: 'sha512' },
} as const;
type CurveName = keyof typeof curves;
type Point = InstanceType<typeof p521.Point>;

export function isEcJwk(value: unknown): value is EcJwk {
  if (typeof value !== 'object' || value === null) return false;
  const { kty, crv, x, y } = value as Record<string, unknown>;
  return kty === 'EC' && typeof crv === 'string' && crv in curves && isText(x) && isText(y);
}

function isText(value: unknown): boolean {
  return typeof value === 'string';
}

/** RFC 7638, with SHA-256. */
export function thumbprintOf({ crv, kty, x, y }: EcJwk): string {
  const canonical = JSON.stringify({ crv, kty, x, y });
  return createHash('sha256').update(canonical).digest('base64url');
}

/** Whether the key signed this (RFC 7515): ECDSA with the hash that goes with its curve. */
export function isSignedBy(
  { kty, crv, x, y }: EcJwk,
  signingInput: string,
  signature: string,
): boolean {
  const key = createPublicKey({ key: { kty, crv, x, y }, format: 'jwk' });
  return verify(
    curves[crv].hash,
    Buffer.from(signingInput),
    { key, dsaEncoding: 'ieee-p1363' },
    Buffer.from(signature, 'base64url'),
  );
}

/** The point of a key; an error for what is not on the curve. */
export function pointOf(jwk: EcJwk): Point {
  const numberOf = (text: string): bigint => {
    const digits = Buffer.from(text, 'base64url').toString('hex');
    return BigInt(`0x${digits === '' ? '0' : digits}`);
  };
  try {
    const { Point: PointOfCurve } = curves[jwk.crv].curve;
    const point = PointOfCurve.fromAffine({ x: numberOf(jwk.x), y: numberOf(jwk.y) });
    point.assertValidity();
    return point;
  } catch (cause) {
    throw new StorageError('wrong-key', `a key that is not on the curve ${jwk.crv}`, { cause });
  }
}

/** The public key of a point. */
export function jwkOf(crv: CurveName, point: Point): EcJwk {
  const { bytes } = curves[crv];
  const { x, y } = point.toAffine();
  return { kty: 'EC', crv, x: coordinate(x, bytes), y: coordinate(y, bytes) };
}

/** What two sides agree on: the point's first coordinate, as long as the curve's numbers. */
export function secretOf(crv: CurveName, point: Point): Uint8Array {
  return Buffer.from(coordinate(point.toAffine().x, curves[crv].bytes), 'base64url');
}

export function randomScalar(crv: CurveName): bigint {
  const { curve } = curves[crv];
  return curve.Point.Fn.fromBytes(curve.utils.randomSecretKey());
}

export function generatorOf(crv: CurveName): Point {
  return curves[crv].curve.Point.BASE;
}

function coordinate(value: bigint, bytes: number): string {
  return Buffer.from(value.toString(16).padStart(bytes * 2, '0'), 'hex').toString('base64url');
}

/** Concat KDF (NIST SP 800-56A) as RFC 7518, section 4.6.2, has it; up to the length of one hash. */
export function concatKdf(
  secret: Uint8Array,
  algorithm: string,
  keyBytes: number,
  partyU = '',
  partyV = '',
): Uint8Array {
  const hash = createHash('sha256').update(fourBytes(1)).update(secret);
  for (const text of [algorithm, partyU, partyV]) {
    hash.update(fourBytes(Buffer.byteLength(text))).update(text);
  }
  return hash
    .update(fourBytes(keyBytes * 8))
    .digest()
    .subarray(0, keyBytes);
}

function fourBytes(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
