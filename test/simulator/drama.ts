import type { StorageError } from '../../src/base/errors.ts';
import type { TakeOver } from '../../src/volume/take-over.ts';
import type { Life } from './process.ts';
import type { Misfortune } from './profile.ts';
import { chance, choose, pick } from './random.ts';
import { soundDisk } from './disk.ts';
import { rollBack } from './rollback.ts';
import { Session } from './session.ts';
import { requireNoGarbage } from './space.ts';
import type { Host, World } from './world.ts';

const hourMs = 3_600_000;
/** A disk that fails slowly keeps a request that long; a store does not keep those of a lost volume. */
const watchMs = 10_000;
/** Time in which everything must be done after all has healed. */
const patienceMs = hourMs;

/** What goes on beside it: told of each event, that all heals, and when to come to an end. */
export interface Others {
  tick?(): void;
  heal?(): void;
  end?(): Promise<void>;
}

/**
 * What happens in a world: first anything, while what was promised must hold; then all heals, and
 * everything must come to its end.
 */
export class Drama {
  private readonly world: World;
  private isHealed = false;
  /** The host that an operator wants the volume on. */
  private wanted: Host | undefined;
  /** Events until the next misfortune. */
  private calm = 0;

  constructor(world: World) {
    this.world = world;
  }

  async play(others: Others = {}): Promise<void> {
    const { world } = this;
    const { scheduler } = world;
    await world.createVolume();
    let isDone = false;
    scheduler.onEvent = () => {
      this.tick();
      others.tick?.();
    };
    this.begin();
    await scheduler.run(() => world.counters.crashes >= world.profile.crashCount);
    this.heal();
    others.heal?.();
    const deadline = scheduler.after(patienceMs, () => {
      scheduler.fail(new Error('not all has come to its end an hour after everything was healed'));
    });
    const ending = this.end()
      .then(() => others.end?.())
      .then(
        () => {
          isDone = true;
        },
        (error: unknown) => scheduler.fail(error),
      );
    await scheduler.run(() => isDone);
    await ending;
    deadline();
  }

  /** Daemons come to life. */
  begin(): void {
    this.setCalm();
    for (const [at, host] of this.world.hosts.entries()) this.startLater(host, at === 0 ? 0 : 50);
  }

  /** Told of each event. */
  tick(): void {
    if (this.isHealed) return;
    this.calm -= 1;
    if (this.calm > 0) return;
    this.setCalm();
    this.misfortune();
  }

  /** Often soon, often after a while: attaching is to be interrupted as serving is. */
  private setCalm(): void {
    const { random, profile } = this.world;
    const { calmEvents } = profile;
    const isSoon = chance(random, 0.5);
    this.calm =
      1 + (isSoon ? Math.floor(calmEvents ** random.fraction()) : pick(random, calmEvents));
  }

  private startLater(host: Host, longestMs: number): void {
    const { scheduler, random } = this.world;
    scheduler.after(random.fraction() * longestMs, () => {
      if (this.isHealed || host.life !== undefined) return;
      void this.live(host, this.world.start(host), chance(random, 0.2));
    });
  }

  /** A daemon's life: attach, serve, and perhaps give the volume up. */
  private async live(host: Host, life: Life, mayForce: boolean): Promise<void> {
    const { world } = this;
    const { random, profile } = world;
    const session = await this.attachPatiently(host, life, mayForce);
    if (session === undefined) return;
    if (!(await world.adopt(session))) return this.restart(host, session);
    this.watch(session);
    for (;;) {
      await session.work(profile.laneCount, 1 + pick(random, 60));
      if (this.isHealed || !life.isAlive) return;
      if (session.isOver) return this.restart(host, session);
      if (chance(random, 0.3)) break;
    }
    const isResized = profile.firstBlockCount !== undefined;
    if (isResized && chance(random, 0.4)) {
      // An operator cuts it off: nobody uses it, and after it it is given up.
      await session.shrink();
      if (this.isHealed || !life.isAlive) return;
    }
    if (chance(random, 0.4)) {
      await rollBack(world, session);
      if (this.isHealed || !life.isAlive) return;
      if (session.isOver) return this.leave(host, session);
    }
    if (chance(random, 0.8)) await session.close();
    else await session.volume.abandon();
    if (isResized && chance(random, 0.3)) await world.grow(host, life);
    this.leave(host, session);
  }

