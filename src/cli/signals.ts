import type { Log } from '../base/log.ts';

/** The signals of a process, and its end. */
export interface ProcessSignals {
  on(signal: 'SIGTERM' | 'SIGINT', listener: (signal: string) => void): void;
  /** Ends the process here and now. */
  exit(status: number): never;
}

/**
 * Resolves with the first SIGTERM or SIGINT, which asks for an orderly stop. The second ends the
 * process at once, as a crash would: what was flushed is in the journal.
 */
export function firstSignal(signals: ProcessSignals, log: Log): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let seen = false;
  const listener = (signal: string): void => {
    if (seen) {
      log.warn('leaving at once: what was flushed is in the journal', { signal });
      signals.exit(1);
    }
    seen = true;
    resolve(signal);
  };
  signals.on('SIGTERM', listener);
  signals.on('SIGINT', listener);
  return promise;
}
