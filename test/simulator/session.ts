import type { Random } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/base/block-device.ts';
import { StorageError, toStorageError } from '../../src/base/errors.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { type Clients, RefusedRequest } from './clients.ts';
import type { History, Version } from './history.ts';
import type { Life } from './process.ts';
import { chance, pick } from './random.ts';
import type { Sizes } from './sizes.ts';
import { SnapshotRequests } from './snapshot-requests.ts';
import { requestSpace } from './space.ts';
import type { Trace } from './trace.ts';
import { blockBytes, type Contents, patched } from './contents.ts';
import type { VersionSurroundings } from './version-requests.ts';

/** What a session needs of the world that it is in. */
export interface Surroundings extends VersionSurroundings {
  readonly trace: Trace;
  readonly contents: Contents;
  readonly disk: number;
  readonly pastRandom: Random;
  /** Whether the volume can be gone back to. */
  readonly keepsPast: boolean;
  /** Goes back to a moment of the volume, and compares. */
  travel(session: Session): Promise<void>;
  /** Every answered write is as durable as one with FUA. */
  readonly isWriteThrough: boolean;
  /** Whether this error may be, as things are. */
  isExcused(error: StorageError, session: Session): boolean;
  /** How large the volume may be; nothing, for one that another host has. */
  sizes(session: Session): Sizes | undefined;
  /** What the store says of its size, as long as this session's writer has it. */
  storedBytes(session: Session): number | undefined;
  fail(error: unknown): void;
  counted(): void;
}

interface Range {
  readonly first: number;
  readonly count: number;
}

/** Blocks of one request at most. */
const longestRange = 12;

/**
 * The clients of one attached volume. They write what only they can have written, never a block that
 * another of them is writing, and compare every byte that they read with what the history allows.
 */
export class Session {
  readonly volume: Volume;
  readonly life: Life;
  readonly epoch: number;
  readonly isStoreDurable: boolean;
  history: History;
  /** What it found was compared, and the volume is what it makes of it. */
  isAdopted = false;
  /** The volume has failed or is gone; nothing more is asked of it. */
  isOver = false;
  /** Its clients ask for nothing more. */
  isEnding = false;
  /** It is being given up, which takes as long as the store does. */
  isClosing = false;
  /** Requests without an answer. */
  underWay = 0;
  readonly snapshots: SnapshotRequests;
  private readonly around: Surroundings;
  /** The network's, where there is one. */
  private readonly clients: Clients | undefined;
  /** What the clients ask. */
  private readonly device: BlockDevice;
  private readonly busy: Uint8Array;
  private isGrowing = false;

  constructor(
    volume: Volume,
    clients: Clients | undefined,
    life: Life,
    history: History,
    around: Surroundings,
  ) {
    this.volume = volume;
    this.clients = clients;
    this.device = clients ?? volume;
    this.life = life;
    this.history = history;
    this.around = around;
    this.snapshots = new SnapshotRequests(this, around);
    const { epoch, durability } = volume.statistics();
    this.epoch = epoch;
    this.isStoreDurable = durability === 'store';
    this.busy = new Uint8Array(history.blockCount);
  }

  /** Blocks that the volume has now; nobody may rely on more than the store says. */
  private get blockCount(): number {
    const { sizeBytes } = this.volume;
    const storedBytes = this.around.storedBytes(this);
    if (storedBytes !== undefined && sizeBytes > storedBytes) {
      this.around.fail(new Error('the volume is larger than the store says'));
    }
    return sizeBytes / blockBytes;
  }

  /**
   * All blocks, as they come back; those that the volume does not have are zeroes, as they must be
   * when it gets them. `undefined` when that cannot be had.
   */
  async readAll(): Promise<Uint8Array[] | undefined> {
    const whole = new Uint8Array(this.history.blockCount * blockBytes);
    const present = whole.subarray(0, this.volume.sizeBytes);
    for (let tries = 0; tries < 20 && this.life.isAlive; tries += 1) {
      if (await this.attempt('readAll', 0, () => this.device.read(0, present))) {
        return Array.from({ length: this.history.blockCount }, (_, block) =>
          whole.slice(block * blockBytes, (block + 1) * blockBytes),
        );
      }
      if (this.isOver || this.volume.ended) return undefined;
      await this.pause(20);
    }
    return undefined;
  }

  /** `laneCount` clients do `count` requests in all. */
  async work(laneCount: number, count: number): Promise<void> {
    let left = count;
    const lane = async (): Promise<void> => {
      while (left > 0 && !this.isOver && !this.isEnding && this.life.isAlive) {
        left -= 1;
        this.around.counted();
        await this.request();
        if (chance(this.around.random, 0.4)) await this.pause(4);
      }
    };
    await Promise.all(Array.from({ length: laneCount }, lane));
  }

