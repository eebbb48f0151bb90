import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { LoopDelayMeter } from './loop-delay.ts';

let meter: LoopDelayMeter | undefined;

afterEach(() => meter?.stop());

test('says nothing before anything was measured', () => {
  meter = new LoopDelayMeter();
  expect(meter.read()).toEqual({
    p50Ms: 0,
    p999Ms: 0,
    maxMs: 0,
    held: { p999Ms: 0, maxMs: 0 },
  });
});

test('sees what holds the loop up', async () => {
  meter = new LoopDelayMeter();
  meter.start();
  await sleep(50);
  const untilMs = performance.now() + 60;
  while (performance.now() < untilMs);
  await sleep(50);
  const { p50Ms, maxMs, held } = meter.read();
  expect(maxMs).toBeGreaterThan(30);
  expect(p50Ms).toBeLessThan(maxMs);
  // Never more than what it is a part of.
  expect(held.maxMs).toBeGreaterThan(0);
  expect(held.maxMs).toBeLessThanOrEqual(maxMs);
});
