import { blockBytes } from '../../src/format/geometry.ts';

/** The order of everything that clients see: a number for each call and each answer. */
export class Moments {
  private last = 0;

  next(): number {
    this.last += 1;
    return this.last;
  }
}

/** What one write made of one block. */
export interface Version {
  readonly bytes: Uint8Array;
  /** When the client asked for it. */
  readonly asked: number;
  /** When it was answered; endless while it was not. */
  answered: number;
  /** The same by the volume's log, where it keeps what was. */
  readonly askedMs?: number | undefined;
  answeredMs?: number | undefined;
  /** What came back after a crash says nothing of it: others may have made the same of the volume. */
  readonly isUncertain?: boolean;
  /** Where it was made durable by itself (FUA): on a disk, or in the store (0). */
  pin?: number;
}

/** What was promised to survive: everything answered before `moment`. */
interface Floor {
  readonly moment: number;
  readonly disk: number;
}

/**
 * The reference model: for each block the versions it had, oldest first. After a crash the volume may
 * come back as of any one moment not before what was promised: a version counts from when it was asked
 * for (it may have been done at once) until the next one of its block was answered (which may have
 * been done last). That there is one moment which suits all blocks is what "a prefix" means.
 */
export class History {
  private readonly blocks: Version[][];
  /** Everything answered before this survives whatever happens. */
  private storeFloor = 0;
  /** Everything answered before this survives as long as this disk does. */
  private localFloor: Floor | undefined;
  /** Everything answered before this survives the end of the process, but not of the power. */
  private kernelFloor: Floor | undefined;
  /** Versions that are no part of the volume, because another host has gone on without them. */
  private readonly dead: Version[] = [];
  private isForsaken = false;
  /** Nothing is forgotten: the volume can be gone back to. */
  keepsAll = false;
  /** Moments at which reads began that are still under way. */
  readonly readers = new Set<number>();

  constructor(blocks: Version[][]) {
    this.blocks = blocks;
  }

  static empty(blockCount: number): History {
    const zeroes = new Uint8Array(blockBytes);
    return History.of(Array.from({ length: blockCount }, () => zeroes));
  }

  /** Of a volume that begins with these blocks. */
  static of(contents: readonly Uint8Array[]): History {
    return new History(
      contents.map((bytes) => [{ bytes, asked: 0, answered: 0, askedMs: 0, answeredMs: 0 }]),
    );
  }

  get blockCount(): number {
    return this.blocks.length;
  }

  /** The last version of a block that was asked for. */
  newest(block: number): Version {
    return this.versionsOf(block).at(-1) as Version;
  }

  /**
   * For each block the versions that it may have had at `moment` or after it; those that could be
   * forgotten are there when `moment` is that of a reader.
   */
  versionsSince(moment: number): Version[][] {
    return this.blocks.map((versions) => {
      let first = versions.length - 1;
      while (first > 0 && (versions[first] as Version).answered >= moment) first -= 1;
      return versions.slice(first);
    });
  }

  private versionsOf(block: number): Version[] {
    return this.blocks[block] as Version[];
  }

  /** A write was asked for. */
  ask(block: number, bytes: Uint8Array, asked: number, askedMs?: number): Version {
    const version: Version = { bytes, asked, answered: Number.POSITIVE_INFINITY, askedMs };
    this.versionsOf(block).push(version);
    if (this.isForsaken) this.dead.push(version);
    return version;
  }

  /** What was asked for has not happened, and never will. */
  withdraw(versions: ReadonlySet<Version>): void {
    this.blocks.forEach((all, block) => {
      this.blocks[block] = all.filter((version) => !versions.has(version));
    });
  }

  /** A flush that was asked for at `moment` was answered: `disk` has it all. */
  promiseOnDisk(moment: number, disk: number): void {
    this.localFloor = { moment: Math.max(moment, this.localFloor?.moment ?? 0), disk };
  }

  /** Likewise; the store has it all. */
  promiseInStore(moment: number): void {
    this.storeFloor = Math.max(moment, this.storeFloor);
    const lost = this.dead.find((version) => version.answered < moment);
    if (lost !== undefined) {
      throw new Error(
        'a flush was answered for a write that is not in the volume: another host has it without that',
      );
    }
    this.forget();
  }

