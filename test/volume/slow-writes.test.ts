import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { seededRandom } from '../../src/base/random.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { type FaultPlan, withFaults } from '../../src/store/with-faults.ts';
import { readAll, VolumeHost } from '../support/volume-host.ts';

test('while the store is away the journal fills by the bytes written, not by the time', async () => {
  const plan: FaultPlan = { errorBefore: 0, only: (operation) => operation === 'put' };
  const random = seededRandom(5);
  const store = withFaults(createMemoryStore(), { clock: systemClock, random, plan });
  const host = new VolumeHost(store, { uploadIntervalMs: 5 });
  await host.create({ name: 'drive', sizeBytes: 4 * 2 ** 20 });
  const volume = await host.open('drive');
  plan.errorBefore = 1;
  const written = new Uint8Array(volume.sizeBytes);
  for (let block = 0; block < 60; block += 1) {
    const bytes = new Uint8Array(4096).fill(1 + block);
    written.set(bytes, block * 8192);
    await volume.write(block * 8192, bytes, { fua: true });
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const { journalFiles, journalFilesMaximum } = volume.statistics();
  expect(journalFiles).toBeLessThan(journalFilesMaximum);
  // What was held up goes up by itself when the store is back.
  plan.errorBefore = 0;
  await expect.poll(() => volume.statistics().dirtyBytes, { timeout: 20_000 }).toBe(0);
  expect(Buffer.compare(await readAll(volume), written)).toBe(0);
  await volume.close();
});
