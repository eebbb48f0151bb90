/** Time, passed in: the engine never asks the machine itself, so that a simulator can own it. */
export interface Clock {
  /** Milliseconds on a clock that never goes back; the zero means nothing. */
  monotonicMs(): number;
  /** Milliseconds since 1970-01-01T00:00Z; may jump. For people and time travel, never for order. */
  wallMs(): number;
  /** Calls `action` once after at least `delayMs`; the returned function cancels it. */
  after(delayMs: number, action: () => void): () => void;
  /** Calls `action` after pending I/O had its turn: how long work lets others in between. */
  soon(action: () => void): void;
}

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, action) {
    const timer = setTimeout(action, delayMs);
    return () => clearTimeout(timer);
  },
  soon(action) {
    setImmediate(action);
  },
};

/** A wall-clock time as people and files write it: `2026-11-20T10:15:00.000Z`. */
export function isoTime(wallMs: number): string {
  return new Date(wallMs).toISOString();
}

/** What `isoTime` made a text of; not a number for any other text. */
export function parseIsoTime(text: string): number {
  return Date.parse(text);
}

/** Resolves after `delayMs`, or as soon as `signal` is aborted. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const wake = (): void => {
      cancel();
      signal?.removeEventListener('abort', wake);
      resolve();
    };
    const cancel = clock.after(delayMs, wake);
    if (signal?.aborted === true) wake();
    else signal?.addEventListener('abort', wake, { once: true });
  });
}

/** Lets pending I/O have its turn. */
export function breathe(clock: Clock): Promise<void> {
  return new Promise((resolve) => clock.soon(resolve));
}
