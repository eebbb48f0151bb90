import { type Clock, sleep } from '../base/clock.ts';
import { StorageError, toStorageError } from '../base/errors.ts';
import type { LocalDisk } from '../base/local-disk.ts';
import type { Log } from '../base/log.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { Fields, parseJson } from '../format/json-fields.ts';
import { checkVolumeOf } from './check.ts';
import type { CheckReport } from './check-report.ts';
import type { VolumeSettings } from './settings.ts';

/** RAM for the map while a volume is scrubbed; where it is not enough, the log is read again. */
const scrubMapBytes = 64 * 2 ** 20;
/** Problems of one scrub that are logged one by one; the others are counted. */
const loggedMaximum = 20;
/** No timer is set for longer: the wall clock may be put right meanwhile. */
const longestWaitMs = 3_600_000;

export interface ScrubberContext {
  readonly store: ObjectStore;
  readonly disk: LocalDisk;
  readonly clock: Clock;
  readonly log: Log;
  readonly settings: VolumeSettings;
  readonly volumeId: string;
  readonly volumeName: string;
  /** Where the time of the last scrub is kept. */
  readonly statePath: string;
}

/** What is known of the scrubbing of a volume. */
export interface ScrubStatus {
  readonly running: boolean;
  /** Segments verified of those there are, while one is running. */
  readonly segment: number;
  readonly lastSegment: number;
  /** Read by all scrubs since the volume was attached. */
  readonly readBytes: number;
  /** When the last one ended, 1970 for never; and what it found. */
  readonly endedMs: number;
  readonly damageCount: number;
  readonly lostBlocks: number;
}

/** As before the first scrub. */
export const neverScrubbed: ScrubStatus = {
  running: false,
  segment: 0,
  lastSegment: 0,
  readBytes: 0,
  endedMs: 0,
  damageCount: 0,
  lostBlocks: 0,
};

interface LastScrub {
  /** When it ended; when scrubbing was first thought of, if none has. */
  readonly sinceMs: number;
  readonly endedMs: number;
  readonly damageCount: number;
  readonly lostBlocks: number;
}

/**
 * Reads all of a volume's objects and verifies them, at a set rate, beside what the volume does for
 * its clients: when it is told to, and after each interval if one is set. It reads the store itself,
 * so it finds what no cache would show, and pushes nothing out of one.
 */
export class Scrubber {
  private readonly context: ScrubberContext;
  private readonly stopping = new AbortController();
  private running: Promise<CheckReport> | undefined;
  private last: LastScrub;
  private segment = 0;
  private lastSegment = 0;
  private readBytes = 0;
  /** When the next byte may be read, so that the rate is kept. */
  private freeMs = 0;
  private cancelTimer: (() => void) | undefined;

  private constructor(context: ScrubberContext, last: LastScrub) {
    this.context = context;
    this.last = last;
  }

  static async open(context: ScrubberContext): Promise<Scrubber> {
    const { disk, clock, statePath } = context;
    const known = decodeLast(await disk.readFile(statePath));
    const sinceMs = Math.floor(clock.wallMs());
    const scrubber = new Scrubber(context, known ?? { ...nothingFound, sinceMs, endedMs: 0 });
    if (known === undefined) await scrubber.remember(scrubber.last);
    scrubber.schedule();
    return scrubber;
  }

  get status(): ScrubStatus {
    const { endedMs, damageCount, lostBlocks } = this.last;
    return {
      running: this.running !== undefined,
      ...{ segment: this.segment, lastSegment: this.lastSegment, readBytes: this.readBytes },
      ...{ endedMs, damageCount, lostBlocks },
    };
  }

  /** Scrubs now, or goes on with the scrub that is under way. */
  start(): Promise<CheckReport> {
    this.running ??= this.run().finally(() => {
      this.running = undefined;
      this.schedule();
    });
    return this.running;
  }

