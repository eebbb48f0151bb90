/**
 * What clients were told about a volume, and which contents that leaves possible after a crash.
 *
 * Each block that was written says which write it is, so what is found names what survived. Writes
 * have an order only where one was answered before the other was sent; between those under way at
 * once any order is right. What survives must be closed under that order (a prefix), and must hold
 * all that was flushed. What was found after a crash stays on that disk; when the disk is lost, any
 * prefix of what was found is right, unless the promise is that flushed writes outlive the disk.
 */
import { crc32 } from 'node:zlib';

export const blockBytes = 4096;

/** One block of one write, trim or write of zeroes. */
interface Write {
  /** 0 for zeroes. */
  readonly sequence: number;
  readonly sentAt: number;
  /** When the answer came; infinite when none did. */
  answeredAt: number;
  flushed: boolean;
  /** Found after a crash, or overwritten by what was: this disk must not lose it any more. */
  recovered: boolean;
  /** Orders the writes of one block by what was seen of it after crashes. */
  rank: number;
}

/** A request that changes blocks, between sending and answer. */
export interface Sent {
  readonly sequence: number;
  readonly writes: readonly Write[];
}

/**
 * What must be there besides being a prefix. On the disk that it was written on: `answered`, all that
 * was; `disk`, all that was flushed or found after a crash. Elsewhere: `all`, after an orderly end;
 * `flushed`; or `prefix`, nothing.
 */
export type Promised = 'answered' | 'disk' | 'all' | 'flushed' | 'prefix';

/** The volume holds what it may not. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

const magic = 0x4352_5348;
const headerBytes = 20;

/** The bytes of a block: who wrote it, where it belongs, what it sums to, and filling. */
export function encodeBlock(into: Uint8Array, sequence: number, block: number): void {
  const view = new DataView(into.buffer, into.byteOffset, blockBytes);
  // Half of the blocks can be compressed, half cannot: both ways of storing a frame are taken.
  let filling = Math.imul(sequence, 0x9e37_79b1) ^ block;
  for (let at = headerBytes; at < blockBytes; at += 4) {
    if (block % 2 === 0) filling = Math.imul(filling ^ (filling >>> 15), 0x2c1b_3c6d) + at;
    view.setUint32(at, filling);
  }
  view.setUint32(0, magic);
  view.setUint32(4, Math.floor(sequence / 2 ** 32));
  view.setUint32(8, sequence >>> 0);
  view.setUint32(12, block);
  view.setUint32(16, crc32(into.subarray(headerBytes, blockBytes), block) ^ (sequence >>> 0));
}

/** Which write a block says it is; 0 for zeroes. A violation when it says nothing that is whole. */
export function decodeBlock(bytes: Uint8Array, block: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, blockBytes);
  if (view.getUint32(0) !== magic) {
    if (bytes.every((byte) => byte === 0)) return 0;
    throw new Violation(`block ${block} holds bytes that nobody wrote`);
  }
  const sequence = view.getUint32(4) * 2 ** 32 + view.getUint32(8);
  const sum = (crc32(bytes.subarray(headerBytes, blockBytes), block) ^ (sequence >>> 0)) >>> 0;
  if (view.getUint32(12) !== block || view.getUint32(16) !== sum) {
    throw new Violation(
      `block ${block} says it is block ${view.getUint32(12)} of write ${sequence}, and is torn or elsewhere's`,
    );
  }
  return sequence;
}

export class History {
  readonly blockCount: number;
  #clock = 0;
  #rank = 1;
  #lastSequence = 0;
  /** By block: what was there when the history began, then all that was written since. */
  readonly #blocks: Write[][];
  /** Answered, and not flushed yet. */
  #volatile: Write[] = [];

  constructor(blockCount: number) {
    this.blockCount = blockCount;
    this.#blocks = Array.from({ length: blockCount }, () => [original(0)]);
  }

  /** A write is about to be sent; its sequence number is what its blocks are to be encoded with. */
  send(firstBlock: number, count: number, zeroes = false): Sent {
    this.#lastSequence += 1;
    const sequence = this.#lastSequence;
    const sentAt = this.#tick();
    const writes: Write[] = [];
    for (let block = firstBlock; block < firstBlock + count; block += 1) {
      const write = {
        sequence: zeroes ? 0 : sequence,
        sentAt,
        answeredAt: Number.POSITIVE_INFINITY,
        flushed: false,
        recovered: false,
        rank: this.#rank,
      };
      writes.push(write);
      this.#blocks[block]?.push(write);
    }
    return { sequence, writes };
  }

