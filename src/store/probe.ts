import { type Clock, sleep } from '../base/clock.ts';
import { type ErrorCode, isStorageError, toStorageError } from '../base/errors.ts';
import { listAll, type ObjectStore } from '../base/object-store.ts';
import type { Random } from '../base/random.ts';
import { type StoreMetrics, withMetrics } from './with-metrics.ts';

export interface ProbeCheck {
  readonly name: string;
  readonly ok: boolean;
  /** What was seen: one phrase for a person. */
  readonly detail: string;
  /** Of a failed check: the error that ended it, if it was not what the store gave. */
  readonly code?: ErrorCode;
}

export interface ProbeVerdict {
  readonly url: string;
  readonly checks: readonly ProbeCheck[];
  /** Whether all that reading a volume needs has worked. */
  readonly trustedForReading: boolean;
  /** Whether, besides, objects and compare-and-swap are what a volume's one writer relies on. */
  readonly trustedForWriting: boolean;
  /** How long the calls took. */
  readonly metrics: StoreMetrics;
}

export interface ProbeOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Rounds of the race. */
  readonly rounds?: number;
  /** Swaps at once in each round. */
  readonly rivals?: number;
}

const defaultRounds = 8;
const defaultRivals = 8;
const objectBytes = 1 << 20;
const listedObjects = 5;
const nonceBytes = 12;
const maxSettleTries = 10;
const settleDelayMs = 100;

/**
 * Finds out what a store can be trusted with, by using it: objects, ranges, listings, and the
 * compare-and-swap that keeps two hosts from writing one volume, in a race as real as one process
 * can make it. Some stores accept a condition and ignore it; here they are found out. All of it
 * happens under a prefix of its own that is removed afterwards.
 */
export async function probeStore(store: ObjectStore, options: ProbeOptions): Promise<ProbeVerdict> {
  const measured = withMetrics(store, options);
  const probe = new Probe(measured, options);
  await probe.run();
  const { checks } = probe;
  const good = (names: readonly string[]): boolean =>
    names.every((name) => checks.some((check) => check.name === name && check.ok));
  return {
    url: store.url,
    checks,
    trustedForReading: good(['read', 'ranges', 'list']),
    trustedForWriting: checks.every(({ ok }) => ok),
    metrics: measured.snapshot(),
  };
}

class Probe {
  readonly checks: ProbeCheck[] = [];
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #rounds: number;
  readonly #rivals: number;
  readonly #prefix: string;

  constructor(store: ObjectStore, options: ProbeOptions) {
    this.#store = store;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#rounds = options.rounds ?? defaultRounds;
    this.#rivals = options.rivals ?? defaultRivals;
    this.#prefix = `.probe-${this.#nonce()}/`;
  }

  async run(): Promise<void> {
    const bytes = this.#random.bytes(objectBytes);
    const key = `${this.#prefix}object`;
    if (await this.#check('write', () => this.#write(key, bytes))) {
      await this.#check('read', () => this.#read(key, bytes));
      await this.#check('ranges', () => this.#ranges(key, bytes));
      await this.#check('list', () => this.#list());
      await this.#check('create-if-absent', () => this.#createRace());
      await this.#check('compare-and-swap', () => this.#swapRace());
      await this.#check('stale versions', () => this.#stale());
      await this.#check('delete', () => this.#delete(key));
    }
    await this.#check('clean up', () => this.#cleanUp());
  }

