/**
 * `npm run attack -- NAME COUNT [SEED]`: one of the attacks of test/ for as long as wanted. The
 * gate runs them, each for a short time; see docs/TESTING.md.
 */
import { spawnSync } from 'node:child_process';

interface Attack {
  readonly file: string;
  readonly variable: string;
  readonly counts: string;
}

const attacks: Readonly<Record<string, Attack>> = {
  kill: { file: 'crash/kill', variable: 'CRASH_KILLS', counts: 'kills of the daemon under load' },
  postgres: {
    file: 'crash/postgres',
    variable: 'CRASH_POSTGRES_KILLS',
    counts: 'kills of the daemon under PostgreSQL, with each durability',
  },
  'power-cut': {
    file: 'crash/power-cut',
    variable: 'CRASH_POINTS',
    counts: 'moments before the power cut as of which each file system is checked',
  },
  outage: {
    file: 'crash/outage',
    variable: 'CRASH_OUTAGE_SECONDS',
    counts: 'seconds for which the store stays away after the journal is full',
  },
  systemd: {
    file: 'guest/systemd',
    variable: 'SYSTEMD_KILLS',
    counts: 'kills of a service in a guest, with a store in a directory and on S3',
  },
  grow: {
    file: 'guest/grow',
    variable: 'GROW_CASES',
    counts: 'of the three kinds of mounted devices that grow',
  },
  soak: {
    file: 'soak/soak',
    variable: 'SOAK_SECONDS',
    counts: 'seconds of random everything, on a directory and then on S3',
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
  const args = ['scripts/test.ts', `test/${attack.file}.test.ts`];
  process.exitCode = spawnSync(process.execPath, args, { env, stdio: 'inherit' }).status ?? 1;
}
