import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { seededRandom } from '../../src/base/random.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { type FaultPlan, withFaults } from '../../src/store/with-faults.ts';
import { readAll, VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const random = seededRandom(13);

test('an attachment that failed half-way leaves the log as the one before it wrote it', async () => {
  const plan: FaultPlan = { only: (operation) => operation === 'list' };
  const store = withFaults(createMemoryStore(), { clock: systemClock, random, plan });
  const host = new VolumeHost(store, { checkpointSegments: 1 });
  await host.create({ name: 'drive', sizeBytes: mebibyte });
  const volume = await host.open('drive');
  const content = random.bytes(mebibyte);
  await volume.write(0, content, { fua: false });
  await expect.poll(() => volume.statistics().checkpoints).toBeGreaterThan(0);
  host.disk.kill();
  await volume.abandon();
  plan.errorBefore = 1;
  await expect(host.open('drive')).rejects.toMatchObject({ code: 'store-unavailable' });
  plan.errorBefore = 0;
  const again = await host.open('drive');
  expect(Buffer.compare(await readAll(again), content)).toBe(0);
  await again.close();
});
