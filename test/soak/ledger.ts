/**
 * What was written to a volume and when, and whether an image of it is the volume as of one moment.
 *
 * Every write has a number of its own, whatever volume it is to, and each block says which write it
 * is. Writes have an order only where one was answered before the other was sent. An image is right
 * when it is closed under that order (no write without all before it), holds all that was answered
 * before the moments in question, and nothing that was sent after them.
 */
import { blockBytes, decodeBlock, Violation } from '../crash/history.ts';

/** One block of one write. */
export interface Version {
  /** 0 for zeroes. */
  readonly sequence: number;
  readonly sentAt: number;
  /** Infinite when no answer came. */
  answeredAt: number;
}

/** The numbers and the moments of all volumes that may share blocks. */
export class Sequences {
  #last = 0;
  #moment = 0;

  next(): number {
    this.#last += 1;
    return this.#last;
  }

  /** A moment after all that were given before. */
  now(): number {
    this.#moment += 1;
    return this.#moment;
  }
}

/** Which write each block of an image is of. */
export type Contents = readonly number[];

/** What an image says of itself; a violation where it says nothing that is whole. */
export function contentsOf(image: Uint8Array): Contents {
  return Array.from({ length: image.byteLength / blockBytes }, (_, block) =>
    decodeBlock(image.subarray(block * blockBytes, (block + 1) * blockBytes), block),
  );
}

/** Throws when two contents differ. */
export function requireSame(found: Contents, expected: Contents, what: string): void {
  if (found.length !== expected.length) {
    throw new Violation(`${what} has ${found.length} blocks, not ${expected.length}`);
  }
  found.forEach((sequence, block) => {
    if (sequence === expected[block]) return;
    throw new Violation(
      `${what}: block ${block} is of write ${sequence}, not of write ${expected[block]}`,
    );
  });
}

export class Ledger {
  readonly #sequences: Sequences;
  #blocks: Version[][] = [];

  constructor(sequences: Sequences, contents: Contents) {
    this.#sequences = sequences;
    this.settle(contents);
  }

  get blockCount(): number {
    return this.#blocks.length;
  }

  /** From now on the volume holds this, and nothing else is under way. */
  settle(contents: Contents): void {
    const now = this.#sequences.now();
    this.#blocks = contents.map((sequence) => [{ sequence, sentAt: now, answeredAt: now }]);
  }

  /** The volume has this many blocks from now on; new ones are zeroes. */
  resize(blockCount: number): void {
    const now = this.#sequences.now();
    while (this.#blocks.length < blockCount) {
      this.#blocks.push([{ sequence: 0, sentAt: now, answeredAt: now }]);
    }
    this.#blocks.length = blockCount;
  }

  /** A write is about to be sent; `sequence` 0 for zeroes. */
  send(firstBlock: number, count: number, sequence: number): readonly Version[] {
    const sentAt = this.#sequences.now();
    return this.#blocks.slice(firstBlock, firstBlock + count).map((versions) => {
      const version = { sequence, sentAt, answeredAt: Number.POSITIVE_INFINITY };
      versions.push(version);
      return version;
    });
  }

  answer(versions: readonly Version[]): void {
    const now = this.#sequences.now();
    for (const version of versions) version.answeredAt = now;
  }

  /**
   * That the contents are those of one moment between `from` and `to`: all that was answered before
   * `from` is there, nothing that was sent after `to`, and no write without all before it. The volume
   * had `blockCount` blocks then.
   */
  requireMoment(
    contents: Contents,
    from: number,
    to: number,
    what: string,
    blockCount = this.blockCount,
  ): void {
    if (contents.length !== blockCount) {
      throw new Violation(`${what} has ${contents.length} blocks, not ${blockCount}`);
    }
    const found = this.#blocks.slice(0, blockCount).map((versions, block) => {
      const sequence = contents[block];
      const possible = versions.filter(
        (version) => version.sequence === sequence && version.sentAt <= to,
      );
      if (possible.length > 0) return possible;
      throw new Violation(`${what}: block ${block} is of write ${sequence}, which is not of then`);
    });
    // Something that was sent then is there: so must be all that was answered before.
    const reachedAt = found.reduce(
      (latest, possible) => Math.max(latest, Math.min(...possible.map(({ sentAt }) => sentAt))),
      from,
    );
    found.forEach((possible, block) => {
      const due = (this.#blocks[block] ?? []).filter(({ answeredAt }) => answeredAt < reachedAt);
      const isRight = possible.some(
        (version) => !due.some((later) => version.answeredAt < later.sentAt),
      );
      if (isRight) return;
      throw new Violation(
        `${what}: block ${block} is of write ${contents[block]}; write ${due.at(-1)?.sequence} is missing, which was answered before moment ${reachedAt} (asked for from ${from} to ${to})`,
      );
    });
  }
}
