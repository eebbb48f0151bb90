import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { withFaults } from '../../src/store/with-faults.ts';
import { withRetry } from '../../src/store/with-retry.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { forgetStore, requireSound } from '../support/sound-stores.ts';
import { readAll, VolumeHost } from '../support/volume-host.ts';

const sizeBytes = 2 * 2 ** 20;
const seeds = Number(process.env['MODEL_SEEDS'] ?? 1000);
const firstSeed = Number(process.env['MODEL_FIRST_SEED'] ?? Math.floor(Math.random() * 1e9));

/** One change of the volume, as the model applies it. */
interface Change {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** A volume beside a plain array of bytes, with the changes that a crash may undo. */
class Run {
  readonly random: Random;
  readonly seed: number;
  private readonly host: VolumeHost;
  private volume!: Volume;
  /** What is sure to survive, and what was written since. */
  private durable = new Uint8Array(sizeBytes);
  private since: Change[][] = [];
  private present = new Uint8Array(sizeBytes);

  constructor(seed: number) {
    this.seed = seed;
    this.random = seededRandom(seed);
    this.host = new VolumeHost(seed % 2 === 0 ? createMemoryStore() : this.faultyStore(), {}, seed);
  }

  /** A store whose requests fail, and lose their answers after they were done. */
  private faultyStore(): ObjectStore {
    const clock = systemClock;
    const { random } = this;
    const plan = { errorBefore: 0.03, errorAfter: 0.03 };
    const faulty = withFaults(createMemoryStore(), {
      clock,
      random: seededRandom(this.seed),
      plan,
    });
    return withRetry(faulty, { clock, random, baseDelayMs: 0.1, maxDelayMs: 1 });
  }

  async run(steps: number): Promise<void> {
    await this.host.create({ name: 'drive', sizeBytes });
    this.volume = await this.host.open('drive');
    for (let step = 0; step < steps; step += 1) await this.step();
    await this.check();
    await this.volume.close();
    const elsewhere = new VolumeHost(this.host.store, {}, this.seed);
    const volume = await elsewhere.open('drive');
    expect(Buffer.compare(await readAll(volume), this.present)).toBe(0);
    await volume.close();
    await requireSound(this.host.store);
    forgetStore(this.host.store);
  }

  private async step(): Promise<void> {
    const choice = this.random.fraction();
    if (choice < 0.5) await this.writeSome();
    else if (choice < 0.6) await this.zero(this.random.fraction() < 0.5);
    else if (choice < 0.67) await this.trim();
    else if (choice < 0.85) await this.checkRange();
    else if (choice < 0.93) await this.flush();
    else if (choice < 0.96) await this.reopen();
    else await this.crash();
  }

  /** Any range: a few blocks, bytes inside a block, or a large piece; often aligned. */
  private range(): { offset: number; lengthBytes: number } {
    const unit = this.random.fraction() < 0.6 ? 4096 : 1;
    const longest = this.random.fraction() < 0.1 ? sizeBytes : 40_000;
    const offset = Math.floor((this.random.fraction() * sizeBytes) / unit) * unit;
    const wanted = Math.ceil((this.random.fraction() * longest) / unit) * unit;
    return { offset, lengthBytes: Math.max(unit, Math.min(wanted, sizeBytes - offset)) };
  }

  /** Changes made at the same time, of which none shares a block with another. */
  private apply(changes: Change[]): void {
    for (const { offset, bytes } of changes) this.present.set(bytes, offset);
    this.since.push(changes);
  }

  private async writeSome(): Promise<void> {
    const changes: Change[] = [];
    const count = 1 + Math.floor(this.random.fraction() * 6);
    for (let at = 0; at < count; at += 1) this.chooseWrite(changes);
    this.apply(changes);
    const fua = this.random.fraction() < 0.1;
    await Promise.all(
      changes.map(async ({ offset, bytes }) => this.volume.write(offset, bytes, { fua })),
    );
    if (fua) this.nothingToLose();
  }

