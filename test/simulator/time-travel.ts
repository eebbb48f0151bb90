import type { Clock } from '../../src/base/clock.ts';
import { isStorageError } from '../../src/base/errors.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import type { Moment } from '../../src/volume/moments.ts';
import type { WantedMoment } from '../../src/volume/wanted-moment.ts';
import { blockBytes } from './contents.ts';
import { chance } from './random.ts';
import type { Session } from './session.ts';
import type { World } from './world.ts';

/** Moments that are gone back to once all is over. */
const momentsAtTheEnd = 12;

interface Window {
  readonly fromMs: number;
  readonly throughMs: number;
}

/** Goes back to moments of the volume, and compares each with what the volume was then. */
export class TimeTravel {
  private readonly world: World;
  private readonly name: string;

  constructor(world: World, name: string) {
    this.world = world;
    this.name = name;
  }

  /** Goes back while the volume is written: through its writer, or by the store alone. */
  async go(session: Session): Promise<void> {
    const { pastRandom: random, store, profile } = this.world;
    const { volume, life, history } = session;
    const own = store.for(life, profile.patience);
    if (chance(random, 0.5)) {
      const { window } = volume;
      if (window === undefined) return;
      const wanted = this.choose(session, window);
      // As of now is what many ask for, and what is not in the store yet.
      const asked = chance(random, 0.3) ? { ...wanted, timeMs: window.throughMs } : wanted;
      await this.tolerant(session, asked, async () => {
        this.compare(session, await this.read(own, await volume.asOf(asked), asked.timeMs), asked);
      });
      return;
    }
    const manifest = await this.world.engine.findVolume(own, this.name);
    const nowMs = life.clock.wallMs();
    const window = this.world.engine.windowOf({ ...manifest, writer: undefined }, nowMs);
    // What another writer says of it by now is not what this one's clients know.
    if (window === undefined || manifest.epoch !== session.epoch) return;
    const wanted = this.choose(session, window);
    const options = { store: own, clock: life.clock, settings: profile.settings };
    await this.tolerant(session, wanted, async () => {
      const moment = await this.world.engine.findStoredMoment(options, manifest, wanted);
      const content = await this.read(own, moment, wanted.timeMs);
      if (history === session.history) this.compare(session, content, wanted);
    });
  }

  private choose({ history }: Session, { fromMs, throughMs }: Window): WantedMoment {
    const { pastRandom: random } = this.world;
    const recently = throughMs - (throughMs - fromMs) * random.fraction() ** 4;
    const timeMs = chance(random, 0.6)
      ? history.eventTimeMs(random.fraction(), fromMs, throughMs)
      : Math.max(fromMs, Math.floor(recently));
    return { timeMs, flushed: chance(random, 0.2) };
  }

  /** What may be answered instead: that there was no flush, or that the time is no longer kept. */
  private async tolerant(
    session: Session,
    wanted: WantedMoment,
    action: () => Promise<void>,
  ): Promise<void> {
    // A window that has just begun ends a millisecond from now, which may be over when this is refused.
    const isAhead = wanted.timeMs > session.life.clock.wallMs();
    const fromMs = session.volume.window?.fromMs;
    try {
      await action();
    } catch (error) {
      const isKept = (session.volume.window?.fromMs ?? wanted.timeMs + 1) <= wanted.timeMs;
      if (isStorageError(error, 'held')) return;
      if (isStorageError(error, 'usage') && (isAhead || wanted.flushed || !isKept)) return;
      if (!isKept && isStorageError(error, 'corrupt')) return;
      // What it was read from may go while the time itself is still kept: then it is opened again.
      const isMoved = !isKept || session.volume.window?.fromMs !== fromMs;
      if (isMoved && isStorageError(error, 'not-found')) return;
      throw error;
    }
  }

  private async read(store: ObjectStore, moment: Moment, timeMs: number): Promise<Uint8Array[]> {
    const { engine, profile, scheduler } = this.world;
    const options = { store, clock: scheduler, settings: profile.settings };
    const volume = await engine.openMoment(options, moment, timeMs);
    const whole = new Uint8Array(profile.blockCount * blockBytes);
    await volume.read(0, whole.subarray(0, volume.sizeBytes));
    return Array.from({ length: profile.blockCount }, (_, block) =>
      whole.slice(block * blockBytes, (block + 1) * blockBytes),
    );
  }

  private compare(
    { history }: Session,
    contents: readonly Uint8Array[],
    { timeMs, flushed }: WantedMoment,
  ): void {
    this.world.counters.travels += 1;
    try {
      history.requireAsOf(contents, timeMs, flushed);
    } catch (error) {
      this.world.scheduler.fail(error);
    }
  }

  /** Nobody has the volume, and all of it is in the store: each moment that is kept can be had. */
  async goAfterAll(): Promise<void> {
    const { engine, store, scheduler, pastRandom: random, history, profile } = this.world;
    const manifest = await engine.findVolume(store.truth, this.name);
    const nowMs = Math.max(scheduler.wallMs(), manifest.retention?.storedThroughMs ?? 0);
    const window = engine.windowOf(manifest, nowMs);
    if (window === undefined) throw new Error('a volume that keeps its past has none');
    const clock = Object.create(scheduler, { wallMs: { value: () => nowMs } }) as Clock;
    const options = { store: store.truth, clock, settings: profile.settings };
    for (let at = 0; at < momentsAtTheEnd; at += 1) {
      const timeMs = history.eventTimeMs(random.fraction(), window.fromMs, window.throughMs);
      const wanted = { timeMs, flushed: false };
      const moment = await engine.findStoredMoment(options, manifest, wanted);
      history.requireAsOf(await this.read(store.truth, moment, timeMs), timeMs, false);
      this.world.counters.travels += 1;
    }
  }
}