  /** `action` gives what it saw, or throws: a `Finding` is what the store does wrong. */
  async #check(name: string, action: () => Promise<string>): Promise<boolean> {
    try {
      this.checks.push({ name, ok: true, detail: await action() });
      return true;
    } catch (error) {
      if (error instanceof Finding) {
        this.checks.push({ name, ok: false, detail: error.message });
      } else {
        const { code, message } = toStorageError(error);
        this.checks.push({ name, ok: false, detail: `${code}: ${message}`, code });
      }
      return false;
    }
  }

  async #write(key: string, bytes: Uint8Array): Promise<string> {
    const half = bytes.length / 2;
    await this.#store.put(key, [bytes.subarray(0, half), bytes.subarray(half)]);
    await this.#store.put(key, [bytes]);
    return `an object of ${bytes.length} bytes, twice`;
  }

  async #read(key: string, bytes: Uint8Array): Promise<string> {
    expect(same(await this.#store.get(key), bytes), 'other bytes came back than were written');
    const absent = await codeOf(this.#store.get(`${this.#prefix}absent`));
    expect(absent === 'not-found', 'an object that is not there is not reported as missing');
    return 'the bytes that were written, and "missing" for what is not there';
  }

  async #ranges(key: string, bytes: Uint8Array): Promise<string> {
    for (const [offset, lengthBytes] of [
      [0, 1],
      [65_536, 65_536],
      [bytes.length - 1, 1],
    ] as const) {
      const got = await this.#store.get(key, { offset, lengthBytes });
      const wanted = bytes.subarray(offset, offset + lengthBytes);
      expect(same(got, wanted), `the range from ${offset} holds other bytes`);
    }
    const start = await this.#store.getStart(key, 100);
    expect(same(start.bytes, bytes.subarray(0, 100)), 'the start holds other bytes');
    expect(start.objectBytes === bytes.length, 'the size of the object is wrong');
    const past = { offset: bytes.length - 1, lengthBytes: 2 };
    const code = await codeOf(this.#store.get(key, past));
    expect(code === 'corrupt', 'a range past the end is not reported');
    return 'at the start, in the middle, at the end and past it';
  }

  async #list(): Promise<string> {
    const keys = Array.from({ length: listedObjects }, (_, i) => `${this.#prefix}list/${i}`);
    for (const key of keys) await this.#store.put(key, []);
    const listed: string[] = [];
    for await (const { key } of listAll(this.#store, `${this.#prefix}list/`)) listed.push(key);
    expect(listed.join() === keys.join(), 'the listing is not what was just written, in order');
    const page = await this.#store.list(`${this.#prefix}list/`, {
      startAfter: keys[1] ?? '',
      maxKeys: 2,
    });
    const wanted = keys.slice(2, 4).join();
    expect(
      page.keys.map(({ key }) => key).join() === wanted && page.truncated,
      'a page that starts after a key is wrong',
    );
    return 'complete, in order and in pages at once after writing';
  }

  async #createRace(): Promise<string> {
    for (let round = 0; round < this.#rounds; round += 1) {
      await this.#race(`${this.#prefix}create-${round}`, undefined);
    }
    return `${this.#rounds} rounds of ${this.#rivals} at once, one winner each`;
  }

  async #swapRace(): Promise<string> {
    const key = `${this.#prefix}register`;
    let version = await this.#race(key, undefined);
    for (let round = 0; round < this.#rounds; round += 1) version = await this.#race(key, version);
    return `${this.#rounds} rounds of ${this.#rivals} at once, one winner each`;
  }

  /** Lets all rivals swap from one version and gives the winner's. */
  async #race(key: string, from: string | undefined): Promise<string> {
    const rivals = Array.from({ length: this.#rivals }, () =>
      new TextEncoder().encode(this.#nonce()),
    );
    const outcomes = await Promise.allSettled(
      rivals.map((value) => this.#store.swap(key, from, value)),
    );
    const claims: { value: Uint8Array; version: string }[] = [];
    for (const [index, outcome] of outcomes.entries()) {
      const value = rivals[index];
      if (outcome.status === 'rejected') {
        // Its outcome is unknown, which is allowed; that the store cannot do it at all is not.
        if (!isStorageError(outcome.reason, 'store-unavailable')) throw outcome.reason;
      } else if (outcome.value !== undefined && value !== undefined) {
        claims.push({ value, version: outcome.value });
      }
    }
    expect(
      claims.length <= 1,
      `${claims.length} of ${rivals.length} writers were told that they won`,
    );
    const present = await this.#loadPatiently(key);
    expect(present !== undefined && present.version !== from, 'nobody of many writers won');
    const [claim] = claims;
    const winner = claim === undefined ? rivals : [claim.value];
    expect(
      winner.some((value) => same(value, present.value)),
      'the register does not hold the value of the writer that won',
    );
    expect(
      claim === undefined || claim.version === present.version,
      'the winner has another version',
    );
    return present.version;
  }

  async #loadPatiently(key: string) {
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#store.load(key);
      } catch (error) {
        if (!isStorageError(error, 'store-unavailable') || tries === maxSettleTries) throw error;
        await sleep(this.#clock, settleDelayMs);
      }
    }
  }

  async #stale(): Promise<string> {
    const key = `${this.#prefix}stale`;
    const value = (): Uint8Array => new TextEncoder().encode(this.#nonce());
    const first = await this.#store.swap(key, undefined, value());
    expect(first !== undefined, 'a register could not be made');
    const last = value();
    const second = await this.#store.swap(key, first, last);
    expect(second !== undefined && second !== first, 'a register could not be changed');
    expect(
      (await this.#store.swap(key, first, value())) === undefined,
      'an old version was accepted',
    );
    expect(
      (await this.#store.swap(key, undefined, value())) === undefined,
      'create-if-absent replaced what was there',
    );
    const present = await this.#store.load(key);
    expect(present?.version === second && same(present.value, last), 'a refused change was made');
    await this.#store.remove(key);
    expect((await this.#store.load(key)) === undefined, 'a removed register is still there');
    expect(
      (await this.#store.swap(key, second, value())) === undefined,
      'a removed version lives on',
    );
    return 'refused, and nothing changed';
  }

  async #delete(key: string): Promise<string> {
    await this.#store.delete(key);
    await this.#store.delete(key);
    expect((await codeOf(this.#store.get(key))) === 'not-found', 'a deleted object is still there');
    return 'gone at once, and gone again without complaint';
  }

  async #cleanUp(): Promise<string> {
    const registers = [`${this.#prefix}create-`, `${this.#prefix}register`, `${this.#prefix}stale`];
    const keys: string[] = [];
    for await (const { key } of listAll(this.#store, this.#prefix)) keys.push(key);
    for (const key of keys) {
      const isRegister = registers.some((prefix) => key.startsWith(prefix));
      await (isRegister ? this.#store.remove(key) : this.#store.delete(key));
    }
    const left = await this.#store.list(this.#prefix);
    expect(left.keys.length === 0, `${left.keys.length} keys are left under ${this.#prefix}`);
    return 'nothing is left';
  }

  #nonce(): string {
    return Buffer.from(this.#random.bytes(nonceBytes)).toString('hex');
  }
}

/** Something that the store does wrong. */
class Finding extends Error {}

function expect(condition: boolean, otherwise: string): asserts condition {
  if (!condition) throw new Finding(otherwise);
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    return toStorageError(error).code;
  }
  return '';
}
