/** Several clients that write numbered blocks as fast as they are answered, until the server dies. */
import type { Random } from '../../src/base/random.ts';
import { ConnectionLost, type NbdAddress, NbdClient } from '../support/nbd-client.ts';
import { blockBytes, encodeBlock, type History } from './history.ts';

export interface LoadShape {
  readonly clients: number;
  /** Requests of one client under way at once. */
  readonly depth: number;
  /** Share of requests that are flushes; half as many writes have FUA. */
  readonly flushShare: number;
  /** Longest write. */
  readonly maximumBlocks: number;
}

export interface LoadCounts {
  requests: number;
  answered: number;
  flushes: number;
}

export class Load {
  readonly #history: History;
  readonly #random: Random;
  readonly #shape: LoadShape;
  readonly counts: LoadCounts = { requests: 0, answered: 0, flushes: 0 };
  #stopping = false;

  constructor(history: History, random: Random, shape: LoadShape) {
    this.#history = history;
    this.#random = random;
    this.#shape = shape;
  }

  /** Resolves when all connections are lost, or after `stop` when all is answered. */
  async run(address: NbdAddress, exportName: string): Promise<void> {
    const { clients, depth } = this.#shape;
    const each = async (): Promise<void> => {
      const client = await NbdClient.connect(address, exportName);
      const workers = Array.from({ length: depth }, () => this.#work(client));
      const ends = await Promise.allSettled(workers);
      client.destroy();
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
    };
    const ends = await Promise.allSettled(Array.from({ length: clients }, each));
    for (const end of ends) {
      if (end.status === 'rejected' && !(end.reason instanceof ConnectionLost)) throw end.reason;
    }
  }

  stop(): void {
    this.#stopping = true;
  }

  async #work(client: NbdClient): Promise<void> {
    while (!this.#stopping) {
      this.counts.requests += 1;
      const dice = this.#random.fraction();
      if (dice < this.#shape.flushShare) await this.#flush(client);
      else if (dice > 0.97) await this.#zero(client, dice > 0.985);
      else await this.#write(client);
      this.counts.answered += 1;
    }
  }

  async #flush(client: NbdClient): Promise<void> {
    const sentAt = this.#history.sendFlush();
    await client.flush();
    this.#history.flushed(sentAt);
    this.counts.flushes += 1;
  }

  async #write(client: NbdClient): Promise<void> {
    const [block, count] = this.#range();
    const fua = this.#random.fraction() < this.#shape.flushShare / 2;
    const sent = this.#history.send(block, count);
    const data = new Uint8Array(count * blockBytes);
    for (let at = 0; at < count; at += 1) {
      encodeBlock(data.subarray(at * blockBytes), sent.sequence, block + at);
    }
    await client.write(block * blockBytes, data, fua);
    this.#history.answer(sent, fua);
  }

  async #zero(client: NbdClient, trim: boolean): Promise<void> {
    const [block, count] = this.#range();
    const sent = this.#history.send(block, count, true);
    const [offset, lengthBytes] = [block * blockBytes, count * blockBytes];
    await (trim ? client.trim(offset, lengthBytes) : client.writeZeroes(offset, lengthBytes));
    this.#history.answer(sent);
  }

  /** A third of all goes to a sixteenth of the volume: blocks are overwritten soon, and often at once. */
  #range(): [number, number] {
    const { blockCount } = this.#history;
    const reach = this.#random.fraction() < 1 / 3 ? blockCount / 16 : blockCount;
    const first = Math.floor(this.#random.fraction() * reach);
    const longest = Math.min(this.#shape.maximumBlocks, blockCount - first);
    return [first, 1 + Math.floor(this.#random.fraction() ** 3 * longest)];
  }
}
