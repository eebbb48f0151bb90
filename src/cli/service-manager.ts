import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export interface ServiceManagerOptions {
  readonly environment: Environment;
  readonly pid: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Sends assignments such as `READY=1`; false when that failed. */
  readonly notify: (assignments: readonly string[]) => Promise<boolean>;
}

/** First file descriptor of those that are passed, by the protocol of `sd_listen_fds`. */
const firstPassed = 3;

/** The sockets that listen already, opened by whoever started this process and meant for it. */
export function passedSockets(environment: Environment, pid: number): number[] {
  if (Number(environment['LISTEN_PID']) !== pid) return [];
  const count = Number(environment['LISTEN_FDS']);
  if (!Number.isSafeInteger(count) || count < 1) return [];
  return Array.from({ length: count }, (_, at) => firstPassed + at);
}

/** The supervisor of this process, told of its states if it wants to know them. */
export class ServiceManager {
  private readonly options: ServiceManagerOptions;
  private cancelTimer: (() => void) | undefined;
  private ended = false;

  constructor(options: ServiceManagerOptions) {
    this.options = options;
  }

  /** Whoever waits for this service may go on; from now on it is watched, if that was asked for. */
  async ready(status: string): Promise<void> {
    await this.tell('READY=1', `STATUS=${status}`);
    this.watch();
  }

  async stopping(status: string): Promise<void> {
    this.ended = true;
    this.cancelTimer?.();
    await this.tell('STOPPING=1', `STATUS=${status}`);
  }

  /** A sign of life in half the time after which one is missed. The event loop gives it, or nobody. */
  private watch(): void {
    const { environment, pid, clock } = this.options;
    const everyMs = Number(environment['WATCHDOG_USEC']) / 1000 / 2;
    const watched = environment['WATCHDOG_PID'];
    if (!(everyMs > 0) || (watched !== undefined && Number(watched) !== pid)) return;
    const beat = (): void => {
      if (this.ended) return;
      this.cancelTimer = clock.after(everyMs, beat);
      void this.tell('WATCHDOG=1');
    };
    beat();
  }

  private async tell(...assignments: string[]): Promise<void> {
    const { environment, notify, log } = this.options;
    if ((environment['NOTIFY_SOCKET'] ?? '') === '') return;
    if (await notify(assignments)) return;
    log.warn('the service manager could not be told: is systemd-notify installed?', {
      states: assignments.join(' '),
    });
  }
}
