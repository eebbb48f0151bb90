/**
 * Two daemons that want one volume. The one that has it is stopped in the middle of load, as a machine
 * is that swaps or is suspended, and woken before, about or after the end of its lease; or it has the
 * volume taken from it by force while it works. Whatever it was asked after the other had the volume
 * must fail; what it answered a flush for must be there.
 */
import { type Random, seededRandom } from '../../src/base/random.ts';
import { blockBytes, decodeBlock, encodeBlock, History, Violation } from '../crash/history.ts';
import { Load } from '../crash/load.ts';
import { createVolume, Daemon, type TestStore } from '../support/daemon.ts';
import { NbdClient, NbdError } from '../support/nbd-client.ts';
import type { TemporaryDirectory } from '../support/programs.ts';
import { Taking } from './taking.ts';

export interface TwoHostsOptions {
  readonly store: TestStore;
  readonly root: TemporaryDirectory;
  readonly seed: number;
  readonly leaseMs: number;
  readonly durability: 'local' | 'store';
}

/** What the rounds have come to. */
export interface OwnerTally {
  rounds: number;
  /** The stopped writer had lost the volume when it was woken. */
  taken: number;
  /** It was woken in time and went on. */
  kept: number;
  /** The volume was taken from a writer at work. */
  forced: number;
  requests: number;
  flushes: number;
  /** Requests to a writer that had lost the volume. */
  refused: number;
}

type How = 'late' | 'about' | 'early' | 'force';

/** The other host's view, right after it got the volume. */
interface Taken {
  readonly client: NbdClient;
  readonly image: Uint8Array;
}

