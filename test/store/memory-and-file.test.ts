import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/base/clock.ts';
import { seededRandom, systemRandom } from '../../src/base/random.ts';
import { createFileStore } from '../../src/store/file-store.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { openStore } from '../../src/store/open-store.ts';
import { type FaultPlan, withFaults } from '../../src/store/with-faults.ts';
import { withRetry } from '../../src/store/with-retry.ts';
import { describeStoreContract } from './contract.ts';

describeStoreContract('memory', {
  start: async () => ({ open: async () => createMemoryStore() }),
  shared: false,
});

describeStoreContract('file', {
  start: async () => {
    const root = await mkdtemp(join(tmpdir(), 'elasticdrive-store-'));
    return {
      open: async () => createFileStore({ directory: join(root, 'made/by/the/store') }),
      dispose: () => rm(root, { recursive: true }),
    };
  },
  shared: true,
});

describeStoreContract('file, opened by its URL with all wrappers', {
  start: async () => {
    const root = await mkdtemp(join(tmpdir(), 'elasticdrive-store-'));
    return {
      open: () => openStore(`file://${root}`, { clock: systemClock, random: systemRandom }),
      dispose: () => rm(root, { recursive: true }),
    };
  },
  shared: true,
});

// Every third call fails before or after its work; the contract holds all the same. Swaps fail only
// in the races, whose tests allow for an outcome that nobody can know.
describeStoreContract('memory that fails, behind retries', {
  start: async () => ({
    open: async () => {
      const random = seededRandom(7);
      const clock = systemClock;
      const plan: FaultPlan = {
        errorBefore: 0.2,
        errorAfter: 0.2,
        delay: 0.5,
        maxDelayMs: 1,
        only: (operation, key) => operation !== 'swap' || key.startsWith('races/'),
      };
      const failing = withFaults(createMemoryStore(), { clock, random, plan });
      return withRetry(failing, { clock, random, baseDelayMs: 1 });
    },
  }),
  shared: false,
});