  private chooseWrite(changes: Change[]): void {
    const { offset, lengthBytes } = this.range();
    const bytes = new Uint8Array(lengthBytes).fill(Math.floor(this.random.fraction() * 255) + 1);
    bytes.set(this.random.bytes(Math.min(64, lengthBytes)));
    const meets = changes.some(
      (other) =>
        Math.floor(offset / 4096) <=
          Math.floor((other.offset + other.bytes.byteLength - 1) / 4096) &&
        Math.floor(other.offset / 4096) <= Math.floor((offset + lengthBytes - 1) / 4096),
    );
    if (!meets) changes.push({ offset, bytes });
  }

  private nothingToLose(): void {
    this.durable = this.present.slice();
    this.since = [];
  }

  private async zero(mayPunchHole: boolean): Promise<void> {
    const { offset, lengthBytes } = this.range();
    await this.volume.zero(offset, lengthBytes, { mayPunchHole, fua: false });
    this.apply([{ offset, bytes: new Uint8Array(lengthBytes) }]);
  }

  private async trim(): Promise<void> {
    const { offset, lengthBytes } = this.range();
    await this.volume.trim(offset, lengthBytes, { fua: false });
    const first = Math.ceil(offset / 4096) * 4096;
    const end = Math.floor((offset + lengthBytes) / 4096) * 4096;
    if (first < end) this.apply([{ offset: first, bytes: new Uint8Array(end - first) }]);
  }

  private async flush(): Promise<void> {
    await this.volume.flush();
    this.nothingToLose();
  }

  private async checkRange(): Promise<void> {
    const { offset, lengthBytes } = this.range();
    const found = new Uint8Array(lengthBytes);
    await this.volume.read(offset, found);
    const expected = this.present.subarray(offset, offset + lengthBytes);
    expect(Buffer.compare(found, expected), `read of ${lengthBytes} at ${offset}`).toBe(0);
  }

  private async check(): Promise<void> {
    expect(Buffer.compare(await readAll(this.volume), this.present)).toBe(0);
  }

  private async reopen(): Promise<void> {
    await this.volume.close();
    this.nothingToLose();
    this.volume = await this.host.open('drive');
  }

  /** Power is lost; what comes back must be all that was flushed and a prefix of what came after. */
  private async crash(): Promise<void> {
    this.host.disk.losePower(this.random);
    await this.volume.abandon();
    this.volume = await this.host.open('drive');
    const found = await readAll(this.volume);
    this.present = this.prefixThatIs(found);
    await this.flush();
  }

  /**
   * The state after some first part of the changes; of the next, which were made at one time, each
   * block may be old or new.
   */
  private prefixThatIs(found: Uint8Array): Uint8Array<ArrayBuffer> {
    const state = this.durable.slice();
    for (let done = 0; done <= this.since.length; done += 1) {
      if (Buffer.compare(found, state) === 0) return state;
      const next = this.since[done];
      if (next === undefined) break;
      const after = state.slice();
      for (const { offset, bytes } of next) after.set(bytes, offset);
      if (isBlockwiseBetween(found, state, after)) return new Uint8Array(found);
      state.set(after);
    }
    throw new Error('what came back after the crash is no prefix of what was written');
  }
}

function isBlockwiseBetween(found: Uint8Array, before: Uint8Array, after: Uint8Array): boolean {
  for (let at = 0; at < found.byteLength; at += 4096) {
    const block = Buffer.from(found.subarray(at, at + 4096));
    if (block.compare(before, at, at + 4096) !== 0 && block.compare(after, at, at + 4096) !== 0) {
      return false;
    }
  }
  return true;
}

test(`a volume is a plain array of bytes, through reopenings and power cuts (seeds from ${firstSeed})`, async () => {
  for (let at = 0; at < seeds; at += 1) {
    const run = new Run(firstSeed + at);
    await run.run(40).catch((error: unknown) => {
      throw new Error(`MODEL_FIRST_SEED=${run.seed} MODEL_SEEDS=1 fails`, { cause: error });
    });
  }
});
