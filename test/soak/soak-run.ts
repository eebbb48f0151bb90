/**
 * An hour in the life of a family of volumes: clients write to all of them, while snapshots, clones,
 * rollbacks, sizes, compaction, journeys in time, restarts and kills happen to them at random. Whatever
 * is read is held against the ledgers of what was written; snapshots must stay what they were.
 * All choices come from one seed; the moments at which they happen are the machine's.
 */
import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { blockBytes } from '../crash/history.ts';
import { createVolume, Daemon, type TestStore } from '../support/daemon.ts';
import { type ProgramResult, run, type TemporaryDirectory } from '../support/programs.ts';
import { requireSame, Sequences } from './ledger.ts';
import { readExport, SoakVolume } from './soak-volume.ts';

export interface SoakOptions {
  readonly store: TestStore;
  readonly root: TemporaryDirectory;
  readonly seed: number;
  readonly pauseMs: number;
  readonly onStep?: (step: string) => void;
}

const mebibyte = 2 ** 20;
const firstBytes = 24 * mebibyte;
const largestBytes = 48 * mebibyte;
const mostVolumes = 4;
const mostSnapshots = 5;

type Step = () => Promise<void>;

export class SoakRun {
  readonly #options: SoakOptions;
  readonly #random: Random;
  readonly #sequences = new Sequences();
  readonly #volumes: SoakVolume[] = [];
  /** How often each kind of step was done. */
  readonly tally: Record<string, number> = {};
  #daemon: Daemon | undefined;
  #hostCount = 0;
  #nameCount = 0;

