/**
 * One volume that is written, killed and looked at, again and again. All choices come from one seed;
 * the moments at which processes are killed are the machine's, so a run cannot be repeated exactly,
 * but one with the same seed kills at the same kinds of moments.
 */
import { type Random, seededRandom } from '../../src/base/random.ts';
import { createVolume, Daemon, type TestStore } from '../support/daemon.ts';
import { ConnectionLost, NbdClient } from '../support/nbd-client.ts';
import type { TemporaryDirectory } from '../support/programs.ts';
import { requireSoundAt } from '../support/sound-stores.ts';
import { blockBytes, History, type Promised, Violation } from './history.ts';
import { Load } from './load.ts';

export interface CrashRunOptions {
  readonly store: TestStore;
  readonly root: TemporaryDirectory;
  readonly seed: number;
  readonly durability: 'local' | 'store';
}

/** What a run has come through. */
export interface CrashTally {
  kills: number;
  /** Of the kills: how many hit a daemon that had just been started. */
  killsWhileOpening: number;
  /** Starts without the disk that the volume was written on. */
  disksLost: number;
  /** Starts of a host whose volume another had taken meanwhile. */
  hostsBack: number;
  requests: number;
  flushes: number;
  /** Blocks that were answered, not flushed, and gone after a crash, as is allowed. */
  blocksLost: number;
}