  private async run(): Promise<CheckReport> {
    const { store, volumeId, volumeName, clock, log } = this.context;
    log.info('scrubbing', { volume: volumeName });
    const before = this.readBytes;
    this.freeMs = clock.monotonicMs();
    const report = await checkVolumeOf(store, volumeId, {
      clock,
      readData: { part: 1, parts: 1 },
      // With data, one segment at a time: nobody waits for a scrub.
      concurrency: 1,
      mapBytes: scrubMapBytes,
      pace: (bytes) => this.pace(bytes),
      onProgress: ({ segment, lastSegment, readBytes }) => {
        this.segment = segment;
        this.lastSegment = lastSegment;
        this.readBytes = before + readBytes;
      },
    });
    this.readBytes = before + report.readBytes;
    this.tell(report);
    const { damageCount, lostBlocks } = report;
    const endedMs = Math.floor(clock.wallMs());
    await this.remember({ sinceMs: endedMs, endedMs, damageCount, lostBlocks });
    return report;
  }

  private async pace(bytes: number): Promise<void> {
    const { clock, settings } = this.context;
    const { signal } = this.stopping;
    const nowMs = clock.monotonicMs();
    this.freeMs = Math.max(this.freeMs, nowMs) + (bytes / settings.scrubBytesPerSecond) * 1000;
    if (this.freeMs > nowMs) await sleep(clock, this.freeMs - nowMs, signal);
    if (signal.aborted) throw new StorageError('shutting-down', 'The scrub was stopped.');
  }

  private tell(report: CheckReport): void {
    const { log, volumeName: volume } = this.context;
    const { damageCount, warningCount, lostBlocks, readBytes } = report;
    const damaged = report.problems.filter(({ severity }) => severity === 'damage');
    for (const { object, message } of damaged.slice(0, loggedMaximum)) {
      log.error('the scrub found damage', { volume, object, damage: message });
    }
    const found = { volume, damaged: damageCount, warnings: warningCount, lostBlocks, readBytes };
    if (damageCount > 0) log.error('the scrub is done', found);
    else log.info('the scrub is done', found);
  }

  private async remember(last: LastScrub): Promise<void> {
    this.last = last;
    const bytes = new TextEncoder().encode(`${JSON.stringify(last)}\n`);
    const { disk, statePath, log, volumeName: volume } = this.context;
    try {
      await disk.replaceFile(statePath, bytes);
    } catch (error) {
      // It is known until the daemon ends; a volume can do without more.
      log.warn('the time of the scrub was not kept', {
        volume,
        error: toStorageError(error).message,
      });
    }
  }

  private schedule(): void {
    const { clock, settings, log, volumeName } = this.context;
    const { scrubIntervalMs } = settings;
    this.cancelTimer?.();
    if (scrubIntervalMs === undefined || this.stopping.signal.aborted) return;
    const dueMs = this.last.sinceMs + scrubIntervalMs - clock.wallMs();
    this.cancelTimer = clock.after(Math.max(0, Math.min(dueMs, longestWaitMs)), () => {
      if (clock.wallMs() < this.last.sinceMs + scrubIntervalMs) return this.schedule();
      this.start().catch((error: unknown) => {
        if (this.stopping.signal.aborted) return;
        const { message } = toStorageError(error);
        log.warn('the scrub was not finished; another follows', { volume: volumeName, message });
        // Not at once: what kept this one from being finished may still be there.
        const nowMs = clock.wallMs();
        this.last = { ...this.last, sinceMs: nowMs - scrubIntervalMs + longestWaitMs };
        this.schedule();
      });
    });
  }

  /** Ends the scrub that is under way; it begins anew another time. */
  async stop(): Promise<void> {
    this.stopping.abort();
    this.cancelTimer?.();
    await this.running?.catch(() => undefined);
  }
}

const nothingFound = { damageCount: 0, lostBlocks: 0 };

/** What is not there, or not what it should be, is no reason not to attach a volume. */
function decodeLast(bytes: Uint8Array | undefined): LastScrub | undefined {
  try {
    if (bytes === undefined) return undefined;
    const fields = new Fields(parseJson(bytes, 'scrub.json'), 'scrub.json');
    return {
      sinceMs: fields.count('sinceMs'),
      endedMs: fields.count('endedMs'),
      damageCount: fields.count('damageCount'),
      lostBlocks: fields.count('lostBlocks'),
    };
  } catch {
    return undefined;
  }
}