  private pause(longestMs: number): Promise<void> {
    const { random } = this.around;
    return new Promise((resolve) => {
      this.life.scheduler.after(random.fraction() * longestMs, resolve);
    });
  }

  private request(): Promise<void> {
    if (this.around.keepsPast && chance(this.around.pastRandom, 0.02)) {
      return this.attempt('travel', 0, () => this.around.travel(this)).then(() => undefined);
    }
    const kind = this.around.random.fraction();
    if (this.mayGrow && kind > 0.98) return this.grow();
    if (kind < 0.4) return this.write();
    if (kind < 0.48) return this.writePart();
    if (kind < 0.52) return this.writeParts();
    if (kind < 0.58) return this.zero();
    if (kind < 0.64) return this.trim();
    if (kind < 0.8) return this.read();
    if (kind < 0.82) return this.status();
    if (kind < 0.84) return kind < 0.825 ? requestSpace(this) : this.prefetch();
    if (kind < 0.88) return this.snapshots.request();
    return this.flush().then(() => undefined);
  }

  /** Asks the daemon; false when it answered with an error, which must have an excuse. */
  async attempt(
    name: string,
    at: number,
    ask: () => Promise<unknown> | undefined,
  ): Promise<boolean> {
    const { trace } = this.around;
    this.underWay += 1;
    try {
      // On the network only the answer waits for a daemon that sleeps.
      const asleep = this.clients === undefined ? this.life.awake() : undefined;
      if (asleep !== undefined) await asleep;
      trace.add(name, 'asked', at);
      const done = ask();
      if (done !== undefined) await done;
      trace.add(name, 'answered', at);
      return true;
    } catch (thrown) {
      const errors = errorsOf(thrown);
      trace.add(name, errors[0]?.message ?? '', at);
      if (!errors.some((error) => this.around.isExcused(error, this))) this.around.fail(thrown);
      if (this.volume.ended || this.volume.statistics().failure !== undefined) this.isOver = true;
      return false;
    } finally {
      this.underWay -= 1;
    }
  }

  private range(longest = longestRange): Range {
    const { random } = this.around;
    const { blockCount } = this;
    const first = pick(random, blockCount);
    const wanted = chance(random, 0.6) ? 1 : 1 + pick(random, longest);
    return { first, count: Math.min(wanted, blockCount - first) };
  }

  /** A range that nobody else is writing, for this client alone; `undefined` when it is taken. */
  private take(range: Range): boolean {
    const { first, count } = range;
    for (let at = first; at < first + count; at += 1) if (this.busy[at] === 1) return false;
    this.busy.fill(1, first, first + count);
    return true;
  }

  /** Makes new versions of blocks, does what `ask` does, and notes the answer. */
  private async change(
    name: string,
    range: Range,
    bytesOf: (block: number) => Uint8Array,
    ask: (fua: boolean) => Promise<void> | undefined,
  ): Promise<void> {
    const { moments, random } = this.around;
    const asked = moments.next();
    const askedMs = this.logTimeMs();
    const versions: Version[] = [];
    for (let block = range.first; block < range.first + range.count; block += 1) {
      versions.push(this.history.ask(block, bytesOf(block), asked, askedMs));
    }
    const fua = chance(random, 0.08);
    if (await this.attempt(fua ? `${name}+fua` : name, range.first, () => ask(fua))) {
      const answered = moments.next();
      this.answered(versions, answered);
      if (fua || this.around.isWriteThrough) this.promise(asked, versions);
    }
    this.release(range);
  }

  private answered(versions: readonly Version[], answered: number): void {
    const answeredMs = this.logTimeMs();
    for (const version of versions) Object.assign(version, { answered, answeredMs });
  }

  /** The time by the volume's log; `undefined` where nobody asks for it. */
  private logTimeMs(): number | undefined {
    return this.around.keepsPast ? this.volume.logTimeMs : undefined;
  }

  async write(range = this.range()): Promise<void> {
    if (!this.take(range)) return;
    const { contents } = this.around;
    const bytes = new Uint8Array(range.count * blockBytes);
    for (let at = 0; at < range.count; at += 1) contents.fillBlock(bytes, at * blockBytes);
    const blockOf = (block: number): Uint8Array => {
      const start = (block - range.first) * blockBytes;
      return bytes.subarray(start, start + blockBytes);
    };
    const offset = range.first * blockBytes;
    await this.change('write', range, blockOf, (fua) => this.device.write(offset, bytes, { fua }));
  }

