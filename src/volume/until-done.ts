import { type Clock, sleep } from '../base/clock.ts';
import { isStorageError, type StorageError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import type { VolumeSettings } from './settings.ts';

export interface PatientContext {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly settings: VolumeSettings;
}

/**
 * Does `action` again and again until the store has done it, ever more slowly. A store that refuses
 * today may be repaired tomorrow, and what it is to keep lies in the journal until then. Ends early
 * only with what `stopped` gives.
 */
export async function untilDone(
  context: PatientContext,
  what: string,
  stopped: () => StorageError | undefined,
  action: () => Promise<void>,
): Promise<void> {
  const { clock, random, log, settings } = context;
  let waitMs = settings.retryMinimumMs;
  for (;;) {
    const reason = stopped();
    if (reason !== undefined) throw reason;
    try {
      await action();
      return;
    } catch (error) {
      if (!isStorageError(error)) throw error;
      log.warn('not in the store yet, trying again', { what, error: error.message });
    }
    await sleep(clock, waitMs * (0.5 + random.fraction()));
    waitMs = Math.min(settings.retryMaximumMs, waitMs * 2);
  }
}
