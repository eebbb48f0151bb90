import { crc32 } from 'node:zlib';
import type { Clock } from '../../src/base/clock.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { isStorageError } from '../../src/base/errors.ts';
import type { VolumeKeys } from '../../src/crypto/volume-keys.ts';
import type { Engine } from './engine.ts';
import { pick } from './random.ts';

/** Keys that are wrapped in nothing: the same in each run of a seed. */
const openKeys: VolumeKeys = {
  unwrapAll: async (_, all) =>
    all.map(({ wrapped }) => new Uint8Array(Buffer.from(wrapped.fields['secret'] ?? '', 'hex'))),
  wrapNew: async (_, secret, { generation }) => ({
    generation,
    wrapped: {
      ...{ provider: 'passphrase', keyName: 'main', keyId: 'main', keyVersion: 1 },
      fields: { secret: Buffer.from(secret).toString('hex') },
    },
  }),
};

const journalHeaderBytes = 512;
const generationAt = 56;
const saltAt = { object: 32, journal: 64 };

function isSealedObject(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.subarray(0, 6)).toString() === 'EDSEAL';
}

/** Seals what the engine stores, and watches over what must hold of all that is sealed. */
export class Sealing {
  private readonly engine: Engine;
  private readonly clock: Clock;
  private readonly fail: (error: Error) => void;
  private readonly random: Random;
  /** What was sealed with each salt. */
  private readonly sealed = new Map<string, string>();
  forgeries = 0;

  constructor(engine: Engine, seed: number, clock: Clock, fail: (error: Error) => void) {
    this.engine = engine;
    this.clock = clock;
    this.fail = fail;
    this.random = seededRandom(seed);
  }

  over(store: ObjectStore, clock: Clock): ObjectStore {
    return this.engine.withSealing(store, { keys: openKeys, clock, random: this.random });
  }

  private once(salt: string, what: string): void {
    const before = this.sealed.get(salt) ?? what;
    this.sealed.set(salt, what);
    if (before !== what) this.fail(new Error(`a nonce was used twice: ${before} and ${what}`));
  }

  /** An object is put; again only as it was. */
  put(key: string, parts: readonly Uint8Array[]): void {
    const bytes = Buffer.concat(parts);
    if (!isSealedObject(bytes)) return;
    const salt = bytes.subarray(saltAt.object, saltAt.object + 32).toString('hex');
    this.once(salt, `object ${key} ${crc32(bytes)}`);
  }

  /** Something is written to a file of a local disk: each use of a journal file has a salt of its own. */
  written(path: string, bytes: Uint8Array, position: number): void {
    if (!path.endsWith('.journal') || position !== 0 || bytes.byteLength < journalHeaderBytes)
      return;
    const salt = Buffer.from(bytes.subarray(saltAt.journal, saltAt.journal + 32));
    if (salt.every((byte) => byte === 0) && bytes[generationAt] === 0) return;
    const header = Buffer.from(bytes.subarray(0, journalHeaderBytes)).toString('hex');
    this.once(salt.toString('hex'), `journal ${header}`);
  }

  /** What somebody who has no key makes of the objects is refused, every time. */
  async forge(raw: ObjectStore, random: Random): Promise<void> {
    const keys: string[] = [];
    for (const { key } of (await raw.list('volumes/', { maxKeys: 100_000 })).keys) {
      // What came late to a volume that was deleted is nobody's, and no key is looked for.
      const manifest = await raw.load(`${key.split('/', 2).join('/')}/manifest.json`);
      const isObject = manifest !== undefined && !key.endsWith('/manifest.json');
      if (isObject && isSealedObject(await raw.get(key))) keys.push(key);
    }
    for (let turn = 0; turn < Math.min(8, keys.length); turn += 1) {
      const key = keys[pick(random, keys.length)] as string;
      const bytes = await raw.get(key);
      const other = await raw.get(keys[pick(random, keys.length)] as string);
      await this.refused(raw, key, bytes, flipped(bytes, random), 'a flipped bit');
      await this.refused(raw, key, bytes, other, 'another object');
      await this.refused(raw, key, bytes, exchanged(bytes, this.engine), 'exchanged parts');
      await this.refused(raw, key, bytes, bytes.subarray(0, -1), 'one byte less');
    }
  }

  private async refused(
    raw: ObjectStore,
    key: string,
    bytes: Uint8Array,
    forged: Uint8Array,
    what: string,
  ): Promise<void> {
    if (Buffer.compare(bytes, forged) === 0) return;
    this.forgeries += 1;
    const get: ObjectStore['get'] = async (of, range) =>
      of === key ? forged.slice() : raw.get(of, range);
    const error = await this.over({ ...raw, get }, this.clock)
      .get(key)
      .then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
    if (!isStorageError(error, 'corrupt'))
      throw new Error(`${what} in ${key} was not refused, but ${String(error)}`);
  }
}

function flipped(bytes: Uint8Array, random: Random): Uint8Array {
  const forged = bytes.slice();
  const at = 80 + pick(random, bytes.byteLength - 80);
  forged[at] = (forged[at] ?? 0) ^ (1 << pick(random, 8));
  return forged;
}

/** The first two parts in each other's place. */
function exchanged(bytes: Uint8Array, { sealedPartBytes }: Engine): Uint8Array {
  const stored = sealedPartBytes + 16;
  const forged = bytes.slice();
  if (bytes.byteLength < 80 + 2 * stored) return forged;
  forged.set(bytes.subarray(80 + stored, 80 + 2 * stored), 80);
  forged.set(bytes.subarray(80, 80 + stored), 80 + stored);
  return forged;
}