  constructor(options: SoakOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed);
  }

  async prepare(): Promise<void> {
    await createVolume(this.#options.store, 'first', String(firstBytes), '--retain', '10m');
    await this.#startElsewhere();
    const volume = new SoakVolume('first', this.#sequences, this.#random, zeroes(firstBytes));
    this.#volumes.push(volume);
    this.#write(volume);
  }

  get requests(): number {
    return this.#volumes.reduce((sum, { requests }) => sum + requests, 0);
  }

  /** One thing that happens. */
  async step(): Promise<void> {
    const steps: readonly (readonly [name: string, weight: number, step: Step])[] = [
      ['snapshot', 6, () => this.#snapshot()],
      ['snapshot read again', 4, () => this.#readSnapshot()],
      ['snapshot deleted', 3, () => this.#deleteSnapshot()],
      ['clone', 3, () => this.#clone()],
      ['clone deleted', 1, () => this.#deleteClone()],
      ['rollback', 2, () => this.#rollBack()],
      ['grown', 2, () => this.#grow()],
      ['cut off', 1, () => this.#cutOff()],
      ['compaction', 2, () => this.#compact()],
      ['journey in time', 3, () => this.#travel()],
      ['read', 3, () => this.#readVolume()],
      ['check', 2, () => this.#check()],
      ['kill', 3, () => this.#kill()],
      ['moved to another host', 1, () => this.#move()],
    ];
    for (const volume of this.#volumes) volume.mark();
    let dice = this.#random.fraction() * steps.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [name, weight, step] of steps) {
      dice -= weight;
      if (dice > 0) continue;
      this.#options.onStep?.(name);
      try {
        await step();
      } catch (error) {
        const { seed, store } = this.#options;
        const log = this.#daemon?.log.slice(-3000) ?? '';
        throw new Error(`${name}, seed ${seed}, ${store.url}\n${log}`, { cause: error });
      }
      return;
    }
  }

  /** The last look at everything, from another host; then all is deleted, and nothing is left. */
  async finish(): Promise<void> {
    await this.#move();
    for (const volume of this.#volumes) {
      await volume.stop();
      await this.#readSnapshotsOf(volume);
      await this.#checkOne(volume);
    }
    while (this.#volumes.length > 0) await this.#deleteOne(this.#leaf());
    await this.#daemon?.stop();
  }

  /** Ends what runs, after a failure. */
  async abandon(): Promise<void> {
    await this.#daemon?.crash();
  }

  #did(what: string): void {
    this.tally[what] = (this.tally[what] ?? 0) + 1;
  }

  async #snapshot(): Promise<void> {
    const volume = this.#anyVolume();
    if (volume.snapshots.size >= mostSnapshots) return;
    const name = this.#name('s');
    const from = this.#sequences.now();
    await this.#command('snapshot', 'create', volume.name, name, '--wait');
    const to = this.#sequences.now();
    const contents = await readExport(this.#here, `${volume.name}@${name}`);
    volume.ledger.requireMoment(contents, from, to, `${volume.name}@${name}`);
    volume.snapshots.set(name, contents);
    this.#did('snapshot');
  }

  async #readSnapshot(): Promise<void> {
    const [volume, name] = this.#anySnapshot();
    if (volume === undefined || name === undefined) return;
    const contents = await readExport(this.#here, `${volume.name}@${name}`);
    requireSame(contents, volume.snapshots.get(name) ?? [], `${volume.name}@${name}`);
    this.#did('snapshot read again');
  }

  async #readSnapshotsOf(volume: SoakVolume): Promise<void> {
    for (const [name, expected] of volume.snapshots) {
      const contents = await readExport(this.#here, `${volume.name}@${name}`);
      requireSame(contents, expected, `${volume.name}@${name}`);
    }
  }

  async #deleteSnapshot(): Promise<void> {
    const [volume, name] = this.#anySnapshot();
    if (volume === undefined || name === undefined || volume.snapshots.size < 2) return;
    const where = `${volume.name}@${name}`;
    const { status } = await this.#try(['snapshot', 'delete', where], [0, 1]);
    // One that clones read stays.
    if (status === 0) volume.snapshots.delete(name);
    else if (volume.clones.size === 0) throw new Error(`${where} was not deleted`);
    this.#did(status === 0 ? 'snapshot deleted' : 'snapshot kept for its clones');
  }

  async #clone(): Promise<void> {
    const [volume, snapshot] = this.#anySnapshot();
    if (volume === undefined || snapshot === undefined) return;
    if (this.#volumes.length >= mostVolumes) return;
    const name = this.#name('clone');
    await this.#command('volume', 'clone', `${volume.name}@${snapshot}`, name);
    const contents = volume.snapshots.get(snapshot) ?? [];
    requireSame(await readExport(this.#here, name), contents, name);
    const clone = new SoakVolume(name, this.#sequences, this.#random, contents);
    volume.clones.add(name);
    this.#volumes.push(clone);
    this.#write(clone);
    this.#did('clone');
  }

  async #deleteClone(): Promise<void> {
    if (this.#volumes.length < mostVolumes) return;
    await this.#deleteOne(this.#leaf());
    this.#did('clone deleted');
  }

  async #deleteOne(volume: SoakVolume): Promise<void> {
    await volume.stop();
    await this.#command('volume', 'detach', volume.name);
    await this.#command('volume', 'delete', volume.name, '--confirm', volume.name);
    this.#volumes.splice(this.#volumes.indexOf(volume), 1);
    for (const other of this.#volumes) other.clones.delete(volume.name);
  }

  /** One that no other was made from; never the first while there are others. */
  #leaf(): SoakVolume {
    return this.#volumes.findLast(({ clones }) => clones.size === 0) as SoakVolume;
  }

  async #rollBack(): Promise<void> {
    const [volume, name] = this.#anySnapshot();
    if (volume === undefined || name === undefined) return;
    await volume.stop();
    const contents = volume.snapshots.get(name) ?? [];
    const before = this.#sequences.now();
    await this.#command('volume', 'rollback', volume.name, name, '--confirm', volume.name);
    await this.#adoptNewSnapshots(volume, before);
    volume.moments = [];
    volume.ledger.settle(contents);
    requireSame(await readExport(this.#here, volume.name), contents, `${volume.name}, rolled back`);
    this.#write(volume);
    this.#did('rollback');
  }

  /** The snapshot of the present that a rollback makes first. */
  async #adoptNewSnapshots(volume: SoakVolume, from: number): Promise<void> {
    const { stdout } = await this.#command('snapshot', 'list', volume.name, '--json');
    for (const { name } of JSON.parse(stdout) as { name: string }[]) {
      if (volume.snapshots.has(name)) continue;
      const contents = await readExport(this.#here, `${volume.name}@${name}`);
      volume.ledger.requireMoment(contents, from, this.#sequences.now(), `${volume.name}@${name}`);
      volume.snapshots.set(name, contents);
    }
  }

  async #grow(): Promise<void> {
    const volume = this.#anyVolume();
    const sizeBytes = volume.ledger.blockCount * blockBytes + 4 * mebibyte;
    if (sizeBytes > largestBytes) return;
    await this.#command('volume', 'resize', volume.name, String(sizeBytes));
    volume.ledger.resize(sizeBytes / blockBytes);
    this.#did('grown');
  }

  async #cutOff(): Promise<void> {
    // The first keeps its past: nothing may be cut off that.
    const volume = this.#pick(this.#volumes.slice(1));
    if (volume === undefined) return;
    const sizeBytes = volume.ledger.blockCount * blockBytes - 6 * mebibyte;
    if (sizeBytes < 12 * mebibyte) return;
    await volume.stop();
    await this.#command('volume', 'detach', volume.name);
    const sure = ['--shrink', '--confirm', volume.name];
    await this.#command('volume', 'resize', volume.name, String(sizeBytes), ...sure);
    await this.#command('volume', 'attach', volume.name);
    volume.moments = [];
    volume.ledger.resize(sizeBytes / blockBytes);
    this.#write(volume);
    this.#did('cut off');
  }

  async #compact(): Promise<void> {
    // Without a grace period whatever is deleted too early is missed at once.
    const grace = this.#random.fraction() < 0.7 ? ['--grace', '0s'] : [];
    await this.#command('volume', 'compact', this.#anyVolume().name, ...grace);
    this.#did('compaction');
  }

  async #travel(): Promise<void> {
    const [volume] = this.#volumes;
    const moment = this.#pick(volume?.moments ?? []);
    if (volume === undefined || moment === undefined) return;
    const at = `${volume.name}@${new Date(moment.wallMs).toISOString()}`;
    const contents = await readExport(this.#here, at);
    const { before, after, blockCount } = moment;
    const past = contents.slice(0, blockCount);
    volume.ledger.requireMoment(past, before, after, at, blockCount);
    // It may have grown since: then it is larger in the past as well, and zeroes there.
    requireSame(
      contents.slice(blockCount),
      zeroes((contents.length - blockCount) * blockBytes),
      at,
    );
    this.#did('journey in time');
  }

  async #readVolume(): Promise<void> {
    const volume = this.#anyVolume();
    const from = this.#sequences.now();
    await volume.stop();
    await this.#verify(volume, from);
    this.#write(volume);
    this.#did('read');
  }

  async #verify(volume: SoakVolume, from: number): Promise<void> {
    const contents = await readExport(this.#here, volume.name);
    volume.ledger.requireMoment(contents, from, this.#sequences.now(), volume.name);
  }

  async #check(): Promise<void> {
    await this.#checkOne(this.#anyVolume());
    this.#did('check');
  }

  async #checkOne(volume: SoakVolume): Promise<void> {
    await this.#command('volume', 'check', volume.name, '--read-data');
  }

  /** Everything that was answered is there again, for the disk is. */
  async #kill(): Promise<void> {
    await this.#here.crash();
    await this.#stopAll();
    const from = this.#sequences.now();
    await this.#start();
    for (const volume of this.#volumes) {
      const contents = await readExport(this.#here, volume.name);
      volume.ledger.requireMoment(contents, from, this.#sequences.now(), `${volume.name}, killed`);
      // What was under way is there or not, from now on.
      volume.moments = [];
      volume.ledger.settle(contents);
      this.#write(volume);
    }
    this.#did('kill');
  }

  /** Nothing but the store is there on the other host. */
  async #move(): Promise<void> {
    await this.#stopAll();
    const from = this.#sequences.now();
    await this.#here.stop();
    await this.#startElsewhere();
    for (const volume of this.#volumes) {
      await this.#verify(volume, from);
      this.#write(volume);
    }
    this.#did('moved to another host');
  }

  async #stopAll(): Promise<void> {
    for (const volume of this.#volumes) await volume.stop();
  }

  async #startElsewhere(): Promise<void> {
    this.#hostCount += 1;
    await this.#start();
  }

  async #start(): Promise<void> {
    const { root, store } = this.#options;
    const directory = root.join(`host-${this.#hostCount}`);
    const endpoint = store.flags[store.flags.indexOf('--s3-endpoint') + 1];
    const lines = [
      `state_dir = "${directory}/state"`,
      '[[store]]',
      `url = "${store.url}"`,
      ...(endpoint === undefined ? [] : [`endpoint = "${endpoint}"`]),
      `[upload]\ninterval = "${this.#pick(['50ms', '500ms', '2s']) ?? '1s'}"`,
      `[cache]\nmemory = "4MiB"\ndisk = "${this.#pick(['0', '16MiB']) ?? '0'}"`,
      '[journal]\nsize = "64MiB"',
    ];
    await writeFile(this.#configuration, `${lines.join('\n')}\n`);
    const { environment } = store;
    const configuration = this.#configuration;
    this.#daemon = await Daemon.start({ configuration, directory, environment });
  }

  get #configuration(): string {
    return this.#options.root.join('elasticdrive.toml');
  }

  #write(volume: SoakVolume): void {
    volume.start(this.#here, this.#options.pauseMs);
  }

  #command(...args: readonly string[]): Promise<ProgramResult> {
    return this.#try(args, [0]);
  }

  /** Runs a command as a user of the host does; what it ends with must be one of `statuses`. */
  #try(args: readonly string[], statuses: readonly number[]): Promise<ProgramResult> {
    const { environment } = this.#options.store;
    const line = [resolve('bin/elasticdrive.js'), ...args, '--config', this.#configuration];
    return run(process.execPath, line, { environment, statuses });
  }

  get #here(): Daemon {
    if (this.#daemon === undefined) throw new Error('no daemon was started');
    return this.#daemon;
  }

  #name(kind: string): string {
    this.#nameCount += 1;
    return `${kind}${this.#nameCount}`;
  }

  #anyVolume(): SoakVolume {
    return this.#pick(this.#volumes) as SoakVolume;
  }

  #anySnapshot(): readonly [SoakVolume | undefined, string | undefined] {
    const volume = this.#pick(this.#volumes.filter(({ snapshots }) => snapshots.size > 0));
    return [volume, this.#pick([...(volume?.snapshots.keys() ?? [])])];
  }

  #pick<T>(values: readonly T[]): T | undefined {
    return values[Math.floor(this.#random.fraction() * values.length)];
  }
}

function zeroes(sizeBytes: number): number[] {
  return Array.from({ length: sizeBytes / blockBytes }, () => 0);
}
