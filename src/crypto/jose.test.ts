import { describe, expect, it } from 'vitest';
import {
  concatKdf,
  type EcJwk,
  generatorOf,
  isEcJwk,
  isSignedBy,
  jwkOf,
  pointOf,
  randomScalar,
  secretOf,
} from './jose.ts';

describe('agreement on a key', () => {
  // RFC 7518, appendix C.
  const alice: EcJwk = {
    kty: 'EC',
    crv: 'P-256',
    x: 'gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0',
    y: 'SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps',
  };
  const bobSecret = 'VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw';
  const bobX = 'weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ';

  it('gives the known answer of RFC 7518', () => {
    const scalar = BigInt(`0x${Buffer.from(bobSecret, 'base64url').toString('hex')}`);
    expect(jwkOf('P-256', generatorOf('P-256').multiply(scalar)).x).toBe(bobX);
    const agreed = secretOf('P-256', pointOf(alice).multiply(scalar));
    expect([...agreed.subarray(0, 4), agreed.length]).toEqual([158, 86, 217, 29, 32]);
    const key = concatKdf(agreed, 'A128GCM', 16, 'Alice', 'Bob');
    expect(Buffer.from(key).toString('base64url')).toBe('VqqN6vgjbSBcIijNcacQGg');
  });

  it('recovers a secret from a server that does not learn it, on each curve', () => {
    for (const crv of ['P-256', 'P-384', 'P-521'] as const) {
      const [client, server, blinding] = [1, 2, 3].map(() => randomScalar(crv)) as [
        bigint,
        bigint,
        bigint,
      ];
      const base = generatorOf(crv);
      const serverKey = pointOf(jwkOf(crv, base.multiply(server)));
      const agreed = secretOf(crv, serverKey.multiply(client));
      const asked = base.multiply(client).add(base.multiply(blinding));
      const answered = pointOf(jwkOf(crv, asked)).multiply(server);
      expect(secretOf(crv, answered.subtract(serverKey.multiply(blinding)))).toEqual(agreed);
      expect(secretOf(crv, answered)).not.toEqual(agreed);
    }
  });

  it('refuses points that are not on their curve, and keys that are none', () => {
    const wrong = [
      { ...alice, y: bobX },
      { ...alice, crv: 'P-384' as const },
      { ...alice, x: '', y: '' },
    ];
    for (const each of wrong) expect(() => pointOf(each)).toThrow(/not on the curve/);
    for (const each of [
      null,
      'EC',
      { kty: 'EC' },
      { ...alice, crv: 'P-123' },
      { ...alice, x: 1 },
    ]) {
      expect(isEcJwk(each)).toBe(false);
    }
  });

  it('verifies signatures as RFC 7515 has them', () => {
    // Appendix A.3.
    const key: EcJwk = {
      kty: 'EC',
      crv: 'P-256',
      x: 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU',
      y: 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0',
    };
    const input =
      'eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ';
    const signature =
      'DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q';
    expect(isSignedBy(key, input, signature)).toBe(true);
    expect(isSignedBy(key, `${input}0`, signature)).toBe(false);
    expect(isSignedBy(alice, input, signature)).toBe(false);
    expect(isSignedBy(key, input, '')).toBe(false);
  });
});