  /** Who is told that the volume is gone must be told so in each request that is under way. */
  private watch(session: Session, wasEnded = false): void {
    const { scheduler } = this.world;
    const { life, volume } = session;
    scheduler.after(watchMs, () => {
      if (!life.isAlive || session.isClosing) return;
      const isEnded = volume.ended && !life.isAsleep;
      if (wasEnded && isEnded && session.underWay > 0) {
        scheduler.fail(new Error('requests to a volume that is lost are left without an answer'));
      }
      this.watch(session, isEnded);
    });
  }

  private async attachPatiently(
    host: Host,
    life: Life,
    mayForce: boolean,
  ): Promise<Session | undefined> {
    const { world } = this;
    let takeOver: TakeOver = 'never';
    for (;;) {
      const result = await world.attach(host, life, takeOver);
      if (result instanceof Session) return result;
      if (!life.isAlive || this.isHealed) return undefined;
      takeOver = this.chooseTakeOver(host, result, mayForce);
      if (result.code === 'corrupt' && host.disk.hasErred && chance(world.random, 0.3)) {
        // The journal is damaged, and says so: an operator puts another disk in.
        this.strike('disk', host);
        return undefined;
      }
      await this.pause(host, 20);
    }
  }

  /** Nobody else could ever have the volume again, or an operator wants it here. */
  private chooseTakeOver(host: Host, { code }: StorageError, mayForce: boolean): TakeOver {
    const { hosts, random } = this.world;
    const isWanted = mayForce || this.wanted === host;
    const isAlone = hosts.every((other) => other === host || other.life === undefined);
    if (code !== 'held' || !(isAlone || isWanted)) return 'never';
    if (this.wanted === host) this.wanted = undefined;
    return chance(random, 0.5) ? 'when-dead' : 'now';
  }

  private pause(host: Host, longestMs: number): Promise<void> {
    const { life } = host;
    return new Promise((resolve) => {
      this.world.scheduler.after(this.world.random.fraction() * longestMs, () => {
        life?.deliver(resolve);
      });
    });
  }

  /** The volume cannot be used any more: it is let go as an operator's restart would. */
  private async restart(host: Host, session: Session): Promise<void> {
    await session.volume.abandon();
    this.leave(host, session);
  }

  private leave(host: Host, session: Session): void {
    if (host.session !== session) return;
    host.life?.kill();
    host.life = undefined;
    host.session = undefined;
    this.startLater(host, 30);
  }