const historyBytes = 4 * 2 ** 20;
/** Past the history: the block that says which round's owner wrote last. */
const markerBlock = historyBytes / blockBytes;
const eshutdown = 108;
/** Past its lease, and the store was too slow to say whose the volume is. */
const eio = 5;
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class TwoHosts {
  readonly #options: TwoHostsOptions;
  readonly #random: Random;
  readonly #history = new History(historyBytes / blockBytes);
  readonly #name: string;
  #lastMark = 0;
  /** The owner first. */
  #hosts: Daemon[] = [];
  readonly tally: OwnerTally = {
    rounds: 0,
    taken: 0,
    kept: 0,
    forced: 0,
    requests: 0,
    flushes: 0,
    refused: 0,
  };

  constructor(options: TwoHostsOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed);
    this.#name = `owner-${options.seed}`;
  }

  async run(rounds: number): Promise<void> {
    const { store, root, leaseMs, seed, durability } = this.#options;
    const size = String(historyBytes + blockBytes);
    await createVolume(store, this.#name, size, '--durability', durability);
    const flags = ['--take-over', '--lease-time', `${leaseMs}ms`, '--upload-interval', '50ms'];
    const start = (host: string): Promise<Daemon> =>
      Daemon.start({ store, directory: root.join(`${host}-${seed}`), flags });
    await using one = await start('a');
    await using two = await start('b');
    this.#hosts = [one, two];
    while (this.tally.rounds < rounds) {
      try {
        await this.#round();
      } catch (error) {
        for (const { pid } of this.#hosts) process.kill(pid, 'SIGCONT');
        const logs = this.#hosts.map(({ log }) => log.slice(-3000)).join('\n---\n');
        const where = `seed ${seed}, round ${this.tally.rounds}, ${store.url}`;
        throw new Error(`${where}\n${logs}`, { cause: error });
      }
    }
  }

  async #round(): Promise<void> {
    const [owner] = this.#hosts as [Daemon, Daemon];
    const how = this.#chooseHow();
    const marker = await NbdClient.connect(owner.socketPath, this.#name);
    await this.#mark(marker);
    const load = new Load(this.#history, this.#random, {
      clients: 1 + Math.floor(this.#random.fraction() * 3),
      depth: 1 + Math.floor(this.#random.fraction() ** 2 * 8),
      flushShare: 0.1,
      maximumBlocks: 16,
    });
    const loading = load.run(owner.socketPath, this.#name);
    // It is looked at when it is known who has the volume.
    loading.catch(() => undefined);
    await sleep(this.#random.fraction() * 300);
    const other = this.#hosts[1] as Daemon;
    let taken = how === 'force' ? await this.#force(other) : await this.#stop(how, load, marker);
    if (taken === undefined) {
      load.stop();
      taken = await loading
        .then(() => this.#goOn(marker))
        // It answered when it woke, and was too late with its lease all the same.
        .catch(async (error: unknown) => {
          requireRefused(error);
          return this.#look(await new Taking(other.socketPath, this.#name).got());
        });
    }
    if (taken !== undefined) {
      await loading.catch(requireRefused);
      await this.#askInVain(marker);
      // What was flushed to the disk of a host that was followed is lost; a prefix it is all the same.
      const { durability } = this.#options;
      this.#history.verify(taken.image, durability === 'store' ? 'flushed' : 'prefix');
      taken.client.destroy();
      this.#hosts.reverse();
      this.tally.taken += how === 'force' ? 0 : 1;
    }
    marker.destroy();
    this.tally.rounds += 1;
    this.tally.requests += load.counts.requests;
    this.tally.flushes += load.counts.flushes;
  }

  #chooseHow(): How {
    const all = ['late', 'late', 'about', 'early', 'force'] as const;
    return all[Math.floor(this.#random.fraction() * all.length)] as How;
  }

  /** Stops the owner and wakes it; what the other has found, if that one has the volume then. */
  async #stop(how: How, load: Load, marker: NbdClient): Promise<Taken | undefined> {
    const [owner, other] = this.#hosts as [Daemon, Daemon];
    const { leaseMs } = this.#options;
    process.kill(owner.pid, 'SIGSTOP');
    // What is under way stays so until the owner wakes; nothing more is sent.
    load.stop();
    const taking = new Taking(other.socketPath, this.#name);
    if (how === 'late') {
      const taken = await this.#look(await taking.got());
      const refused = this.#askInVain(marker);
      await sleep(this.#random.fraction() ** 2 * leaseMs);
      process.kill(owner.pid, 'SIGCONT');
      await refused;
      return taken;
    }
    const [least, most] = how === 'early' ? [0, 0.5] : [0.75, 1.3];
    await sleep(leaseMs * (least + this.#random.fraction() * (most - least)));
    process.kill(owner.pid, 'SIGCONT');
    const wasKept = await this.#read(marker, markerBlock * blockBytes, blockBytes).then(
      () => true,
      (error: unknown) => {
        requireRefused(error);
        return false;
      },
    );
    const client = wasKept ? await taking.giveUp() : await taking.got();
    return client === undefined ? undefined : this.#look(client);
  }

  /** Takes the volume from an owner that is alive and at work. */
  async #force(other: Daemon): Promise<Taken> {
    await other.command('volume', 'attach', this.#name, '--force');
    this.tally.forced += 1;
    return this.#look(await NbdClient.connect(other.socketPath, this.#name));
  }

  /** Reads all of the volume and writes to it, so that what the last owner had is old. */
  async #look(client: NbdClient): Promise<Taken> {
    const image = await this.#read(client, 0, historyBytes);
    if (this.#options.durability === 'store') await this.#requireMark(client);
    await this.#mark(client);
    return { client, image };
  }

  async #mark(client: NbdClient): Promise<void> {
    const block = new Uint8Array(blockBytes);
    encodeBlock(block, this.#lastMark + 1, markerBlock);
    await client.write(markerBlock * blockBytes, block, true);
    this.#lastMark += 1;
  }

  /** Reads until the host knows whether it may answer. */
  async #read(client: NbdClient, offset: number, lengthBytes: number): Promise<Uint8Array> {
    for (;;) {
      try {
        return await client.read(offset, lengthBytes);
      } catch (error) {
        if (!(error instanceof NbdError) || error.number !== eio) throw error;
      }
    }
  }

  async #requireMark(client: NbdClient): Promise<void> {
    const found = decodeBlock(
      await this.#read(client, markerBlock * blockBytes, blockBytes),
      markerBlock,
    );
    if (found !== this.#lastMark) {
      throw new Violation(`the mark is ${found}, and ${this.#lastMark} was flushed`);
    }
  }

  /** Asks one who has lost the volume for everything; all of it must be refused. */
  async #askInVain(client: NbdClient): Promise<void> {
    const at = markerBlock * blockBytes;
    const requests = [
      client.read(at, blockBytes),
      client.flush(),
      client.write(at, new Uint8Array(blockBytes), true),
      client.read(0, historyBytes),
      client.trim(at, blockBytes),
      client.writeZeroes(at, blockBytes),
    ];
    const outcomes = await Promise.allSettled(requests);
    outcomes.forEach((outcome, index) => {
      if (outcome.status === 'rejected') requireRefused(outcome.reason, eshutdown, eio);
      else throw new Violation(`request ${index} was answered by a host that had lost the volume`);
    });
    this.tally.refused += outcomes.length;
  }

  /** The owner was woken in time: everything that it answered is there. */
  async #goOn(client: NbdClient): Promise<undefined> {
    await this.#requireMark(client);
    this.#history.verify(await this.#read(client, 0, historyBytes), 'all');
    this.tally.kept += 1;
    return undefined;
  }
}

function requireRefused(error: unknown, ...numbers: readonly number[]): void {
  const allowed = numbers.length === 0 ? [eshutdown] : numbers;
  if (!(error instanceof NbdError) || !allowed.includes(error.number)) throw error;
}
