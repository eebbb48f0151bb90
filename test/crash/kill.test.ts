/**
 * `kill -9` of the real daemon in the middle of load from several clients, on every kind of store.
 * CRASH_KILLS says how often over all (default: as often as fits), CRASH_SEED repeats a seed.
 */
import { describe, expect, it } from 'vitest';
import { TemporaryDirectory } from '../support/programs.ts';
import { storeKinds } from '../support/stores.ts';
import { crashKills, crashSeed } from './settings.ts';
import { CrashRun } from './crash-run.ts';

const durabilities = ['local', 'store'] as const;
const cases = storeKinds.flatMap((kind) =>
  durabilities.map((durability) => ({ kind, durability })),
);
const kills = Math.ceil(crashKills / cases.length);

describe('kill -9 under load', () => {
  cases.forEach(({ kind, durability }, at) => {
    it(`leaves what was promised: ${kind.name}, ${durability} durability`, {
      timeout: 120_000 + kills * 15_000,
    }, async ({ skip }) => {
      skip(kind.missing !== undefined, kind.missing);
      await using root = await TemporaryDirectory.make();
      const store = await kind.make(root);
      const run = new CrashRun({ store, root, seed: crashSeed + at, durability });
      await run.prepare();
      while (run.tally.kills < kills || run.tally.flushes === 0) await run.round();
      await run.finish();
      process.stdout.write(
        `${kind.name}, ${durability}, seed ${crashSeed + at}: ${JSON.stringify(run.tally)}\n`,
      );
      expect(run.tally.kills).toBeGreaterThanOrEqual(kills);
      expect(run.tally.flushes).toBeGreaterThan(0);
    });
  });
});
