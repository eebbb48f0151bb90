/**
 * `npm run attack -- NAME COUNT [SEED]`: one of the attacks of test/crash for as long as wanted. The
 * gate runs them all, each for a short time; see docs/TESTING.md.
 */
import { spawnSync } from 'node:child_process';

interface Attack {
  readonly file: string;
  readonly variable: string;
  readonly counts: string;
}

const attacks: Readonly<Record<string, Attack>> = {
  kill: { file: 'kill', variable: 'CRASH_KILLS', counts: 'kills of the daemon under load' },
  postgres: {
    file: 'postgres',
    variable: 'CRASH_POSTGRES_KILLS',
    counts: 'kills of the daemon under PostgreSQL, with each durability',
  },
  'power-cut': {
    file: 'power-cut',
    variable: 'CRASH_POINTS',
    counts: 'moments before the power cut as of which each file system is checked',
  },
  outage: {
    file: 'outage',
    variable: 'CRASH_OUTAGE_SECONDS',
    counts: 'seconds for which the store stays away after the journal is full',
  },
};

const [name = '', count = '', seed = ''] = process.argv.slice(2);
const attack = attacks[name];
if (attack === undefined || !/^[1-9]\d*$/.test(count) || !/^\d*$/.test(seed)) {
  console.log('npm run attack -- NAME COUNT [SEED]\n');
  for (const [known, { counts }] of Object.entries(attacks)) {
    console.log(`  ${known.padEnd(10)} COUNT ${counts}`);
  }
  process.exitCode = 2;
} else {
  const env = { ...process.env, [attack.variable]: count, CRASH_SEED: seed };
  const args = ['scripts/test.ts', `test/crash/${attack.file}.test.ts`];
  process.exitCode = spawnSync(process.execPath, args, { env, stdio: 'inherit' }).status ?? 1;
}
