/** How long the attacks last: short in the gate, as long as wanted by environment variable. */
import { randomInt } from 'node:crypto';

function count(name: string, otherwise: number): number {
  const text = process.env[name];
  if (text === undefined || text === '') return otherwise;
  if (!/^[1-9][0-9]{0,8}$/.test(text)) throw new Error(`${name}=${text} is not a number from 1`);
  return Number(text);
}

/** Kills over all stores and durabilities. */
export const crashKills = count('CRASH_KILLS', 40);

/** The first seed of a run; those of its parts follow. */
export const crashSeed = count('CRASH_SEED', randomInt(1, 100_000_000));

/** Moments before a power cut as of which each file system is looked at too. */
export const powerCutPoints = count('CRASH_POINTS', 5);
