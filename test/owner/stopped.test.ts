/**
 * Two real daemons on one volume, one of them stopped past its lease and woken. OWNER_ROUNDS says how
 * many rounds on each store (default: as many as fit the gate), OWNER_SEED repeats a seed.
 */
import { randomInt } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { TemporaryDirectory } from '../support/programs.ts';
import { countFrom } from '../support/settings.ts';
import { storeKinds } from '../support/stores.ts';
import { TwoHosts } from './two-hosts.ts';

const rounds = countFrom('OWNER_ROUNDS', 5);
const firstSeed = countFrom('OWNER_SEED', randomInt(1, 100_000_000));
const leaseMs = countFrom('OWNER_LEASE_MS', 2000);

const [directory, ...others] = storeKinds;
const cases = [
  ...storeKinds.map((kind) => ({ kind, durability: 'store' as const })),
  ...[directory, ...(rounds > 10 ? others : [])]
    .filter((kind) => kind !== undefined)
    .map((kind) => ({ kind, durability: 'local' as const })),
];

describe('a writer that is stopped past its lease and woken', () => {
  cases.forEach(({ kind, durability }, at) => {
    it(`answers nothing that is old and loses nothing that was promised: ${kind.name}, ${durability}`, {
      timeout: 120_000 + rounds * 15_000,
    }, async ({ skip }) => {
      skip(kind.missing !== undefined, kind.missing);
      await using root = await TemporaryDirectory.make();
      const store = await kind.make(root);
      const seed = firstSeed + at;
      const hosts = new TwoHosts({ store, root, seed, leaseMs, durability });
      await hosts.run(rounds);
      process.stdout.write(
        `${kind.name}, ${durability}, seed ${seed}: ${JSON.stringify(hosts.tally)}\n`,
      );
      expect(hosts.tally.rounds).toBe(rounds);
      expect(hosts.tally.flushes).toBeGreaterThan(0);
    });
  });
});
