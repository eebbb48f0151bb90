import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isStorageError } from '../../src/base/errors.ts';
import { listAll, type ObjectStore } from '../../src/base/object-store.ts';
import { seededRandom } from '../../src/base/random.ts';

/** A driver under test: every call of `open` gives a fresh handle on one and the same store. */
interface ContractSubject {
  readonly open: () => Promise<ObjectStore>;
  /** Takes away all that the tests left. */
  readonly dispose?: () => Promise<void>;
}

interface ContractOptions {
  readonly start: () => Promise<ContractSubject>;
  /** Whether a second handle sees what the first one wrote (not so for a store in memory). */
  readonly shared: boolean;
  /** Why the store cannot be had here, or `undefined`. */
  readonly missing?: string | undefined;
}

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array | undefined): string | undefined =>
  bytes && new TextDecoder().decode(bytes);

async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    return isStorageError(error) ? error.code : `not a StorageError: ${String(error)}`;
  }
  return 'no error';
}

async function keysOf(store: ObjectStore, prefix: string, startAfter?: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of listAll(store, prefix, startAfter)) keys.push(key);
  return keys;
}

/** What every object store does, whatever it is made of. */
export function describeStoreContract(name: string, options: ContractOptions): void {
  describe(`object store contract: ${name}`, () => {
    let subject: ContractSubject;
    let store: ObjectStore;
    beforeEach(({ skip }) => skip(options.missing !== undefined, options.missing));
    beforeAll(async () => {
      if (options.missing !== undefined) return;
      subject = await options.start();
      store = await subject.open();
    });
    afterAll(async () => {
      await store?.close();
      await subject?.dispose?.();
    });
    const use = () => ({ store, subject });
    describeObjects(use);
    describeRanges(use);
    describeListing(use);
    describeRegisters(use);
    describeRaces(use);
    describeEnds(use);
    if (options.shared) describeSharing(use);
  });
}

type Use = () => { store: ObjectStore; subject: ContractSubject };

function describeObjects(use: Use): void {
  describe('objects', () => {
    it('gives back what was put, in one part or many', async () => {
      const { store } = use();
      await store.put('objects/one', [bytesOf('one')]);
      await store.put('objects/parts', [bytesOf('a'), new Uint8Array(0), bytesOf('bc')]);
      expect(textOf(await store.get('objects/one'))).toBe('one');
      expect(textOf(await store.get('objects/parts'))).toBe('abc');
    });

    it('holds an empty object', async () => {
      const { store } = use();
      await store.put('objects/empty', []);
      expect(await store.get('objects/empty')).toHaveLength(0);
      expect(await store.getStart('objects/empty', 10)).toEqual({
        bytes: new Uint8Array(0),
        objectBytes: 0,
      });
    });

    it('holds an object of 9 MiB in 1,500 parts', async () => {
      const { store } = use();
      const random = seededRandom(1);
      const part = random.bytes(6292);
      const parts = Array.from({ length: 1500 }, (_, index) => {
        const copy = part.slice();
        copy[0] = index & 0xff;
        return copy;
      });
      await store.put('objects/large', parts);
      const whole = await store.get('objects/large');
      expect(Buffer.compare(whole, Buffer.concat(parts))).toBe(0);
    });

    it('takes the same bytes again under the same key', async () => {
      const { store } = use();
      await store.put('objects/again', [bytesOf('same')]);
      await store.put('objects/again', [bytesOf('sa'), bytesOf('me')]);
      expect(textOf(await store.get('objects/again'))).toBe('same');
    });

    it('does not hand out memory that it shares with others', async () => {
      const { store } = use();
      const given = bytesOf('mine');
      await store.put('objects/copy', [given]);
      given.fill(0);
      const first = await store.get('objects/copy');
      first.fill(0);
      expect(textOf(await store.get('objects/copy'))).toBe('mine');
    });

    it('says not-found for an object that is not there', async () => {
      const { store } = use();
      expect(await codeOf(store.get('objects/missing'))).toBe('not-found');
      expect(await codeOf(store.get('objects/missing', { offset: 0, lengthBytes: 1 }))).toBe(
        'not-found',
      );
      expect(await codeOf(store.getStart('nowhere/at/all', 5))).toBe('not-found');
    });

    it('deletes an object, and one that is not there', async () => {
      const { store } = use();
      await store.put('objects/gone', [bytesOf('x')]);
      await store.delete('objects/gone');
      await store.delete('objects/gone');
      expect(await codeOf(store.get('objects/gone'))).toBe('not-found');
      await store.put('objects/gone', [bytesOf('back')]);
      expect(textOf(await store.get('objects/gone'))).toBe('back');
    });

    it('refuses keys that could leave the store', async () => {
      const { store } = use();
      for (const key of ['', '/a', 'a/', 'a//b', '../a', 'a/../b', 'a/./b', 'a b', 'a@', 'é']) {
        expect(await codeOf(store.put(key, [])), key).toBe('usage');
        expect(await codeOf(store.get(key)), key).toBe('usage');
        expect(await codeOf(store.load(key)), key).toBe('usage');
        expect(await codeOf(store.remove(key)), key).toBe('usage');
      }
      expect(await codeOf(store.put('.tmp/x', []))).toBe('usage');
      expect(await codeOf(store.list('../'))).toBe('usage');
    });
  });
}

