/**
 * A client whose connection broke asks again on a new one, while what it asked on the old one may
 * still wait in here. If what waits is done in the order of asking, the new answer comes after the
 * old request is over, and nothing old can come on top of what is written next.
 */
import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { seededRandom } from '../../src/base/random.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { type FaultPlan, withFaults } from '../../src/store/with-faults.ts';
import { VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const plain = { fua: false };

test('changes that wait for room in the journal are made in the order of asking', async () => {
  const random = seededRandom(5);
  const below = (limit: number): number => Math.floor(random.fraction() * limit);
  const plan: FaultPlan = { errorBefore: 1, only: (operation) => operation === 'put' };
  const store = withFaults(createMemoryStore(), { clock: systemClock, random, plan });
  const host = new VolumeHost(store, { journalBytes: 40 * mebibyte, uploadIntervalMs: 60_000 });
  await host.create({ name: 'drive', sizeBytes: 64 * mebibyte });
  const volume = await host.open('drive');
  const filling = Promise.resolve(
    volume.write(mebibyte, new Uint8Array(40 * mebibyte).fill(1), plain),
  );
  await expect.poll(() => volume.statistics().journalFiles).toBe(4);
  const model = Buffer.alloc(4 * 4096);
  const asked: Promise<void>[] = [];
  for (let step = 1; step <= 200; step += 1) {
    const whole = random.fraction() < 0.5;
    const unit = whole ? 4096 : 100;
    const offset = below(model.length / unit / 2) * unit;
    const lengthBytes = Math.min(model.length - offset, (1 + below(3)) * unit);
    const value = random.fraction() < 0.2 ? 0 : step;
    if (value === 0) {
      const options = { fua: false, mayPunchHole: whole };
      asked.push(Promise.resolve(volume.zero(offset, lengthBytes, options)));
    } else {
      const data = new Uint8Array(lengthBytes).fill(value);
      asked.push(Promise.resolve(volume.write(offset, data, plain)));
    }
    model.fill(value, offset, offset + lengthBytes);
  }
  plan.errorBefore = 0;
  await Promise.all([filling, ...asked]);
  const found = Buffer.alloc(model.length);
  await volume.read(0, found);
  expect(found.equals(model)).toBe(true);
  await volume.close();
});
