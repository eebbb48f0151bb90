import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { LogClock } from './log-clock.ts';
import { findStateBefore } from './moments.ts';
import type { Ownership } from './ownership.ts';
import { isFloorDue, keepFrom, keepLess, segmentOf } from './retention.ts';
import type { VolumeSettings } from './settings.ts';

/** How often it is looked at whether less need be kept; that itself asks the store nothing. */
const lookMs = 60_000;

export interface RetentionKeeperContext {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly settings: VolumeSettings;
  readonly ownership: Ownership;
  readonly times: LogClock;
  /** Segments up to this one may lack what they replaced themselves. */
  lastIncomplete(): number;
  /** When the last that the head has was written; 0 when that is not known. */
  headTimeMs(): number;
}

/**
 * Says in the manifest from which state on everything is kept: from the first checkpoint after which
 * nothing is left out, and later from one that is just older than the time that is to be kept.
 */
export class RetentionKeeper {
  private readonly context: RetentionKeeperContext;
  private cancelTimer: (() => void) | undefined;
  private running: Promise<void> | undefined;
  private isEnded = false;

  constructor(context: RetentionKeeperContext) {
    this.context = context;
  }

  /** Looks now, and from time to time. */
  start(): void {
    this.look();
    this.cancelTimer = this.context.clock.after(lookMs, () => this.start());
  }

  /** Looks whether something is to be said, as after a checkpoint. */
  look(): void {
    if (this.isEnded || this.running !== undefined) return;
    this.running = this.keep()
      .catch((error: unknown) => {
        this.context.log.warn('what is kept of the past is not brought up to date', {
          error: String(error),
        });
      })
      .finally(() => {
        this.running = undefined;
      });
  }

  private async keep(): Promise<void> {
    const { ownership, times } = this.context;
    const { retention } = ownership.manifest;
    if (retention === undefined) return;
    if (retention.keptFrom === undefined) await this.begin();
    else if (isFloorDue(retention, times.nowMs())) await this.moveOn();
  }

  private async begin(): Promise<void> {
    const { ownership, times } = this.context;
    const { head } = ownership.manifest;
    if (segmentOf(head) < this.context.lastIncomplete()) return;
    // What was written after the head bears a later time than this, or is in it as well.
    const timeMs = this.context.headTimeMs() || times.nowMs();
    await ownership.update((manifest) =>
      // The same map may be stored elsewhere by now; after another, this looks again.
      segmentOf(manifest.head) === segmentOf(head)
        ? keepFrom(manifest, { checkpoint: manifest.head, timeMs })
        : manifest,
    );
  }

  private async moveOn(): Promise<void> {
    const { store, ownership, settings, times } = this.context;
    const { manifest } = ownership;
    const { retention } = manifest;
    if (retention === undefined) return;
    const context = { store, manifest, concurrency: settings.getConcurrency };
    const found = await findStateBefore(context, retention, times.nowMs() - retention.retainMs);
    if (found.timeMs <= (retention.keptFrom?.timeMs ?? 0)) return;
    await ownership.update((current) => keepLess(current, found));
  }

  /** Begins nothing more; resolves when nothing is under way. */
  async end(): Promise<void> {
    this.isEnded = true;
    this.cancelTimer?.();
    await this.running;
  }
}
