/** How long the attacks last: short in the gate, as long as wanted by environment variable. */
import { randomInt } from 'node:crypto';
import { countFrom } from '../support/settings.ts';

/** Kills over all stores and durabilities. */
export const crashKills = countFrom('CRASH_KILLS', 32);

/** The first seed of a run; those of its parts follow. */
export const crashSeed = countFrom('CRASH_SEED', randomInt(1, 100_000_000));

/** Moments before a power cut as of which each file system is looked at too. */
export const powerCutPoints = countFrom('CRASH_POINTS', 5);

/** How long the store stays away after the journal is full. */
export const outageSeconds = countFrom('CRASH_OUTAGE_SECONDS', 4);

/** How long random everything happens to the volumes of each store. */
export const soakSeconds = countFrom('SOAK_SECONDS', 8);

/** How often the daemon under PostgreSQL is killed, with each kind of durability. */
export const postgresKills = countFrom('CRASH_POSTGRES_KILLS', 2);
