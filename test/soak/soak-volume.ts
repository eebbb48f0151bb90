/** One volume of the soak: what it holds, who writes to it, and its snapshots. */
import type { Random } from '../../src/base/random.ts';
import { blockBytes, encodeBlock } from '../crash/history.ts';
import type { Daemon } from '../support/daemon.ts';
import { ConnectionLost, NbdClient } from '../support/nbd-client.ts';
import { type Contents, contentsOf, Ledger, type Sequences } from './ledger.ts';

const workers = 3;
const longestBlocks = 64;
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A moment by the clock on the wall, between two of the ledger. */
export interface Moment {
  readonly wallMs: number;
  readonly before: number;
  readonly after: number;
  readonly blockCount: number;
}

export class SoakVolume {
  readonly name: string;
  readonly ledger: Ledger;
  /** What each snapshot holds, by its name. */
  readonly snapshots = new Map<string, Contents>();
  /** Moments that can be gone back to. */
  moments: Moment[] = [];
  /** Names of volumes that were made from this one. */
  readonly clones = new Set<string>();
  requests = 0;
  readonly #sequences: Sequences;
  readonly #random: Random;
  #stopping = false;
  #load: Promise<unknown> | undefined;

  constructor(name: string, sequences: Sequences, random: Random, contents: Contents) {
    this.name = name;
    this.#sequences = sequences;
    this.#random = random;
    this.ledger = new Ledger(sequences, contents);
  }

  /** Writes until it is told to stop, or the server dies; `pauseMs` between the requests of each. */
  start(daemon: Daemon, pauseMs: number): void {
    this.#stopping = false;
    this.#load = this.#run(daemon, pauseMs);
    this.#load.catch(() => undefined);
  }

  /** Resolves when nothing is under way any more; what went wrong meanwhile is thrown. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#load;
    this.#load = undefined;
  }

  async #run(daemon: Daemon, pauseMs: number): Promise<void> {
    try {
      const client = await NbdClient.connect(daemon.socketPath, this.name);
      const ends = await Promise.allSettled(
        Array.from({ length: workers }, () => this.#work(client, pauseMs)),
      );
      client.destroy();
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
    } catch (error) {
      // The daemon was killed: so it is meant.
      if (!(error instanceof ConnectionLost)) throw error;
    }
  }

  async #work(client: NbdClient, pauseMs: number): Promise<void> {
    while (!this.#stopping) {
      this.requests += 1;
      const dice = this.#random.fraction();
      const [first, count] = this.#range();
      if (dice < 0.03) await client.flush();
      else if (dice < 0.08) {
        const versions = this.ledger.send(first, count, 0);
        const [offset, lengthBytes] = [first * blockBytes, count * blockBytes];
        await (dice < 0.06
          ? client.trim(offset, lengthBytes)
          : client.writeZeroes(offset, lengthBytes));
        this.ledger.answer(versions);
      } else await this.#write(client, first, count, dice > 0.98);
      await sleep(this.#random.fraction() * 2 * pauseMs);
    }
  }

  async #write(client: NbdClient, first: number, count: number, fua: boolean): Promise<void> {
    const sequence = this.#sequences.next();
    const data = new Uint8Array(count * blockBytes);
    for (let at = 0; at < count; at += 1) {
      encodeBlock(data.subarray(at * blockBytes, (at + 1) * blockBytes), sequence, first + at);
    }
    const versions = this.ledger.send(first, count, sequence);
    await client.write(first * blockBytes, data, fua);
    this.ledger.answer(versions);
  }

  /** Half of all goes to an eighth of the volume: some segments die soon, others keep a few blocks. */
  #range(): [first: number, count: number] {
    const { blockCount } = this.ledger;
    const reach = this.#random.fraction() < 1 / 2 ? blockCount / 8 : blockCount;
    const first = Math.floor(this.#random.fraction() * reach);
    const longest = Math.min(longestBlocks, blockCount - first);
    return [first, 1 + Math.floor(this.#random.fraction() ** 3 * longest)];
  }

  /** The moment now. */
  mark(): void {
    const before = this.#sequences.now();
    const { blockCount } = this.ledger;
    this.moments.push({ wallMs: Date.now(), before, after: this.#sequences.now(), blockCount });
  }
}

/** All that an export holds. */
export async function readExport(daemon: Daemon, name: string): Promise<Contents> {
  const client = await NbdClient.connect(daemon.socketPath, name);
  try {
    return contentsOf(await client.readAll());
  } finally {
    client.destroy();
  }
}