  /** Writes bytes that begin or end within blocks, of which what was there must be known. */
  private async writePart(): Promise<void> {
    const range = this.range(3);
    if (!this.isSettled(range) || !this.take(range)) return;
    const { random, contents } = this.around;
    const start = range.first * blockBytes + pick(random, blockBytes);
    const end = (range.first + range.count) * blockBytes - pick(random, blockBytes);
    if (end <= start) return this.release(range);
    const bytes = new Uint8Array(end - start);
    contents.fillAny(bytes);
    await this.change(
      'writePart',
      range,
      (block) => patched(this.history.newest(block).bytes, block * blockBytes, bytes, start),
      (fua) => this.device.write(start, bytes, { fua }),
    );
  }

  /** Two clients write parts of one block at the same time: both stay, in whatever order. */
  private async writeParts(): Promise<void> {
    const range = this.range(1);
    if (!this.isSettled(range) || !this.take(range)) return;
    const { random, contents, moments } = this.around;
    const start = range.first * blockBytes;
    const cut = 1 + pick(random, blockBytes - 2);
    const whole = new Uint8Array(blockBytes);
    contents.fillAny(whole);
    const [head, tail] = [whole.subarray(0, cut), whole.subarray(cut)];
    const before = this.history.newest(range.first).bytes;
    const asked = moments.next();
    const askedMs = this.logTimeMs();
    const versions = [
      patched(before, start, head, start),
      patched(before, start, tail, start + cut),
      whole,
    ].map((bytes) => this.history.ask(range.first, bytes, asked, askedMs));
    const done = await Promise.all([
      this.attempt('writePart', start, () => this.device.write(start, head, { fua: false })),
      this.attempt('writePart', start + cut, () =>
        this.device.write(start + cut, tail, { fua: false }),
      ),
    ]);
    if (done.every((isDone) => isDone)) {
      const answered = moments.next();
      this.answered(versions, answered);
    }
    this.release(range);
  }

  async zero(range = this.range()): Promise<void> {
    const { random } = this.around;
    if (!this.isSettled(range) || !this.take(range)) return;
    const isWhole = chance(random, 0.6);
    const start = range.first * blockBytes + (isWhole ? 0 : pick(random, blockBytes));
    const end = (range.first + range.count) * blockBytes - (isWhole ? 0 : pick(random, blockBytes));
    if (end <= start) return this.release(range);
    const mayPunchHole = chance(random, 0.5);
    const zeroes = new Uint8Array(end - start);
    await this.change(
      'zero',
      range,
      (block) => patched(this.history.newest(block).bytes, block * blockBytes, zeroes, start),
      (fua) => this.device.zero(start, end - start, { fua, mayPunchHole }),
    );
  }

  async trim(range = this.range(2 * longestRange)): Promise<void> {
    const { random } = this.around;
    if (!this.take(range)) return;
    const zeroes = new Uint8Array(blockBytes);
    // Bytes of blocks that are not trimmed whole stay as they are.
    const before = range.first === 0 ? 0 : pick(random, blockBytes);
    const offset = range.first * blockBytes - before;
    await this.change(
      'trim',
      range,
      () => zeroes,
      (fua) => this.device.trim(offset, range.count * blockBytes + before, { fua }),
    );
  }

  private get mayGrow(): boolean {
    const { volume, around, isGrowing } = this;
    return !isGrowing && volume.sizeBytes < (around.sizes(this)?.maximum ?? 0) * blockBytes;
  }

  /** Makes the volume larger, while other clients use it. */
  async grow(wanted?: number): Promise<void> {
    const sizes = this.around.sizes(this);
    if (sizes === undefined) return;
    const { largest, maximum } = sizes;
    const blocks = wanted ?? largest + pick(this.around.random, maximum - largest + 1);
    const answered = sizes.ask(blocks);
    this.isGrowing = true;
    const sizeBytes = blocks * blockBytes;
    if (await this.attempt('grow', blocks, () => this.volume.grow(sizeBytes))) {
      if (this.around.sizes(this) === sizes) answered();
      if ((this.around.storedBytes(this) ?? sizeBytes) !== sizeBytes) {
        this.around.fail(new Error('a size was answered that the store does not have'));
      }
    }
    this.isGrowing = false;
  }

  /** Cuts the volume off, while nobody else uses it; what was cut off is zero when it comes again. */
  async shrink(wanted?: number): Promise<void> {
    const sizes = this.around.sizes(this);
    const { blockCount } = this;
    const first = wanted ?? 1 + pick(this.around.random, blockCount);
    const range = { first, count: blockCount - first };
    if (sizes === undefined || range.count <= 0 || !this.take(range)) return;
    const { moments } = this.around;
    const askedMs = this.logTimeMs();
    const asked = moments.next();
    const zeroes = new Uint8Array(blockBytes);
    const versions = Array.from({ length: range.count }, (_, at) =>
      this.history.ask(first + at, zeroes, asked, askedMs),
    );
    const answered = sizes.ask(first);
    if (await this.attempt('shrink', first, () => this.volume.shrink(first * blockBytes))) {
      if (this.around.sizes(this) === sizes) answered();
      this.answered(versions, moments.next());
      this.promiseInStore(asked, versions);
    } else {
      // Nobody knows what it is now, until it is attached again.
      this.isOver = true;
    }
    this.release(range);
  }

