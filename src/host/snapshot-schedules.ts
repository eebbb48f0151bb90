import { type Clock, isoTime } from '../base/clock.ts';
import { toStorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import {
  formatSchedule,
  parseSchedule,
  planSnapshots,
  type Schedule,
  scheduleTag,
} from './snapshot-schedule.ts';
import type { AttachedVolume } from './volume-source.ts';

/** How often it is looked at the time; that asks no store anything. */
const lookMs = 5000;

export interface SnapshotSchedulesOptions {
  /** The volumes that are attached now. */
  attached(): readonly { readonly name: string; readonly volume: AttachedVolume }[];
  /** As the configuration has them for a volume. */
  schedulesOf(volume: string): readonly string[];
  /** Where days begin when they do here: the name of a time zone. */
  readonly zone: string;
  readonly clock: Clock;
  readonly log: Log;
}

/** Makes and deletes the snapshots of attached volumes as their schedules say. */
export class SnapshotSchedules {
  private readonly options: SnapshotSchedulesOptions;
  private cancelTimer: (() => void) | undefined;
  private running: Promise<void> | undefined;
  private isStopped = false;

  constructor(options: SnapshotSchedulesOptions) {
    this.options = options;
  }

  start(): void {
    if (this.isStopped) return;
    this.cancelTimer = this.options.clock.after(lookMs, () => this.start());
    this.running ??= this.look().finally(() => {
      this.running = undefined;
    });
  }

  private async look(): Promise<void> {
    const { options } = this;
    for (const { name, volume } of options.attached()) {
      const texts = options.schedulesOf(name);
      const schedules = texts.flatMap((text) => parseSchedule(text) ?? []);
      if (schedules.length > 0) await this.keep(name, volume, schedules);
    }
  }

  private async keep(
    name: string,
    volume: AttachedVolume,
    schedules: readonly Schedule[],
  ): Promise<void> {
    const { clock, zone } = this.options;
    if (volume.ended || volume.snapshots === undefined) return;
    const { create, remove } = planSnapshots(schedules, volume.snapshots, clock.wallMs(), zone);
    for (const schedule of create) {
      await this.attempt('made', name, schedule.name, async () => {
        await volume.createSnapshot?.(this.wishOf(schedule));
      });
    }
    for (const { id, name: snapshot, tags } of remove) {
      const schedule = tags[scheduleTag] ?? '';
      await this.attempt('deleted', name, schedule, () => volume.deleteSnapshot?.(id), snapshot);
    }
  }

  private wishOf(schedule: Schedule): {
    readonly name: string;
    readonly description: string;
    readonly tags: Readonly<Record<string, string>>;
  } {
    const time = isoTime(this.options.clock.wallMs()).slice(0, 19).replaceAll(/[:-]/g, '');
    return {
      name: `${schedule.name.replaceAll(/[^a-z0-9]+/g, '-')}-${time}Z`,
      description: `made by the schedule ${formatSchedule(schedule)}`,
      tags: { [scheduleTag]: schedule.name },
    };
  }

  /** What fails is tried again at the next look. */
  private async attempt(
    what: 'made' | 'deleted',
    volume: string,
    schedule: string,
    action: () => Promise<unknown> | undefined,
    snapshot?: string,
  ): Promise<void> {
    const { log } = this.options;
    if (this.isStopped) return;
    try {
      await action();
      log.info(`snapshot ${what} by its schedule`, { volume, schedule, snapshot });
    } catch (error) {
      const { code, message } = toStorageError(error);
      log.warn(`snapshot not ${what} by its schedule`, { volume, schedule, code, reason: message });
    }
  }

  /** Begins nothing more; resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.isStopped = true;
    this.cancelTimer?.();
    await this.running;
  }
}
