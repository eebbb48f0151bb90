import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';

/** The signals of a process, and its end. */
export interface ProcessSignals {
  on(signal: 'SIGTERM' | 'SIGINT', listener: (signal: string) => void): void;
  /** Ends the process here and now. */
  exit(status: number): never;
}

export interface SignalOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Whether npm started the process and passes on what the terminal has sent us already. */
  readonly echoed: boolean;
}

/** A second signal this soon is the same one once more; npm takes about a millisecond. */
const echoMs = 200;

/**
 * Resolves with the first SIGTERM or SIGINT, which asks for an orderly stop. The second ends the
 * process at once, as a crash would: what was flushed is in the journal.
 */
export function firstSignal(
  signals: ProcessSignals,
  { clock, log, echoed }: SignalOptions,
): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let firstMs: number | undefined;
  const listener = (signal: string): void => {
    const nowMs = clock.monotonicMs();
    if (firstMs === undefined) {
      firstMs = nowMs;
      resolve(signal);
    } else if (!echoed || nowMs - firstMs >= echoMs) {
      log.warn('leaving at once: what was flushed is in the journal', { signal });
      signals.exit(1);
    }
  };
  signals.on('SIGTERM', listener);
  signals.on('SIGINT', listener);
  return promise;
}
