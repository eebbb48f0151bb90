import { StorageError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { RemoteDevice } from '../../src/nbd/remote-device.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { blockBytes, Contents } from './contents.ts';
import { History, type Version } from './history.ts';
import type { Life } from './process.ts';
import { chance, choose, pick } from './random.ts';
import { SimulatedServer } from './server.ts';
import { Session } from './session.ts';
import { Wire } from './wire.ts';
import { type Host, volumeName, type World } from './world.ts';

const longestAwayMs = 40;
/** So long a wait is a hang, once nothing fails any more. */
const patienceMs = 3_600_000;

interface Serving {
  readonly volume: Volume;
  readonly life: Life;
  readonly server: SimulatedServer;
  readonly wires: Set<Wire>;
  /** It is being given up, and takes no connections. */
  isStopping: boolean;
}

/**
 * A proxy between clients and a daemon that is killed, loses its power, sleeps and is restarted. To the
 * clients nothing of that may be seen: each read gives what was written last, no request fails, and
 * what a flush has covered survives the proxy, too.
 */
export class ProxiedDrama {
  private readonly world: World;
  private readonly host: Host;
  private readonly history: History;
  private readonly contents: Contents;
  private readonly busy: Uint8Array;
  private serving: Serving | undefined;
  private device: RemoteDevice | undefined;
  private isHealed = false;
  private calm = 0;

  constructor(world: World) {
    this.world = world;
    this.host = world.hosts[0] as Host;
    this.history = History.empty(world.profile.blockCount);
    this.contents = new Contents(world.networkRandom);
    this.busy = new Uint8Array(world.profile.blockCount);
  }

  async play(): Promise<void> {
    const { scheduler, counters, profile } = this.world;
    await this.world.createVolume();
    scheduler.onEvent = () => this.tick();
    this.setCalm();
    this.startLater();
    const lanes = Array.from({ length: profile.laneCount }, () => this.lane());
    for (const lane of lanes) lane.catch((error: unknown) => scheduler.fail(error));
    await scheduler.run(() => counters.crashes >= profile.crashCount);
    this.heal();
    let isDone = false;
    const deadline = scheduler.after(patienceMs, () => {
      scheduler.fail(new Error('not all has come to its end an hour after everything was healed'));
    });
    const ending = Promise.all(lanes)
      .then(() => this.end())
      .then(() => {
        isDone = true;
      });
    ending.catch((error: unknown) => scheduler.fail(error));
    await scheduler.run(() => isDone);
    deadline();
  }

  private setCalm(): void {
    const { networkRandom: random, profile } = this.world;
    this.calm = 1 + Math.floor(profile.calmEvents ** (0.5 + random.fraction() / 2));
  }

  private tick(): void {
    this.calm -= 1;
    if (this.isHealed || this.calm > 0) return;
    this.setCalm();
    const { networkRandom: random, networkFaults, trace } = this.world;
    const kind = random.fraction();
    if (kind < 0.3) this.crash();
    else if (kind < 0.6) this.crash(true);
    else if (kind < 0.7) void this.restart();
    else if (kind < 0.8) this.sleep();
    else {
      networkFaults.breaks = chance(random, 0.3) ? 0 : random.fraction();
      networkFaults.maximumDelayMs = choose(random, [0.1, 1, 20]);
      trace.add('network', networkFaults.breaks > 0 ? 'breaking' : 'calm', 0);
    }
  }

  private startLater(): void {
    const { scheduler, networkRandom: random } = this.world;
    scheduler.after(random.fraction() * longestAwayMs, () => {
      if (this.host.life === undefined) void this.live(this.world.start(this.host));
    });
  }

  /** Attaches the volume, and serves it from then on. */
  private async live(life: Life): Promise<void> {
    const { engine, profile, scheduler } = this.world;
    const found = await this.world.attach(this.host, life, 'when-dead');
    if (!life.isAlive) return;
    if (!(found instanceof Session)) {
      this.crash();
      return;
    }
    const fail = (error: unknown): void => scheduler.fail(error);
    const limits = profile.network?.limits ?? {};
    const server = new SimulatedServer(found.volume, life, { engine, limits, fail });
    this.serving = { volume: found.volume, life, server, wires: new Set(), isStopping: false };
  }

  private crash(losesPower = false): void {
    const { serving } = this;
    if (!this.world.kill(this.host)) return;
    if (losesPower) this.world.losePower(this.host);
    this.serving = undefined;
    for (const wire of serving?.wires ?? []) wire.sever();
    this.startLater();
  }

  /** An orderly end, as far as it comes. */
  private async restart(): Promise<void> {
    const { serving } = this;
    if (serving === undefined || serving.isStopping || serving.life.isAsleep) return;
    serving.isStopping = true;
    this.world.trace.add('restart', this.host.name, 0);
    await serving.server.drain();
    await serving.volume.close();
    if (serving.life.isAlive) this.crash();
  }

  private sleep(): void {
    const { networkRandom: random, scheduler, trace } = this.world;
    const { life } = this.host;
    if (life === undefined || life.isAsleep) return;
    trace.add('sleep', this.host.name, 0);
    life.sleep();
    scheduler.after(10 ** (random.fraction() * 4), () => life.wake());
  }

  private heal(): void {
    this.isHealed = true;
    this.world.trace.add('healed', '', 0);
    Object.assign(this.world.networkFaults, { breaks: 0, maximumDelayMs: 1 });
    this.host.life?.wake();
  }

  /** The proxy, which comes up as soon as it reaches its server, and stays. */
  private async proxy(): Promise<RemoteDevice> {
    const { engine, scheduler: clock, networkRandom: random } = this.world;
    const unflushedBytes = choose(random, [1, 4, 64]) * blockBytes;
    while (this.device === undefined) {
      await this.pause(20);
      const options = { exportName: volumeName, clock, log: silentLog, unflushedBytes };
      const connect = (): Promise<Wire['client']> => this.dial();
      const opened = await engine.RemoteDevice.open({ ...options, connect }).catch(() => undefined);
      if (this.device === undefined) this.device = opened;
      else opened?.close();
    }
    return this.device;
  }

  private async dial(): Promise<Wire['client']> {
    const { serving } = this;
    if (serving?.isStopping !== false)
      throw new StorageError('shutting-down', 'connection refused');
    const { networkRandom: random, networkFaults: faults, trace } = this.world;
    const wire = new Wire({ random, trace, faults, life: serving.life });
    serving.wires.add(wire);
    wire.client.once('close', () => serving.wires.delete(wire));
    serving.server.serve(wire);
    return wire.client;
  }

  private pause(longestMs: number): Promise<void> {
    const { scheduler, networkRandom: random } = this.world;
    return new Promise((resolve) => {
      scheduler.after(random.fraction() * longestMs, resolve);
    });
  }

  private async lane(): Promise<void> {
    const device = await this.proxy();
    while (!this.isHealed) {
      this.world.counters.operations += 1;
      await this.request(device);
      if (chance(this.world.networkRandom, 0.4)) await this.pause(4);
    }
  }

  private async request(device: RemoteDevice): Promise<void> {
    const { networkRandom: random } = this.world;
    const { blockCount } = this.history;
    const first = pick(random, blockCount);
    const count = Math.min(chance(random, 0.6) ? 1 : 1 + pick(random, 12), blockCount - first);
    const kind = random.fraction();
    if (kind < 0.55) await this.change(device, first, count);
    else if (kind < 0.8) await this.read(device, first, count);
    else await this.flush(device);
  }

  /** Asks through the proxy, of which no request may fail. */
  private async ask(name: string, at: number, done: Promise<void> | undefined): Promise<void> {
    const { trace } = this.world;
    trace.add(name, 'asked', at);
    await done;
    trace.add(name, 'answered', at);
  }

  private async change(device: RemoteDevice, first: number, count: number): Promise<void> {
    const { networkRandom: random, moments } = this.world;
    if (this.busy.subarray(first, first + count).includes(1)) return;
    this.busy.fill(1, first, first + count);
    const kind = choose(random, ['write', 'write', 'zero', 'trim'] as const);
    const bytes = new Uint8Array(count * blockBytes);
    if (kind === 'write') {
      for (let at = 0; at < count; at += 1) this.contents.fillBlock(bytes, at * blockBytes);
    }
    const asked = moments.next();
    const versions: Version[] = Array.from({ length: count }, (_, at) =>
      this.history.ask(first + at, bytes.slice(at * blockBytes, (at + 1) * blockBytes), asked),
    );
    const fua = chance(random, 0.08);
    const [offset, lengthBytes] = [first * blockBytes, count * blockBytes];
    if (kind === 'write') await this.ask(kind, first, device.write(offset, bytes, { fua }));
    else if (kind === 'trim')
      await this.ask(kind, first, device.trim(offset, lengthBytes, { fua }));
    else {
      const options = { fua, mayPunchHole: chance(random, 0.5) };
      await this.ask(kind, first, device.zero(offset, lengthBytes, options));
    }
    // Its memory is the client's again.
    bytes.fill(0xdd);
    const answered = moments.next();
    for (const version of versions) version.answered = answered;
    this.busy.fill(0, first, first + count);
  }

  private async read(device: RemoteDevice, first: number, count: number): Promise<void> {
    const { moments, scheduler } = this.world;
    const into = new Uint8Array(count * blockBytes);
    const asked = moments.next();
    this.history.readers.add(asked);
    await this.ask('read', first, device.read(first * blockBytes, into));
    this.history.readers.delete(asked);
    const answered = moments.next();
    for (let at = 0; at < count; at += 1) {
      const part = into.subarray(at * blockBytes, (at + 1) * blockBytes);
      if (!this.history.allows(first + at, part, 0, asked, answered)) {
        scheduler.fail(new Error(`a read gave bytes that block ${first + at} cannot have`));
      }
    }
  }

  private async flush(device: RemoteDevice): Promise<void> {
    const asked = this.world.moments.next();
    await this.ask('flush', 0, device.flush());
    this.history.promiseOnDisk(asked, this.host.disk.id);
  }

  /** The last flush, then the power is lost and the proxy with it: all of it must be there. */
  private async end(): Promise<void> {
    const { world } = this;
    const device = await this.proxy();
    await this.read(device, 0, this.history.blockCount);
    await this.flush(device);
    device.close();
    world.kill(this.host);
    world.losePower(this.host);
    this.serving = undefined;
    const last = await world.attach(this.host, world.start(this.host), 'when-dead');
    if (!(last instanceof Session)) throw last;
    const whole = new Uint8Array(this.history.blockCount * blockBytes);
    await last.volume.read(0, whole);
    const found = Array.from({ length: this.history.blockCount }, (_, at) =>
      whole.slice(at * blockBytes, (at + 1) * blockBytes),
    );
    this.history.resume(found, world.moments.next());
    await last.volume.close();
    const wrong = await world.check();
    if (wrong.length > 0) throw new Error(`the store is not sound: ${wrong.join('; ')}`);
  }
}
