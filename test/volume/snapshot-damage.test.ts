import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { seededRandom } from '../../src/base/random.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { type FaultPlan, withFaults } from '../../src/store/with-faults.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { VolumeHost } from '../support/volume-host.ts';

const blockBytes = 4096;
const dataAt = 135_168;
const [markAt, markBytes] = [512, 8];

test('a snapshot of which the disk has lost the end is given up, and never completed with less', async () => {
  const plan: FaultPlan = { errorBefore: 1, only: (operation) => operation === 'put' };
  const faults = { clock: systemClock, random: seededRandom(3), plan };
  const store = withFaults(createMemoryStore(), faults);
  const host = new VolumeHost(store, { uploadIntervalMs: 3_600_000 });
  await host.create({ name: 'drive', sizeBytes: 2 ** 24 });
  const volume = await host.open('drive');
  for (let block = 0; block < 3; block += 1) {
    await volume.write(2 * block * blockBytes, new Uint8Array(blockBytes).fill(7), { fua: false });
  }
  const made = await volume.createSnapshot({ name: 'before' });
  expect(made).toMatchObject({ isCompleted: false, segment: 1, cutEntries: 3 });
  host.disk.kill();
  await volume.abandon().catch(() => undefined);
  // The last block changes before anything says that it was durable once.
  const path = host.disk.paths().find((each) => each.endsWith('000001.journal')) ?? '';
  host.disk.flipBit(path, dataAt + 2 * blockBytes);
  const file = await host.disk.open(path, { create: false });
  await file.write([new Uint8Array(markBytes)], markAt);
  await file.close();
  const again = await host.open('drive');
  expect((await findVolume(store, 'drive')).snapshots).toEqual([]);
  await again.abandon();
});
