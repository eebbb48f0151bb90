import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import type { Drivers } from '../cli/drivers.ts';

/** The drivers of this machine. Each is loaded when a command first needs it. */
export function systemDrivers(clock: Clock, random: Random): Drivers {
  return {
    clock,
    random,
    openStore: () => Promise.reject(new Error('later')),
    createSource: () => {
      throw new Error('later');
    },
    createServer: () => {
      throw new Error('later');
    },
  };
}
