import { randomFillSync, scrypt } from 'node:crypto';
import { StorageError } from '../base/errors.ts';

/** How hard a passphrase is to guess (RFC 7914): memory is 128 * N * r bytes. */
export interface ScryptParameters {
  readonly N: number;
  readonly r: number;
  readonly p: number;
  readonly salt: Uint8Array;
}

const saltBytes = 16;
/** More would take the memory of a small machine; what a file asks for is not to decide that. */
const memoryMaximumBytes = 2 ** 30;

export function newScryptParameters(): ScryptParameters {
  return { N: 2 ** 17, r: 8, p: 1, salt: randomFillSync(new Uint8Array(saltBytes)) };
}

let before: Promise<unknown> = Promise.resolve();

/** One at a time, however many ask: each takes 128 MiB and a processor. */
export function deriveByScrypt(
  passphrase: Uint8Array,
  parameters: ScryptParameters,
  byteCount: number,
): Promise<Uint8Array> {
  const mine = before.then(() => derive(passphrase, parameters, byteCount));
  before = mine.catch(() => undefined);
  return mine;
}

function derive(
  passphrase: Uint8Array,
  { N, r, p, salt }: ScryptParameters,
  byteCount: number,
): Promise<Uint8Array> {
  if (128 * N * r > memoryMaximumBytes || p > 16) {
    throw new StorageError('unsupported', 'a key that is sealed harder than this program opens');
  }
  return new Promise((resolve, reject) => {
    const refuse = (cause: Error): void =>
      reject(new StorageError('unsupported', `a passphrase cannot be used: ${cause.message}`));
    const options = { N, r, p, maxmem: 2 * memoryMaximumBytes };
    try {
      scrypt(passphrase, salt, byteCount, options, (error, derived) => {
        if (error === null) resolve(derived);
        else refuse(error);
      });
    } catch (cause) {
      // What it can see at once, it throws.
      refuse(cause as Error);
    }
  });
}