  answer(sent: Sent, fua = false): void {
    const now = this.#tick();
    for (const write of sent.writes) {
      write.answeredAt = now;
      write.flushed = fua;
      if (!fua) this.#volatile.push(write);
    }
  }

  /** A flush is about to be sent; give the result to `flushed` when it is answered. */
  sendFlush(): number {
    return this.#tick();
  }

  flushed(sentAt: number): void {
    this.#volatile = this.#volatile.filter((write) => {
      if (write.answeredAt < sentAt) write.flushed = true;
      return !write.flushed;
    });
  }

  /**
   * Checks what the whole volume reads as, and goes on from it. Returns how many writes were answered
   * and are not there.
   */
  verify(image: Uint8Array, promised: Promised): number {
    const isPromised = promises[promised];
    const found = this.#blocks.map((writes, block) =>
      this.#candidates(writes, image.subarray(block * blockBytes, (block + 1) * blockBytes), block),
    );
    // All that was answered before `reachedAt` must be there: something sent then is, or must be.
    let reachedAt = 0;
    for (const candidates of found) {
      reachedAt = Math.max(reachedAt, Math.min(...candidates.map((write) => write.sentAt)));
    }
    for (const write of this.#blocks.flat()) {
      if (isPromised(write)) reachedAt = Math.max(reachedAt, write.sentAt);
    }
    let lost = 0;
    this.#volatile = [];
    this.#blocks.forEach((writes, block) => {
      const candidates = found[block] as Write[];
      const forced = writes.filter((write) => isPromised(write) || write.answeredAt < reachedAt);
      const kept = candidates.find(
        (candidate) => !forced.some((write) => precedes(candidate, write)),
      );
      if (kept === undefined) throw violation(block, candidates, forced, reachedAt, isPromised);
      const gone = writes.filter((write) => precedes(kept, write));
      lost += gone.filter(isAnswered).length;
      this.#blocks[block] =
        promised === 'disk' || promised === 'answered'
          ? this.#recovered(writes, kept)
          : [original(kept.sequence)];
    });
    this.#rank += 2;
    return lost;
  }

  /** What a block may hold from now on: what was found, or before it what the store may still have. */
  #recovered(writes: readonly Write[], kept: Write): Write[] {
    const possible = writes.filter((write) => !precedes(kept, write));
    kept.answeredAt = Math.min(kept.answeredAt, this.#tick());
    kept.rank = this.#rank + 1;
    kept.recovered = true;
    return possible;
  }

  /** The writes that a block's content may come from. */
  #candidates(writes: readonly Write[], bytes: Uint8Array, block: number): Write[] {
    const sequence = decodeBlock(bytes, block);
    const candidates = writes.filter((write) => write.sequence === sequence);
    if (candidates.length > 0) return candidates;
    const what = sequence === 0 ? 'reads as zeroes' : `holds write ${sequence}`;
    throw new Violation(
      `block ${block} ${what}, which was overwritten before, or never written there`,
    );
  }

  #tick(): number {
    this.#clock += 1;
    return this.#clock;
  }
}

/** What a history begins with: before all else, in the store for good. */
function original(sequence: number): Write {
  return { sequence, sentAt: 0, answeredAt: 0, flushed: true, recovered: true, rank: 0 };
}

const isAnswered = (write: Write): boolean => Number.isFinite(write.answeredAt);
const promises: Readonly<Record<Promised, (write: Write) => boolean>> = {
  answered: isAnswered,
  disk: (write) => write.flushed || write.recovered,
  flushed: (write) => write.flushed,
  prefix: () => false,
  all: isAnswered,
};

/** Whether, of two writes of one block, the second surely replaced the first. */
function precedes(first: Write, second: Write): boolean {
  if (first.rank !== second.rank) return first.rank < second.rank;
  return first.answeredAt < second.sentAt;
}

function violation(
  block: number,
  candidates: readonly Write[],
  forced: readonly Write[],
  reachedAt: number,
  isPromised: (write: Write) => boolean,
): Violation {
  const missing = forced.find((write) => candidates.every((each) => precedes(each, write)));
  const why =
    missing !== undefined && isPromised(missing)
      ? 'was promised'
      : `was answered at ${missing?.answeredAt}, and a write that was sent at ${reachedAt} is there`;
  return new Violation(
    `block ${block} holds write ${candidates[0]?.sequence}; write ${missing?.sequence} is lost, which ${why}`,
  );
}