const volumeBytes = 16 * 2 ** 20;
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class CrashRun {
  readonly #options: CrashRunOptions;
  readonly #random: Random;
  readonly #history = new History(volumeBytes / blockBytes);
  readonly #name: string;
  readonly tally: CrashTally = {
    kills: 0,
    killsWhileOpening: 0,
    disksLost: 0,
    hostsBack: 0,
    requests: 0,
    flushes: 0,
    blocksLost: 0,
  };
  /** State directories, the newest last; all but that one are of hosts that lost the volume. */
  #hosts: string[] = [];
  #hostCount = 0;
  /** The newest host is not the one that had the volume last. */
  #mustTake = false;
  /** How the last daemon answered writes: by default they outlive it. */
  #starting: 'journal' | 'memory' = 'journal';
  #answered: 'journal' | 'memory' = 'journal';

  constructor(options: CrashRunOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed);
    this.#name = `crash-${options.seed}`;
  }

  async prepare(): Promise<void> {
    const { store, durability } = this.#options;
    await createVolume(store, this.#name, String(volumeBytes), '--durability', durability);
    this.#newHost();
  }

  /** Starts, checks what is there, writes and kills. */
  async round(): Promise<void> {
    let promised = this.#onThisDisk;
    try {
      promised = this.#chooseHost();
      if (this.#chance(0.15)) await this.#killWhileOpening();
      const daemon = await this.#start();
      try {
        await this.#check(daemon, promised);
        await this.#writeAndKill(daemon);
      } catch (error) {
        await daemon.crash();
        throw new Error(daemon.log.slice(-4_000), { cause: error });
      }
    } catch (error) {
      const { seed, durability, store } = this.#options;
      const where = `seed ${seed}, ${this.tally.kills} kills, ${durability} durability, ${store.url}`;
      throw new Error(`${where}, expected ${promised}`, { cause: error });
    }
  }

  /** A last look, on the disk that the volume is on; then a clean end, and a look from elsewhere. */
  async finish(): Promise<void> {
    const daemon = await this.#start();
    await this.#check(daemon, this.#onThisDisk);
    await daemon.stop();
    this.#newHost();
    const elsewhere = await this.#start();
    await this.#check(elsewhere, 'all');
    await elsewhere.stop();
    await requireSoundAt(this.#options.store);
  }

  /** What the next start on the same disk must find. */
  get #onThisDisk(): Promised {
    return this.#answered === 'journal' ? 'answered' : 'disk';
  }

  /** The same disk, mostly; else an empty one, or one whose volume was taken since. */
  #chooseHost(): Promised {
    if (this.#chance(0.25)) {
      this.#newHost();
      this.tally.disksLost += 1;
    } else if (this.#hosts.length > 1 && this.#chance(0.15)) {
      const [oldest = ''] = this.#hosts.splice(0, 1);
      this.#hosts.push(oldest);
      this.#mustTake = true;
      this.tally.hostsBack += 1;
    } else return this.#onThisDisk;
    return this.#options.durability === 'store' ? 'flushed' : 'prefix';
  }

  /** A machine with an empty disk. */
  #newHost(): void {
    this.#hostCount += 1;
    this.#hosts.push(this.#options.root.join(`${this.#name}-host-${this.#hostCount}`));
    this.#mustTake = true;
    // An old host that comes back is worth keeping; a dozen of them prove no more.
    if (this.#hosts.length > 4) this.#hosts.shift();
  }

  #start(): Promise<Daemon> {
    const pick = <T>(...values: T[]): T =>
      values[Math.floor(this.#random.fraction() * values.length)] as T;
    // Whatever is recovered is in the journal: only the last daemon's answers count.
    const answered = this.#chance(0.75) ? 'journal' : 'memory';
    this.#starting = answered;
    const flags = [
      ...['--writes-answered', answered],
      ...['--upload-interval', pick('10ms', '50ms', '200ms', '1s', '5s')],
      ...['--upload-concurrency', pick('1', '2', '4')],
      ...['--cache-memory', pick('1MiB', '16MiB'), '--cache-disk', pick('0', '16MiB')],
      ...['--journal-size', pick('64MiB', '256MiB')],
      ...(this.#mustTake ? ['--force'] : []),
    ];
    const directory = this.#hosts.at(-1) ?? '';
    return Daemon.start({ store: this.#options.store, directory, flags });
  }

  async #killWhileOpening(): Promise<void> {
    const daemon = await this.#start();
    const opening = NbdClient.connect(daemon.socketPath, this.#name).then(
      (client) => client.destroy(),
      (error: unknown) => {
        if (!(error instanceof ConnectionLost)) throw error;
      },
    );
    await sleep(this.#random.fraction() ** 2 * 120);
    await this.#kill(daemon);
    await opening;
    this.tally.killsWhileOpening += 1;
  }

  async #check(daemon: Daemon, promised: Promised): Promise<void> {
    const client = await NbdClient.connect(daemon.socketPath, this.#name).catch(
      (error: unknown) => {
        throw new Violation(`the volume cannot be opened: ${String(error)}`);
      },
    );
    const image = await client.readAll();
    client.destroy();
    this.#mustTake = false;
    this.#answered = this.#starting;
    this.tally.blocksLost += this.#history.verify(image, promised);
  }

  async #writeAndKill(daemon: Daemon): Promise<void> {
    const load = new Load(this.#history, this.#random, {
      clients: 1 + Math.floor(this.#random.fraction() * 4),
      depth: 1 + Math.floor(this.#random.fraction() ** 2 * 16),
      flushShare: this.#chance(0.3) ? 0.002 : 0.08,
      maximumBlocks: this.#chance(0.3) ? 1 : 32,
    });
    const done = load.run(daemon.socketPath, this.#name);
    await sleep(10 + this.#random.fraction() ** 2 * 500);
    if (this.#chance(0.05)) {
      load.stop();
      await done;
      await daemon.stop();
      this.#newHost();
      const elsewhere = await this.#start();
      await this.#check(elsewhere, 'all');
      await this.#kill(elsewhere);
    } else {
      await this.#kill(daemon);
      await done;
    }
    this.tally.requests += load.counts.requests;
    this.tally.flushes += load.counts.flushes;
  }

  async #kill(daemon: Daemon): Promise<void> {
    await daemon.crash();
    this.tally.kills += 1;
  }

  #chance(share: number): boolean {
    return this.#random.fraction() < share;
  }
}