function describeRanges(use: Use): void {
  describe('ranges', () => {
    const bytes = seededRandom(2).bytes(1000);
    beforeAll(() => use().store?.put('ranges/thousand', [bytes]));

    it.each([
      [0, 1],
      [0, 1000],
      [999, 1],
      [500, 500],
      [1, 998],
    ])('reads from %d, %d bytes', async (offset, lengthBytes) => {
      const got = await use().store.get('ranges/thousand', { offset, lengthBytes });
      expect(Buffer.compare(got, bytes.subarray(offset, offset + lengthBytes))).toBe(0);
    });

    it.each([
      [0, 1001],
      [999, 2],
      [1000, 1],
      [5000, 10],
    ])('says corrupt for %d, %d bytes: past the end', async (offset, lengthBytes) => {
      expect(await codeOf(use().store.get('ranges/thousand', { offset, lengthBytes }))).toBe(
        'corrupt',
      );
    });

    it('reads the start and says how long the object is', async () => {
      const { store } = use();
      const start = await store.getStart('ranges/thousand', 16);
      expect(start.objectBytes).toBe(1000);
      expect(Buffer.compare(start.bytes, bytes.subarray(0, 16))).toBe(0);
      for (const maxBytes of [1000, 1001, 65536]) {
        const whole = await store.getStart('ranges/thousand', maxBytes);
        expect(whole.objectBytes).toBe(1000);
        expect(Buffer.compare(whole.bytes, bytes)).toBe(0);
      }
    });
  });
}

function describeListing(use: Use): void {
  describe('listing', () => {
    // Byte order: `-` and `.` come before `/`, digits after it, capitals before small letters.
    const sorted = ['B', 'a-b', 'a.b', 'a/1', 'a/2/x', 'a/2/y', 'a/20', 'a/3', 'a0', 'b/1'].map(
      (key) => `list/${key}`,
    );
    beforeAll(async () => {
      const { store } = use();
      if (store === undefined) return;
      for (const key of [...sorted].reverse()) await store.put(key, [bytesOf(key)]);
      await store.swap('list/a/25', undefined, bytesOf('register'));
      await store.put('listed-not', []);
    });
    const all = [...sorted.slice(0, 7), 'list/a/25', ...sorted.slice(7)];

    it('gives all keys under a prefix in byte order, with their sizes', async () => {
      const { keys, truncated } = await use().store.list('list/');
      expect(truncated).toBe(false);
      expect(keys.map(({ key }) => key)).toEqual(all);
      expect(keys[0]?.sizeBytes).toBe('list/B'.length);
      expect(keys.find(({ key }) => key === 'list/a/25')?.sizeBytes).toBe('register'.length);
    });

    it('takes a prefix that ends in mid-name', async () => {
      expect(await keysOf(use().store, 'list/a/2')).toEqual(all.slice(4, 8));
      expect(await keysOf(use().store, 'list/a/20')).toEqual(['list/a/20']);
      expect(await keysOf(use().store, 'list/none')).toEqual([]);
      expect(await keysOf(use().store, 'no/such/place')).toEqual([]);
    });

    it('starts after a key, whether that is there or not', async () => {
      for (const [index, key] of all.entries()) {
        expect(await keysOf(use().store, 'list/', key), key).toEqual(all.slice(index + 1));
      }
      expect(await keysOf(use().store, 'list/', 'list/a/2/x0')).toEqual(all.slice(5));
      expect(await keysOf(use().store, 'list/a/', 'list/')).toEqual(all.slice(3, 9));
      expect(await keysOf(use().store, 'list/', 'list/c')).toEqual([]);
    });

    it('gives pages that fit together', async () => {
      const { store } = use();
      for (const maxKeys of [1, 3, 4, 11, 12]) {
        const got: string[] = [];
        for (let more = true; more; ) {
          const after = got.at(-1);
          const page = await store.list('list/', {
            maxKeys,
            ...(after === undefined ? {} : { startAfter: after }),
          });
          expect(page.keys.length).toBeLessThanOrEqual(maxKeys);
          expect(page.keys.length).toBeGreaterThan(0);
          got.push(...page.keys.map(({ key }) => key));
          more = page.truncated;
        }
        expect(got).toEqual(all);
      }
    });

    it('lists everything from the top', async () => {
      const keys = await keysOf(use().store, '');
      expect(keys).toEqual([...keys].sort());
      expect(keys).toEqual(expect.arrayContaining([...all, 'listed-not']));
      expect(keys.filter((key) => key.startsWith('.tmp'))).toEqual([]);
    });

    it('forgets what was deleted', async () => {
      const { store } = use();
      await store.put('list-gone/deep/down', []);
      await store.delete('list-gone/deep/down');
      expect(await keysOf(store, 'list-gone')).toEqual([]);
    });
  });
}

