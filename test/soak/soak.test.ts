/**
 * Random everything for a while, on a directory and on S3, and a check of all data at the end.
 * SOAK_SECONDS says for how long on each (default: as long as fits), CRASH_SEED repeats a seed;
 * SOAK_STEPS shows what happens.
 */
import { describe, expect, it } from 'vitest';
import { TemporaryDirectory } from '../support/programs.ts';
import { storeKinds } from '../support/stores.ts';
import { crashSeed, soakSeconds } from '../crash/settings.ts';
import { SoakRun } from './soak-run.ts';

const showsSteps = process.env['SOAK_STEPS'] !== undefined;

describe('random everything', () => {
  storeKinds.forEach((kind, at) => {
    it(`leaves nothing wrong: ${kind.name}`, {
      timeout: 180_000 + soakSeconds * 2_000,
    }, async ({ skip }) => {
      skip(kind.missing !== undefined, kind.missing);
      await using root = await TemporaryDirectory.make();
      const store = await kind.make(root);
      const run = new SoakRun({
        ...{ store, root, seed: crashSeed + at, pauseMs: 4 },
        onStep: (step) => {
          if (showsSteps) process.stdout.write(`${new Date().toISOString()} ${step}\n`);
        },
      });
      try {
        await run.prepare();
        const endMs = performance.now() + soakSeconds * 1000;
        while (performance.now() < endMs) await run.step();
        await run.finish();
      } catch (error) {
        await run.abandon();
        throw error;
      }
      process.stdout.write(`${kind.name}, seed ${crashSeed + at}: ${JSON.stringify(run.tally)}\n`);
      expect(Object.values(run.tally).reduce((sum, count) => sum + count, 0)).toBeGreaterThan(3);
    });
  });
});
