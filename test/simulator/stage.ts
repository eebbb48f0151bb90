import { toStorageError } from '../../src/base/errors.ts';
import type { Durability } from '../../src/format/manifest.ts';
import type { VolumeSettings } from '../../src/volume/settings.ts';
import type { SectorChoice } from '../support/memory-disk.ts';
import { blockBytes } from './contents.ts';
import type { Engine } from './engine.ts';
import type { Profile } from './profile.ts';
import { Session } from './session.ts';
import { type Host, World } from './world.ts';

/** One request to a volume of few blocks; blocks by number and count. */
export type Request =
  | { readonly kind: 'write' | 'zero' | 'trim'; readonly first: number; readonly count: number }
  | { readonly kind: 'flush' }
  /** The volume has that many blocks from now on. */
  | { readonly kind: 'grow' | 'shrink'; readonly blocks: number }
  | { readonly kind: 'snapshot' }
  /** The oldest snapshot is deleted. */
  | { readonly kind: 'forget' }
  /** Time in which everything is uploaded, and a checkpoint made. */
  | { readonly kind: 'upload' }
  /** The volume is given up and attached again. */
  | { readonly kind: 'reopen' };

const uploadIntervalMs = 20;
const settledMs = 60;

/** A world without misfortune, in which the sizes make uploads and checkpoints frequent. */
function quietProfile(engine: Engine, durability: Durability): Profile {
  const { blockBytes, segmentDataBytes } = engine.geometry;
  return {
    blockCount: 3,
    hostCount: 1,
    durability,
    codec: 'none',
    retainMs: 0,
    patience: 'none',
    network: undefined,
    laneCount: 1,
    crashCount: 0,
    cloneCount: 0,
    isEncrypted: false,
    cipher: 'aes-256-gcm',
    calmEvents: 0,
    chaos: {
      kill: 0,
      power: 0,
      disk: 0,
      sleep: 0,
      rival: 0,
      'store-weather': 0,
      'disk-weather': 0,
      clock: 0,
      rot: 0,
      'network-weather': 0,
    },
    firstBlockCount: undefined,
    settings: {
      ...engine.defaultVolumeSettings,
      cacheBytes: 2 * blockBytes,
      segmentBuffers: 2,
      diskCacheBytes: 0,
      journalBytes: 4 * engine.journalFileBytes,
      uploadIntervalMs,
      readaheadBytes: segmentDataBytes,
      journalDelayMs: 0.1,
      checkpointSegments: 1,
      checkpointSegmentsMaximum: 2,
      checkpointIdleMs: uploadIntervalMs,
      leaseMs: 2000,
      retryMinimumMs: 1,
      retryMaximumMs: 10,
    },
  };
}

/** A world on which requests are made one after the other, as written. */
export class Stage {
  readonly world: World;
  readonly host: Host;
  private session: Session | undefined;
  /** Counts up at a crash: what was being done until then never goes on. */
  private acts = 0;

  constructor(
    engine: Engine,
    durability: Durability,
    seed: number,
    settings: Partial<VolumeSettings> = {},
  ) {
    const profile = quietProfile(engine, durability);
    const chosen = { ...profile, settings: { ...profile.settings, ...settings } };
    this.world = new World(engine, chosen, seed, false);
    this.host = this.world.hosts[0] as Host;
  }

  /** Lets time pass until `action` has come to its end, or `isCut`. */
  async play(action: () => Promise<void>, isCut: () => boolean = () => false): Promise<void> {
    const { scheduler } = this.world;
    let isDone = false;
    action().then(
      () => {
        isDone = true;
      },
      (error: unknown) => scheduler.fail(error),
    );
    await scheduler.run(() => isDone || isCut());
  }

  async perform(requests: readonly Request[]): Promise<void> {
    for (const request of requests) await this.make(request);
  }

  private async make(request: Request): Promise<void> {
    const session = await this.attached();
    // A server refuses what is past the end before the volume hears of it.
    const { sizeBytes } = session.volume;
    if ('first' in request && (request.first + request.count) * blockBytes > sizeBytes) return;
    switch (request.kind) {
      case 'write':
        await session.write(request);
        break;
      case 'zero':
        await session.zero(request);
        break;
      case 'trim':
        await session.trim(request);
        break;
      case 'flush':
        await session.flush();
        break;
      case 'grow':
        await session.grow(request.blocks);
        break;
      case 'shrink':
        await session.shrink(request.blocks);
        break;
      case 'snapshot':
        await session.snapshots.create(false);
        break;
      case 'forget':
        await session.snapshots.deleteOldest();
        break;
      case 'upload':
        await this.wait(settledMs);
        break;
      case 'reopen':
        await this.leave(session);
        await this.attached();
    }
    if (session.isOver && this.session === session) await this.leave(session);
  }

  /** Ends the daemon: in order if that can be, else as it is. */
  private async leave(session: Session): Promise<void> {
    if (session.isOver || !(await session.close())) await session.volume.abandon();
    this.host.life?.kill();
    this.host.life = undefined;
    this.session = undefined;
  }

  /** The volume, attached and found to be as it may be; tried again after an error with an excuse. */
  private async attached(): Promise<Session> {
    for (let tries = 0; this.session === undefined; tries += 1) {
      if (tries === 10) throw new Error('the volume could not be attached in ten attempts');
      const life = this.host.life ?? this.world.start(this.host);
      const result = await this.world.attach(this.host, life, 'never');
      if (result instanceof Session && (await this.world.adopt(result))) this.session = result;
      else if (result instanceof Session) await this.leave(result);
      else await this.wait(settledMs);
    }
    return this.session;
  }

  private wait(durationMs: number): Promise<void> {
    const { acts } = this;
    return new Promise((resolve) => {
      this.world.scheduler.after(durationMs, () => {
        if (acts === this.acts) resolve();
      });
    });
  }

  /** Cuts the power; of the unsynced writes those stay that `keeps` says. */
  losePower(keeps: SectorChoice): void {
    this.kill();
    this.world.losePower(this.host, keeps);
  }

  /** Ends the daemon; what the kernel has of it stays. */
  kill(): void {
    this.acts += 1;
    this.world.kill(this.host);
    this.session = undefined;
  }

  /** Comes back after a crash, as it may, and works on. */
  async comeBack(): Promise<void> {
    await this.perform([{ kind: 'write', first: 1, count: 1 }, { kind: 'flush' }]);
    const { judge } = this.world;
    while (judge.manifest?.snapshots.some(({ isCompleted }) => !isCompleted) === true) {
      await this.perform([{ kind: 'upload' }]);
    }
    await judge.end();
  }

  /** Works on, and is found the same by another host. */
  async moveOn(): Promise<void> {
    await this.perform([{ kind: 'write', first: 1, count: 1 }, { kind: 'flush' }]);
    const session = await this.attached();
    const before = await session.readAll();
    await this.leave(session);
    const other = this.world.addHost();
    const there = await this.world.attach(other, this.world.start(other), 'never');
    if (!(there instanceof Session)) throw toStorageError(there);
    const found = await there.readAll();
    const isSame = found?.every((bytes, at) => Buffer.compare(bytes, before?.[at] ?? bytes) === 0);
    if (isSame !== true) throw new Error('another host finds other bytes');
    await there.close();
    await this.world.judge.end();
    const wrong = await this.world.check();
    if (wrong.length > 0) throw new Error(`the store is not sound: ${wrong.join('; ')}`);
  }
}