  /** What was promised on `disk`, or on any, is void: it is lost, or another host was let go on. */
  renounce(disk = this.localFloor?.disk): void {
    if (this.localFloor?.disk === disk) this.localFloor = undefined;
    this.forgetKernel();
  }

  /** The daemon was killed: what it had answered is in its kernel's hands. */
  leaveToKernel(moment: number, disk: number): void {
    this.kernelFloor = { moment, disk };
  }

  /** The power was lost. */
  forgetKernel(): void {
    this.kernelFloor = undefined;
  }

  /** Forgets versions that nothing can bring back any more, and that no read can still give. */
  private forget(): void {
    if (this.keepsAll) return;
    const before = Math.min(this.storeFloor, ...this.readers);
    for (const versions of this.blocks) {
      let keep = versions.length - 1;
      while (keep > 0 && (versions[keep] as Version).answered >= before) keep -= 1;
      if (keep > 0) versions.splice(0, keep);
    }
  }

  /**
   * Whether a read that took from `asked` to `answered` may have given these bytes for a block, from
   * its byte `within` on.
   */
  allows(
    block: number,
    bytes: Uint8Array,
    within: number,
    asked: number,
    answered: number,
  ): boolean {
    const versions = this.versionsOf(block);
    const end = within + bytes.byteLength;
    for (let at = versions.length - 1; at >= 0; at -= 1) {
      const version = versions[at] as Version;
      const isYet = version.asked < answered;
      if (isYet && Buffer.compare(version.bytes.subarray(within, end), bytes) === 0) return true;
      // All before this one were over when the read began.
      if (version.answered < asked) return false;
    }
    return false;
  }

  /**
   * What the volume came back as, as a history to go on from; throws when no moment suits it. This one
   * stays as it is, for a writer that may still be alive.
   */
  resume(contents: readonly Uint8Array[], now: number, nowMs?: number): History {
    const floor = Math.max(
      this.localFloor?.moment ?? 0,
      this.kernelFloor?.moment ?? 0,
      this.storeFloor,
    );
    // What was asked for later than the log has gone is not in it, though its bytes may be the same.
    // What was answered, or came back before, may be of a host whose clock was ahead of this one's.
    const isThere = (block: number, { version }: Span): boolean => {
      const { answered, askedMs = 0 } = this.versionsOf(block)[version] as Version;
      return answered < Number.POSITIVE_INFINITY || askedMs <= (nowMs ?? 0);
    };
    const spans = contents.map((bytes, block) =>
      this.spansOf(block, bytes).filter((span) => isThere(block, span)),
    );
    const moment = latestCommon(spans);
    if (moment === undefined || moment.until <= floor) throw this.broken(spans, floor, moment);
    const earliest = commonSpans(spans)
      .reverse()
      .find(({ until }) => until > floor) as Span;
    const blocks = this.blocks.map((versions, block) => {
      const span = (spans[block] as Span[]).find((span) => includes(span, moment.from)) as Span;
      // What came back has happened, whether its writer ever heard or not.
      return versions.slice(0, span.version + 1).map((version) => ({
        ...version,
        answered: version.answered === Number.POSITIVE_INFINITY ? now : version.answered,
        answeredMs: version.answeredMs ?? nowMs,
        isUncertain: version.isUncertain === true || version.answered > earliest.from,
      }));
    });
    const resumed = new History(blocks);
    resumed.storeFloor = this.storeFloor;
    resumed.localFloor = this.localFloor;
    resumed.keepsAll = this.keepsAll;
    this.forsake(blocks);
    return resumed;
  }

  /**
   * Throws unless this is the volume as of a time by its log: as of one moment, with nothing that was
   * asked for at that time or later, and with all that was answered before, unless `mayEndEarlier`.
   */
  requireAsOf(contents: readonly Uint8Array[], timeMs: number, mayEndEarlier: boolean): void {
    const spans = contents.map((bytes, block) =>
      this.spansAsOf(this.versionsOf(block), bytes, timeMs, mayEndEarlier),
    );
    const strange = spans.findIndex((list) => list.length === 0);
    if (strange >= 0) throw new Error(`as of ${timeMs}, block ${strange} is as it was not then`);
    if (latestCommon(spans) === undefined)
      throw new Error(`as of ${timeMs}, no moment suits all blocks`);
  }