function describeRegisters(use: Use): void {
  describe('registers', () => {
    it('has none until one is made, and makes it once', async () => {
      const { store } = use();
      expect(await store.load('registers/a')).toBeUndefined();
      const version = await store.swap('registers/a', undefined, bytesOf('first'));
      expect(version).toBeTruthy();
      expect(await store.swap('registers/a', undefined, bytesOf('second'))).toBeUndefined();
      expect(await store.load('registers/a')).toEqual({ value: bytesOf('first'), version });
    });

    it('is replaced from its present version alone, and says lost otherwise', async () => {
      const { store } = use();
      const one = await store.swap('registers/b', undefined, bytesOf('1'));
      const two = await store.swap('registers/b', one, bytesOf('2'));
      expect(two).toBeTruthy();
      expect(await store.swap('registers/b', one, bytesOf('late'))).toBeUndefined();
      expect(await store.swap('registers/none', one, bytesOf('late'))).toBeUndefined();
      expect(await store.load('registers/none')).toBeUndefined();
      expect(await store.load('registers/b')).toEqual({ value: bytesOf('2'), version: two });
    });

    it('never uses a version twice, however often it is changed', async () => {
      const { store } = use();
      const versions: string[] = [];
      let version: string | undefined;
      for (let round = 0; round < 30; round += 1) {
        version = await store.swap('registers/c', version, bytesOf(`value ${round}`));
        expect(version).toBeDefined();
        versions.push(version ?? '');
      }
      expect(new Set(versions).size).toBe(30);
      expect(await store.load('registers/c')).toEqual({ value: bytesOf('value 29'), version });
      for (const old of versions.slice(0, -1)) {
        expect(await store.swap('registers/c', old, bytesOf(`stale ${old}`))).toBeUndefined();
      }
      expect(textOf((await store.load('registers/c'))?.value)).toBe('value 29');
    });

    it('is removed, with no way back for an old version', async () => {
      const { store } = use();
      const one = await store.swap('registers/d', undefined, bytesOf('old life'));
      await store.remove('registers/d');
      await store.remove('registers/d');
      expect(await store.load('registers/d')).toBeUndefined();
      expect(await store.swap('registers/d', one, bytesOf('ghost'))).toBeUndefined();
      const again = await store.swap('registers/d', undefined, bytesOf('new life'));
      expect(again).toBeTruthy();
      expect(again).not.toBe(one);
      expect(await store.swap('registers/d', one, bytesOf('ghost'))).toBeUndefined();
      expect(textOf((await store.load('registers/d'))?.value)).toBe('new life');
    });

    it('holds an empty value and one of a mebibyte', async () => {
      const { store } = use();
      const large = seededRandom(3).bytes(1 << 20);
      const one = await store.swap('registers/e', undefined, new Uint8Array(0));
      expect((await store.load('registers/e'))?.value).toHaveLength(0);
      const two = await store.swap('registers/e', one, large);
      expect(two).toBeTruthy();
      const loaded = await store.load('registers/e');
      expect(Buffer.compare(loaded?.value ?? new Uint8Array(0), large)).toBe(0);
    });
  });
}

/** Adds `nonce` to the register's list of lines, from whatever it holds, until that has worked. */
async function appendLine(store: ObjectStore, key: string, nonce: string): Promise<void> {
  for (;;) {
    const present = await store.load(key);
    const lines = textOf(present?.value) ?? '';
    if (lines.split('\n').includes(nonce)) return;
    try {
      const value = bytesOf(`${lines}${nonce}\n`);
      if ((await store.swap(key, present?.version, value)) !== undefined) return;
    } catch (error) {
      // The outcome is unknown: the next load finds the nonce if the swap was made.
      if (!isStorageError(error, 'store-unavailable')) throw error;
    }
  }
}

