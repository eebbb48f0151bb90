import type { Retention } from '../format/retention.ts';

/** The retention of a volume that nothing was ever written to. */
export function retentionFromBirth(retainMs: number, nowMs: number): Retention {
  const keptFrom = { checkpoint: undefined, timeMs: nowMs };
  return { retainMs, keptFrom, storedThroughMs: nowMs, turns: [] };
}