  /** When a block may have had these bytes, of the versions that count as of a time. */
  private spansAsOf(
    versions: readonly Version[],
    bytes: Uint8Array,
    timeMs: number,
    mayEndEarlier: boolean,
  ): Span[] {
    const spans: Span[] = [];
    let until = Number.POSITIVE_INFINITY;
    for (let at = versions.length - 1; at >= 0; at -= 1) {
      const version = versions[at] as Version;
      const { asked, answered, askedMs = 0, answeredMs, bytes: own } = version;
      if (askedMs < timeMs && Buffer.compare(own, bytes) === 0) {
        spans.push({ from: asked, until, version: at });
      }
      if (version.isUncertain === true) continue;
      until = Math.min(until, answered);
      if (answeredMs !== undefined && answeredMs < timeMs && !mayEndEarlier) break;
    }
    return spans;
  }

  /** A time at which something was asked for or answered, or shortly after it. */
  eventTimeMs(share: number, fromMs: number, throughMs: number): number {
    const times = this.blocks
      .flat()
      .flatMap(({ askedMs = 0, answeredMs = 0 }) => [
        askedMs,
        askedMs + 1,
        answeredMs,
        answeredMs + 1,
      ])
      .filter((timeMs) => timeMs >= fromMs && timeMs <= throughMs);
    return times[Math.floor(share * times.length)] ?? fromMs;
  }

  /** What a host finds that has been overtaken before it looked: none of it counts. */
  branch(contents: readonly Uint8Array[]): History {
    const branch = new History(contents.map((bytes) => [{ bytes, asked: 0, answered: 0 }]));
    branch.isForsaken = true;
    return branch;
  }

  /** From now on another host has the volume, with only `kept` of each block's versions. */
  private forsake(kept: readonly Version[][]): void {
    if (!this.isForsaken) {
      this.blocks.forEach((versions, block) => {
        this.dead.push(...versions.slice((kept[block] as Version[]).length));
      });
    }
    this.isForsaken = true;
  }

  /** When a block may have had these bytes, latest first. */
  private spansOf(block: number, bytes: Uint8Array): Span[] {
    const versions = this.versionsOf(block);
    const spans: Span[] = [];
    let until = Number.POSITIVE_INFINITY;
    for (let at = versions.length - 1; at >= 0; at -= 1) {
      const version = versions[at] as Version;
      const isSame = Buffer.compare(version.bytes, bytes) === 0;
      if (isSame) spans.push({ from: version.asked, until, version: at });
      until = this.isPinned(version) ? 0 : Math.min(until, version.answered);
    }
    return spans;
  }

  private isPinned({ pin }: Version): boolean {
    return pin !== undefined && (pin === 0 || pin === this.localFloor?.disk);
  }

  private broken(spans: readonly Span[][], floor: number, moment: Span | undefined): Error {
    const strange = spans.findIndex((list) => list.length === 0);
    if (strange >= 0) return new Error(`block ${strange} came back as it never was`);
    const early = spans.findIndex((list) => (list[0] as Span).until <= floor);
    if (early >= 0) {
      return new Error(
        `block ${early} came back without a write that was answered and flushed (before moment ${floor})`,
      );
    }
    return new Error(
      `what came back is no prefix of what was written: a later write is there without an earlier one (${moment === undefined ? 'no moment suits all blocks' : `the latest that does is before moment ${floor}`})`,
    );
  }
}

/** From `from` on, and before `until`, a block had what its version number `version` made of it. */
interface Span {
  readonly from: number;
  readonly until: number;
  readonly version: number;
}

function includes(span: Span, moment: number): boolean {
  return span.from <= moment && moment < span.until;
}

/** The latest span that lies within one of each block's: the moment as of which all blocks are. */
function latestCommon(spans: readonly Span[][]): Span | undefined {
  return commonSpans(spans, 1)[0];
}

/** The spans that lie within one of each block's, the latest first; so many at most. */
function commonSpans(spans: readonly Span[][], maximum = Number.POSITIVE_INFINITY): Span[] {
  const starts = new Set(spans.flatMap((list) => list.map(({ from }) => from)));
  const common: Span[] = [];
  for (const from of [...starts].sort((a, b) => b - a)) {
    if (common.length >= maximum) break;
    let until = Number.POSITIVE_INFINITY;
    for (const list of spans) {
      let own = 0;
      for (const span of list) if (includes(span, from)) own = Math.max(own, span.until);
      until = Math.min(until, own);
    }
    if (until > from) common.push({ from, until, version: 0 });
  }
  return common;
}
