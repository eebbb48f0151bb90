import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { LoopDelayMeter } from './loop-delay.ts';

test('a loop that was held up is told from one that was not', async () => {
  const meter = new LoopDelayMeter();
  meter.start();
  await sleep(60);
  const before = performance.now();
  while (performance.now() - before < 200);
  await sleep(60);
  meter.stop();
  const { p50Ms, maxMs } = meter.read();
  expect(maxMs).toBeGreaterThan(150);
  expect(p50Ms).toBeLessThan(maxMs);
});
