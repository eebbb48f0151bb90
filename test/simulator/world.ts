import { StorageError, toStorageError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import type { CheckReport } from '../../src/volume/check-report.ts';
import type { EngineWorkers } from '../../src/volume/engine-workers.ts';
import type { TakeOver } from '../../src/volume/take-over.ts';
import type { Volume } from '../../src/volume/volume.ts';
import type { SectorChoice } from '../support/memory-disk.ts';
import { Clients } from './clients.ts';
import { blockBytes, Contents } from './contents.ts';
import { SimulatedDisk } from './disk.ts';
import type { Engine } from './engine.ts';
import { History, Moments } from './history.ts';
import { Life } from './process.ts';
import type { Profile } from './profile.ts';
import { chance, pick } from './random.ts';
import type { Rollback } from './rollback.ts';
import { Scheduler } from './scheduler.ts';
import { Sealing } from './sealing.ts';
import { Session } from './session.ts';
import { Sizes } from './sizes.ts';
import { SnapshotJudge } from './snapshots.ts';
import { SimulatedStore } from './store.ts';
import { TimeTravel } from './time-travel.ts';
import { Trace } from './trace.ts';
import type { NetworkFaults } from './wire.ts';

export const volumeName = 'drive';

/** A machine: its disk outlives its daemons, of which at most one lives at a time. */
export interface Host {
  readonly name: string;
  disk: SimulatedDisk;
  /** Names the disk to the engine, as the file of that name on it would. */
  writerId: string;
  life: Life | undefined;
  session: Session | undefined;
}

/** How a volume came about that is a clone of another. */
export interface Birth {
  readonly parent: World;
  readonly name: string;
  /** What is in it. */
  readonly blocks: readonly Uint8Array[];
}

export interface Counters {
  crashes: number;
  /** Of them those of a daemon that had the volume. */
  servingCrashes: number;
  operations: number;
  attached: number;
  /** Moments of the past that were read and compared. */
  travels: number;
  /** Clones that came about. */
  clones: number;
  /** Clones that were made independent. */
  flattened: number;
}

/** Hosts, their disks, one store and one volume, all in simulated time. */
export class World {
  readonly name: string;
  readonly scheduler: Scheduler;
  readonly trace: Trace;
  readonly store: SimulatedStore;
  readonly hosts: Host[] = [];
  readonly networkFaults: NetworkFaults;
  readonly random: Random;
  readonly engine: Engine;
  readonly profile: Profile;
  readonly moments: Moments;
  readonly judge: SnapshotJudge;
  readonly counters: Counters;
  /** What the volume is: as the last host that attached it found it, and went on with it. */
  history: History;
  /** One of which nobody knows whether it was done. */
  rollback: Rollback | undefined;
  /** How large that may be. */
  readonly sizes: Sizes;
  private historyEpoch = 0;
  private readonly contents: Contents;
  readonly networkRandom: Random;
  /** Decides what moments of the past are gone back to. */
  readonly pastRandom: Random;
  private readonly timeTravel: TimeTravel;

  constructor(engine: Engine, profile: Profile, seed: number, isShown: boolean, birth?: Birth) {
    const parent = birth?.parent;
    this.engine = engine;
    this.profile = profile;
    this.name = birth?.name ?? volumeName;
    this.random = seededRandom(seed);
    this.networkRandom = seededRandom(seed + 4);
    this.pastRandom = seededRandom(seed + 5);
    this.scheduler = parent?.scheduler ?? new Scheduler();
    this.trace = parent?.trace ?? new Trace(this.scheduler, isShown);
    this.moments = parent?.moments ?? new Moments();
    this.networkFaults = parent?.networkFaults ?? { breaks: 0, maximumDelayMs: 1 };
    this.counters = parent?.counters ?? {
      ...{
        crashes: 0,
        servingCrashes: 0,
        operations: 0,
        attached: 0,
        travels: 0,
        clones: 0,
        flattened: 0,
      },
    };
    const sealing = profile.isEncrypted
      ? new Sealing(engine, seed + 10, this.scheduler, (error) => this.scheduler.fail(error))
      : undefined;
    this.store = new SimulatedStore(
      ...([engine, this.scheduler, seededRandom(seed + 1), this.trace, sealing] as const),
      parent?.store,
    );
    this.judge = new SnapshotJudge(engine, this.scheduler, this.store);
    this.contents = parent?.contents ?? new Contents(this.random);
    this.history =
      birth === undefined ? History.empty(profile.blockCount) : History.of(birth.blocks);
    this.sizes = new Sizes(profile.blockCount, profile.firstBlockCount ?? profile.blockCount);
    this.history.keepsAll = profile.retainMs > 0;
    this.timeTravel = new TimeTravel(this, this.name);
    this.store.onTaken = (writerId) => this.taken(writerId);
    for (let at = 0; at < profile.hostCount; at += 1) this.addHost();
  }

  addHost(): Host {
    const host: Host = {
      name: `${this.name === volumeName ? '' : `${this.name}/`}host-${this.hosts.length + 1}`,
      disk: this.makeDisk(),
      writerId: this.makeWriterId(),
      life: undefined,
      session: undefined,
    };
    this.hosts.push(host);
    return host;
  }

  private makeDisk(): SimulatedDisk {
    const disk = new SimulatedDisk(seededRandom(pick(this.random, 2 ** 31)), this.trace);
    disk.onWrite = (...write) => this.store.sealing?.written(...write);
    // What a changed bit takes with it was promised, and cannot be kept.
    disk.onRot = () => {
      this.history.renounce(disk.id);
      this.judge.forsake();
      const host = this.hosts.find((known) => known.disk === disk);
      if (host?.life !== undefined) host.life.isContested = true;
    };
    return disk;
  }

  private makeWriterId(): string {
    return Buffer.from(this.random.bytes(8)).toString('hex');
  }

  async createVolume(): Promise<void> {
    const { durability, codec, retainMs } = this.profile;
    const sizeBytes = this.sizes.largest * blockBytes;
    const { id } = await this.engine.createVolume(
      this.store.truth,
      {
        ...{ name: volumeName, sizeBytes, durability, codec, retainMs },
        ...(this.profile.isEncrypted ? { encryption: { cipher: this.profile.cipher } } : {}),
      },
      { clock: this.scheduler, random: this.random },
    );
    this.store.volumeId = id;
  }

  /** A new life of a host's daemon, and its attempt to attach the volume. */
  start(host: Host): Life {
    const life = new Life(this.scheduler, this.random.fraction() * 1000);
    host.life = life;
    host.session = undefined;
    host.disk.isTrue = true;
    life.isContested = host.disk.isLying;
    this.trace.add('start', host.name, 0);
    return life;
  }

  /** Attaches once; the session, or what went wrong. */
  async attach(host: Host, life: Life, takeOver: TakeOver): Promise<Session | StorageError> {
    const { engine, profile } = this;
    const disk = host.disk.for(life);
    const store = this.store.for(life, profile.patience);
    try {
      const volume = await engine.openVolume({
        store,
        disk,
        workers: this.workers(life, host),
        clock: life.clock,
        random: this.random,
        log: silentLog,
        name: this.name,
        settings: profile.settings,
        writerId: host.writerId,
        host: host.name,
        takeOver,
      });
      const session = new Session(volume, this.clientsOf(volume, life), life, this.history, {
        ...{ engine, store, judge: this.judge },
        random: this.random,
        trace: this.trace,
        moments: this.moments,
        contents: this.contents,
        disk: host.disk.id,
        pastRandom: this.pastRandom,
        keepsPast: profile.retainMs > 0,
        travel: (session) => this.timeTravel.go(session),
        isWriteThrough: profile.settings.writesAnswered === 'disk',
        isExcused: (error) => this.isExcused(error, host, life),
        // Who was followed changes nothing any more, whatever is asked of it.
        sizes: (session) => (session.history === this.history ? this.sizes : undefined),
        storedBytes: (session) =>
          session.epoch === this.store.epoch ? this.store.sizeBytes : undefined,
        fail: (error) => this.scheduler.fail(error),
        counted: () => {
          this.counters.operations += 1;
        },
      });
      host.session = session;
      host.disk.isTrue = false;
      return session;
    } catch (thrown) {
      const error = toStorageError(thrown);
      this.trace.add('not attached', `${host.name}: ${error.message}`, 0);
      // Two that attach at the same moment: one of them is late.
      const isLate = ['held', 'conflict', 'lost-ownership'].includes(error.code);
      if (!isLate && !this.isExcused(error, host, life)) this.scheduler.fail(thrown);
      return error;
    }
  }

  private clientsOf(volume: Volume, life: Life): Clients | undefined {
    const { engine, scheduler, trace, profile } = this;
    if (profile.network === undefined) return undefined;
    const fail = (error: unknown): void => scheduler.fail(error);
    const { networkFaults: faults, networkRandom: random } = this;
    return new Clients(volume, life, {
      ...{ engine, random, trace, faults, fail },
      shape: profile.network,
    });
  }

  /** An operator makes the volume larger while nobody has it. */
  async grow(host: Host, life: Life): Promise<void> {
    const { engine, profile, random, trace, sizes } = this;
    const blocks = sizes.largest + pick(random, sizes.maximum - sizes.largest + 1);
    const asking = sizes.askOutside(blocks);
    trace.add('growDetached', 'asked', blocks);
    try {
      const store = this.store.for(life, profile.patience);
      const { writerId } = host;
      const sizeBytes = blocks * blockBytes;
      await engine.growDetached({ store, random, name: this.name, writerId }, sizeBytes);
      asking.answered();
      trace.add('growDetached', 'answered', blocks);
    } catch (thrown) {
      const error = toStorageError(thrown);
      trace.add('growDetached', error.message, blocks);
      // Somebody has it, or has changed it meanwhile.
      const isLate = ['held', 'conflict', 'usage'].includes(error.code);
      if (!isLate && !this.isExcused(error, host, life)) this.scheduler.fail(thrown);
    }
    asking.over();
  }

  /** Threads are a matter of who packs first: here any of two. */
  private workers(life: Life, host: Host): EngineWorkers {
    const disk = host.disk.for(life);
    const [first, second] = [this.engine.inlineWorkers(disk), this.engine.inlineWorkers(disk)];
    return {
      ...first,
      pack: async (job) => {
        if (chance(this.random, host.disk.faults.lostThreads)) {
          host.disk.hasErred = true;
          throw new StorageError('internal', 'A worker thread ended.');
        }
        return (chance(this.random, 0.5) ? first : second).pack(job);
      },
    };
  }

  /** Compares what a session found with what may be; from then on the volume is what it makes of it. */
  async adopt(session: Session): Promise<boolean> {
    const found = await session.readAll();
    if (found === undefined) return false;
    this.counters.attached += 1;
    if (session.epoch < this.historyEpoch) {
      // Another has taken the volume meanwhile: what this one says cannot count any more.
      session.history = this.history.branch(found);
      return true;
    }
    this.historyEpoch = session.epoch;
    this.rollback?.settle(found);
    this.rollback = undefined;
    this.sizes.found(session.volume.sizeBytes / blockBytes);
    const nowMs = session.volume.logTimeMs;
    this.history = this.history.resume(found, this.moments.next(), nowMs);
    session.history = this.history;
    session.isAdopted = true;
    return true;
  }

  /** Whether an error may be, as things are or were. */
  private isExcused({ code }: StorageError, host: Host, life: Life): boolean {
    switch (code) {
      case 'lost-ownership':
        // One that gave it up and did not hear so learns that another has it since.
        return life.isContested || this.store.epoch > (host.session?.epoch ?? 0);
      case 'local-io':
      case 'no-space':
      case 'internal':
        return host.disk.hasErred;
      case 'corrupt':
        return host.disk.hasErred || this.store.hasErred;
      case 'store-unavailable':
      case 'store-denied':
        return this.store.hasErred;
      case 'shutting-down':
        return true;
      default:
        return false;
    }
  }

  /** A writer has taken the volume from another: what that one keeps on its own disk is given up. */
  private taken(writerId: string): void {
    this.trace.add('taken', writerId, 0);
    this.history.renounce();
    this.judge.forsake();
    for (const host of this.hosts) {
      if (host.writerId !== writerId && host.life !== undefined) host.life.isContested = true;
    }
  }

  /** Goes back to moments of a volume that nobody has. */
  async travel(): Promise<void> {
    if (this.profile.retainMs > 0) await this.timeTravel.goAfterAll();
  }

  /** What the objects of the store are there for. */
  async standings(): Promise<CheckReport['objects']> {
    const report = await this.engine.checkVolume(this.store.truth, this.name, {
      clock: this.scheduler,
    });
    return report.objects;
  }

  /** What is forged of the objects is refused. */
  async forge(): Promise<void> {
    await this.store.sealing?.forge(this.store.raw, seededRandom(this.trace.hash));
  }

  /** What a check of the store says is wrong with the volume; empty when nothing is. */
  async check(): Promise<string[]> {
    const options = { clock: this.scheduler, readData: { part: 1, parts: 1 } };
    const report = await this.engine.checkVolume(this.store.truth, this.name, options);
    const wrong = report.problems.filter(({ what }) => what !== 'orphaned');
    const lost = report.lost.map(({ firstBlock, object }) => `block ${firstBlock} in ${object}`);
    return [...wrong.map(({ what, message }) => `${what}: ${message}`), ...lost];
  }

  /** Ends a daemon at this very moment. */
  kill(host: Host): boolean {
    if (host.life === undefined) return false;
    this.leaveToKernel(host, host.life);
    this.counters.crashes += 1;
    if (host.session !== undefined) this.counters.servingCrashes += 1;
    host.life.kill();
    host.life = undefined;
    host.session = undefined;
    this.trace.add('kill', host.name, 0);
    return true;
  }

  /** With all but the fastest setting, an answered write outlives the daemon that answered it. */
  private leaveToKernel({ session, disk }: Host, life: Life): void {
    if (session?.isAdopted !== true || session.history !== this.history) return;
    if (life.isContested || disk.hasErred) return;
    if (this.profile.settings.writesAnswered === 'memory') return;
    this.history.leaveToKernel(this.moments.next(), disk.id);
  }

  losePower(host: Host, keeps?: SectorChoice): void {
    this.history.forgetKernel();
    this.trace.add('power', host.name, 0);
    host.disk.losePower(keeps);
  }

  /** The host comes back with an empty disk, and so as nobody that the store knows. */
  loseDisk(host: Host): void {
    this.trace.add('disk lost', host.name, 0);
    this.history.renounce(host.disk.id);
    this.judge.forsake();
    host.disk = this.makeDisk();
    host.writerId = this.makeWriterId();
  }
}