function describeRaces(use: Use): void {
  describe('races', () => {
    it('creates a register for exactly one of many', async () => {
      const { store } = use();
      for (let round = 0; round < 5; round += 1) {
        const key = `races/create-${round}`;
        const outcomes = await Promise.allSettled(
          Array.from({ length: 12 }, (_, i) => store.swap(key, undefined, bytesOf(`by ${i}`))),
        );
        await expectOneWinner(store, key, outcomes);
      }
    });

    it('replaces a register for exactly one of many', async () => {
      const { store } = use();
      let version = await store.swap('races/swap', undefined, bytesOf('start'));
      for (let round = 0; round < 10; round += 1) {
        const outcomes = await Promise.allSettled(
          Array.from({ length: 8 }, (_, i) =>
            store.swap('races/swap', version, bytesOf(`round ${round} by ${i}`)),
          ),
        );
        version = await expectOneWinner(store, 'races/swap', outcomes);
      }
    });

    it('loses no change of several writers', async () => {
      const { store } = use();
      const writers = ['a', 'b', 'c', 'd'];
      await Promise.all(
        writers.map(async (writer) => {
          for (let i = 0; i < 10; i += 1) await appendLine(store, 'races/log', `${writer}${i}`);
        }),
      );
      const lines = (textOf((await store.load('races/log'))?.value) ?? '').trim().split('\n');
      const expected = writers.flatMap((writer) =>
        Array.from({ length: 10 }, (_, i) => writer + i),
      );
      expect(lines.sort()).toEqual(expected.sort());
    });

    it('is never seen half removed', async () => {
      const { store } = use();
      const key = 'races/removed';
      const rounds = 15;
      const creator = async (): Promise<void> => {
        for (let round = 0; round < rounds; round += 1) {
          await store.swap(key, undefined, bytesOf('alive'));
          await store.remove(key);
        }
      };
      const reader = async (): Promise<void> => {
        for (let round = 0; round < rounds * 2; round += 1) {
          const seen = textOf((await store.load(key))?.value);
          expect([undefined, 'alive']).toContain(seen);
        }
      };
      await Promise.all([creator(), reader(), reader()]);
      expect(await store.load(key)).toBeUndefined();
    });
  });
}

/** Checks that one swap at most claims to have won and that the register holds that one's value. */
async function expectOneWinner(
  store: ObjectStore,
  key: string,
  outcomes: readonly PromiseSettledResult<string | undefined>[],
): Promise<string> {
  const won = outcomes.flatMap((outcome, index) =>
    outcome.status === 'fulfilled' && outcome.value !== undefined
      ? [{ index, version: outcome.value }]
      : [],
  );
  const unknown = outcomes.filter(({ status }) => status === 'rejected').length;
  const present = await store.load(key);
  expect(present).toBeDefined();
  // A swap of unknown outcome may be the one that won; nobody else may then claim to have.
  if (won.length === 0) expect(unknown).toBeGreaterThan(0);
  else expect(won).toHaveLength(1);
  for (const { index, version } of won) {
    expect(textOf(present?.value)).toMatch(new RegExp(`by ${index}$`));
    expect(present?.version).toBe(version);
  }
  return present?.version ?? '';
}

function describeSharing(use: Use): void {
  it('keeps objects and registers for the next who opens it', async () => {
    const { store, subject } = use();
    await store.put('shared/object', [bytesOf('kept')]);
    const version = await store.swap('shared/register', undefined, bytesOf('kept too'));
    const other = await subject.open();
    expect(textOf(await other.get('shared/object'))).toBe('kept');
    expect(await other.load('shared/register')).toEqual({ value: bytesOf('kept too'), version });
    expect(await other.swap('shared/register', version, bytesOf('changed'))).toBeTruthy();
    await other.close();
    expect(await store.swap('shared/register', version, bytesOf('stale'))).toBeUndefined();
  });
}

function describeEnds(use: Use): void {
  describe('ends', () => {
    it('does not begin a call that was given up before', async () => {
      const { store } = use();
      const signal = AbortSignal.abort();
      expect(await codeOf(store.put('ends/aborted', [], { signal }))).toBe('store-unavailable');
      expect(await codeOf(store.get('ends/aborted'))).toBe('not-found');
    });

    it('refuses calls after it was closed', async () => {
      const { subject } = use();
      const other = await subject.open();
      await other.close();
      await other.close();
      expect(await codeOf(other.get('ends/object'))).toBe('shutting-down');
      expect(await codeOf(other.swap('ends/x', undefined, new Uint8Array(1)))).toBe(
        'shutting-down',
      );
    });
  });
}