  private misfortune(): void {
    const { world } = this;
    const { random, profile } = world;
    const kinds = Object.entries(profile.chaos) as [Misfortune, number][];
    let rest = random.fraction() * kinds.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [kind, weight] of kinds) {
      rest -= weight;
      if (rest >= 0) continue;
      // Mostly whoever serves the volume: to him it matters.
      const serving = world.hosts.find(({ session }) => session?.isAdopted === true);
      const host =
        serving !== undefined && chance(random, 0.85) ? serving : choose(random, world.hosts);
      this.strike(kind, host);
      return;
    }
  }

  private strike(kind: Misfortune, host: Host): void {
    switch (kind) {
      case 'kill':
        this.crash(host);
        return;
      case 'power':
        if (this.crash(host)) this.world.losePower(host);
        return;
      case 'disk':
        if (this.crash(host)) this.world.loseDisk(host);
        return;
      case 'sleep':
        this.sleep(host);
        return;
      case 'rival':
        this.wanted = host;
        return;
      case 'network-weather':
        this.changeNetwork();
        return;
      case 'store-weather':
        this.changeStore();
        return;
      case 'disk-weather':
        this.changeDisk(host);
        return;
      case 'clock':
        this.setClock(host);
        return;
      case 'rot':
        this.rot(host);
    }
  }

  private crash(host: Host): boolean {
    if (!this.world.kill(host)) return false;
    this.startLater(host, 40);
    return true;
  }

  private sleep(host: Host): void {
    const { life } = host;
    if (life === undefined || life.isAsleep) return;
    const { random, scheduler, trace } = this.world;
    trace.add('sleep', host.name, 0);
    life.sleep();
    const durationMs = 10 ** (random.fraction() * 5);
    scheduler.after(durationMs, () => {
      trace.add('wake', host.name, 0);
      life.wake();
    });
  }

  private changeNetwork(): void {
    const { networkRandom: random, networkFaults, trace } = this.world;
    const isCalm = chance(random, 0.3);
    trace.add('network', isCalm ? 'calm' : 'breaking', 0);
    networkFaults.breaks = isCalm ? 0 : random.fraction();
    networkFaults.maximumDelayMs = choose(random, [0.1, 1, 20]);
  }

  private setClock({ life, name }: Host): void {
    if (life === undefined) return;
    const { random, trace } = this.world;
    life.skewMs = (random.fraction() - 0.5) * 10 ** (random.fraction() * 5);
    trace.add('clock', name, life.skewMs);
  }

  private changeStore(): void {
    const { random, store, scheduler, trace } = this.world;
    const rate = (): number => (chance(random, 0.5) ? random.fraction() * 0.2 : 0);
    const isAway = chance(random, 0.15);
    const isCalm = !isAway && chance(random, 0.4);
    trace.add('store', isAway ? 'away' : isCalm ? 'calm' : 'flaky', 0);
    Object.assign(store.faults, {
      errorBefore: isAway ? 1 : isCalm ? 0 : rate(),
      errorAfter: isCalm ? 0 : rate(),
      late: isCalm ? 0 : rate(),
      maxLateMs: 200,
      busy: isCalm ? 0 : rate(),
      denied: isCalm || chance(random, 0.4) ? 0 : rate(),
      truncate: isCalm ? 0 : rate() / 4,
      flip: isCalm ? 0 : rate() / 4,
      maxDelayMs: choose(random, [1, 4, 100]),
    });
    // Also where it is only slow: a writer must know in time that the volume is still its own.
    store.hasErred = true;
    if (!isAway) return;
    scheduler.after(random.fraction() * 3 * hourMs, () => {
      if (store.faults.errorBefore === 1) store.faults.errorBefore = 0;
    });
  }

  private changeDisk(host: Host): void {
    const { random } = this.world;
    const { disk } = host;
    const rate = (): number => (chance(random, 0.4) ? random.fraction() * 0.02 : 0);
    const isFull = chance(random, 0.3);
    Object.assign(disk.faults, soundDisk(), {
      readErrors: rate(),
      writeErrors: rate(),
      syncErrors: rate(),
      flippedReads: rate(),
      lostThreads: rate(),
      capacityBytes: isFull ? disk.content.usedBytes : Number.POSITIVE_INFINITY,
    });
    this.world.trace.add('disk', host.name, isFull ? 1 : 0);
  }

  private rot(host: Host): void {
    const { world } = this;
    const paths = host.disk.content.paths().filter((path) => path.endsWith('.journal'));
    if (paths.length === 0) return;
    world.trace.add('rot', host.name, 0);
    host.disk.flipBit(choose(world.random, paths));
  }

  /** Nothing more befalls it, and nobody begins anything. */
  calmDown(): void {
    this.isHealed = true;
  }

  heal(): void {
    const { world } = this;
    this.calmDown();
    world.trace.add('healed', world.name, 0);
    Object.assign(world.store.faults, {
      errorBefore: 0,
      errorAfter: 0,
      late: 0,
      busy: 0,
      denied: 0,
      truncate: 0,
      flip: 0,
      maxDelayMs: 4,
    });
    Object.assign(world.networkFaults, { breaks: 0, maximumDelayMs: 1 });
    for (const host of world.hosts) {
      Object.assign(host.disk.faults, soundDisk());
      host.life?.wake();
    }
  }

  /** Everything comes to its end, and the volume is what it was. */
  async end(): Promise<void> {
    const { world } = this;
    const survivor = world.hosts.find(
      ({ session }) => session?.isAdopted === true && session.history === world.history,
    );
    await this.strangersLeave(survivor);
    const last = (await this.finish(survivor)) ?? (await this.takeOver());
    const before = await last.readAll();
    if (before === undefined || !(await last.close())) throw new Error('the end was not reached');
    await this.elsewhere(before);
    await world.judge.end();
  }

  /** Who lost the volume must have noticed before its lease has run out twice. */
  private async strangersLeave(survivor: Host | undefined): Promise<void> {
    const { hosts, profile, store } = this.world;
    const strangers = hosts.filter((host) => host !== survivor);
    for (const host of strangers) {
      const isBehind = (host.session?.epoch ?? store.epoch) < store.epoch;
      if (!isBehind) this.world.kill(host);
    }
    await this.wait(2 * profile.settings.leaseMs + 2 * profile.settings.retryMaximumMs + 1000);
    for (const host of strangers) {
      if (host.session?.volume.ended === false) {
        throw new Error(`${host.name} goes on with a volume that another host has taken`);
      }
      if ((host.session?.underWay ?? 0) > 0) {
        throw new Error(`${host.name} leaves requests to a volume that it lost without an answer`);
      }
      this.world.kill(host);
    }
  }

  private wait(durationMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.world.scheduler.after(durationMs, resolve);
    });
  }

  /** The requests under way end, and one more of each kind succeeds; unless the volume has failed. */
  private async finish(host: Host | undefined): Promise<Session | undefined> {
    const session = host?.session;
    if (host === undefined || session === undefined) return undefined;
    session.isEnding = true;
    while (session.underWay > 0) await this.wait(100);
    if (session.isOver || session.volume.statistics().failure !== undefined) {
      this.world.kill(host);
      return undefined;
    }
    if (!(await session.flush())) {
      this.world.kill(host);
      return undefined;
    }
    return session;
  }

  private async takeOver(): Promise<Session> {
    const { world } = this;
    const host = choose(world.random, world.hosts);
    let session = await world.attach(host, world.start(host), 'when-dead');
    if (!(session instanceof Session) && session.code === 'corrupt' && host.disk.hasErred) {
      // The journal itself is damaged, and says so: the operator puts another disk in.
      world.kill(host);
      world.loseDisk(host);
      session = await world.attach(host, world.start(host), 'when-dead');
    }
    if (!(session instanceof Session)) throw session;
    if (!(await world.adopt(session))) throw new Error('a healed volume could not be read');
    await session.work(world.profile.laneCount, 20);
    if (!(await session.flush())) throw new Error('a healed volume could not be flushed');
    return session;
  }

  private async elsewhere(before: readonly Uint8Array[]): Promise<void> {
    const { world } = this;
    const host = world.addHost();
    const session = await world.attach(host, world.start(host), 'never');
    if (!(session instanceof Session)) throw session;
    const found = await session.readAll();
    const isSame = found?.every(
      (bytes, block) => Buffer.compare(bytes, before[block] ?? bytes) === 0,
    );
    if (isSame !== true)
      throw new Error('another host finds other bytes than were there at the end');
    await requireNoGarbage(world, session, before);
    if (!(await session.close())) throw new Error('the volume could not be given up at the end');
    const { openFiles } = session.life;
    if (openFiles !== 0) throw new Error(`${openFiles} files are open after the end`);
    await world.travel();
    await world.forge();
    const wrong = await world.check();
    if (wrong.length > 0) throw new Error(`the store is not sound: ${wrong.join('; ')}`);
  }
}
