import { expect, test } from 'vitest';
import { createLog } from '../base/log.ts';
import { LogClock } from './log-clock.ts';

/** A machine whose wall clock can be set. */
function machine(lastMs: number): {
  log: LogClock;
  pass: (ms: number) => void;
  set: (ms: number) => void;
  told: string[];
} {
  let monotonicMs = 500;
  let offsetMs = 1_000_000;
  const told: string[] = [];
  const clock = {
    monotonicMs: () => monotonicMs,
    wallMs: () => monotonicMs + offsetMs,
    after: () => () => undefined,
    soon: () => undefined,
  };
  return {
    log: new LogClock(
      clock,
      createLog((_level, message) => told.push(message)),
      lastMs,
    ),
    pass: (ms) => (monotonicMs += ms),
    set: (wallMs) => (offsetMs = wallMs - monotonicMs),
    told,
  };
}

test('the times of a log are those of the wall clock as long as it goes forward', () => {
  const { log, pass, set, told } = machine(0);
  expect(log.nowMs()).toBe(1_000_500);
  pass(40);
  expect(log.nowMs()).toBe(1_000_540);
  set(2_000_000);
  expect(log.nowMs()).toBe(2_000_000);
  expect(told).toEqual([]);
});

test('times go on, half as fast, when the clock was set back, until it has caught up', () => {
  const { log, pass, set, told } = machine(0);
  const before = log.nowMs();
  set(before - 10_000);
  expect(log.nowMs()).toBe(before);
  pass(10_000);
  expect(log.nowMs()).toBe(before + 5000);
  pass(9999);
  expect(log.nowMs()).toBe(before + 9999);
  pass(1);
  expect(log.nowMs()).toBe(before + 10_000);
  pass(100);
  expect(log.nowMs()).toBe(before + 10_100);
  expect(told).toHaveLength(1);
});

test('times begin after what the log has, whatever the clock of this host says', () => {
  const { log, pass } = machine(5_000_000);
  expect(log.nowMs()).toBe(5_000_000);
  pass(10);
  expect(log.nowMs()).toBe(5_000_005);
});