  /** All of that is in the store. */
  private promiseInStore(moment: number, pinned: readonly Version[]): void {
    try {
      this.history.promiseInStore(moment);
      for (const version of pinned) version.pin = 0;
    } catch (error) {
      this.around.fail(error);
    }
  }

  private isSettled({ first, count }: Range): boolean {
    for (let block = first; block < first + count; block += 1) {
      if (this.history.newest(block).answered === Number.POSITIVE_INFINITY) return false;
    }
    return true;
  }

  private release({ first, count }: Range): void {
    this.busy.fill(0, first, first + count);
  }

  private async read(): Promise<void> {
    const { random, moments } = this.around;
    const range = this.range();
    const cut = chance(random, 0.7) ? 0 : pick(random, blockBytes);
    const bytes = new Uint8Array(range.count * blockBytes - cut);
    const offset = range.first * blockBytes + cut;
    const asked = moments.next();
    this.history.readers.add(asked);
    const isRead = await this.attempt('read', offset, () => this.device.read(offset, bytes));
    this.history.readers.delete(asked);
    if (!isRead) return;
    const answered = moments.next();
    for (let at = 0; at < range.count; at += 1) {
      const skip = at === 0 ? cut : 0;
      const from = at * blockBytes - cut + skip;
      const part = bytes.subarray(from, from + blockBytes - skip);
      if (!this.history.allows(range.first + at, part, skip, asked, answered)) {
        this.around.fail(new Error(`a read gave bytes that block ${range.first + at} cannot have`));
      }
    }
  }

  /** What is said to be zero must be. */
  private async status(): Promise<void> {
    const { moments } = this.around;
    const { first, count } = this.range(2 * longestRange);
    const asked = moments.next();
    this.history.readers.add(asked);
    const status = async (): Promise<void> => {
      const extents = await this.device.status(first * blockBytes, count * blockBytes, 100);
      const zeroes = new Uint8Array(blockBytes);
      let block = first;
      for (const { lengthBytes, zero } of extents) {
        const end = block + lengthBytes / blockBytes;
        for (; block < end; block += 1) {
          if (!zero || this.history.allows(block, zeroes, 0, asked, moments.next())) continue;
          this.around.fail(new Error(`block ${block} was said to be zero and is not`));
        }
      }
    };
    await this.attempt('status', first, status);
    this.history.readers.delete(asked);
  }

  private async prefetch(): Promise<void> {
    const { first, count } = this.range();
    const fetch = () => this.device.prefetch(first * blockBytes, count * blockBytes);
    await this.attempt('prefetch', first, fetch);
  }

  /** Whether it was answered. */
  async flush(): Promise<boolean> {
    const asked = this.around.moments.next();
    if (!(await this.attempt('flush', 0, () => this.device.flush()))) return false;
    this.promise(asked, []);
    return true;
  }

  /** What was answered before `moment`, and `pinned`, is durable from now on. */
  private promise(moment: number, pinned: readonly Version[]): void {
    const { disk } = this.around;
    try {
      if (this.isStoreDurable) {
        this.history.promiseInStore(moment);
        for (const version of pinned) version.pin = 0;
      } else if (!this.life.isContested) {
        this.history.promiseOnDisk(moment, disk);
        for (const version of pinned) version.pin = disk;
      }
    } catch (error) {
      this.around.fail(error);
    }
  }

  /** Gives the volume up in order; then the store has everything. */
  async close(): Promise<boolean> {
    this.isOver = true;
    this.isClosing = true;
    // One that comes too late is refused, or made.
    if (chance(this.around.random, 0.1)) void this.snapshots.create(false);
    const asked = this.around.moments.next();
    if (!(await this.attempt('close', 0, () => this.giveUp()))) return false;
    this.history.promiseInStore(asked);
    return true;
  }

  private async giveUp(): Promise<void> {
    if (this.clients !== undefined) await this.clients.leave();
    await this.volume.close();
  }
}

/** What a client was told; one on the network knows only which errors share its number. */
function errorsOf(thrown: unknown): StorageError[] {
  if (!(thrown instanceof RefusedRequest)) return [toStorageError(thrown)];
  return thrown.codes.map((code) => new StorageError(code, `${code}: ${thrown.message}`));
}
