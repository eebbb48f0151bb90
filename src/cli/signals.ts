import type { Log } from '../base/log.ts';

/** The signals of a process, and its end. */
export interface ProcessSignals {
  on(signal: 'SIGTERM' | 'SIGINT', listener: (signal: string) => void): void;
  /** Ends the process here and now. */
  exit(status: number): never;
}

export interface WatchedSignals {
  /** Resolves with the first signal's name. */
  readonly first: Promise<string>;
  /** What a second signal does before it ends the process. */
  beforeLeaving(action: () => void): void;
}

/** The first SIGTERM or SIGINT asks for an orderly stop; the second ends the process at once. */
export function watchSignals(signals: ProcessSignals, log: Log): WatchedSignals {
  const { promise, resolve } = Promise.withResolvers<string>();
  let seen = false;
  let leave = (): void => undefined;
  const listener = (signal: string): void => {
    if (seen) {
      log.warn('leaving at once: what was flushed is in the journal', { signal });
      leave();
      signals.exit(1);
    }
    seen = true;
    resolve(signal);
  };
  signals.on('SIGTERM', listener);
  signals.on('SIGINT', listener);
  return {
    first: promise,
    beforeLeaving(action) {
      leave = action;
    },
  };
}
