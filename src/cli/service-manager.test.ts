import { expect, test } from 'vitest';
import { silentLog } from '../base/log.ts';
import { ManualClock } from '../nbd/testing/manual-clock.ts';
import { passedSockets, ServiceManager } from './service-manager.ts';

const pid = 77;

function managed(environment: Record<string, string>) {
  const told: string[] = [];
  const clock = new ManualClock();
  const manager = new ServiceManager({
    environment,
    pid,
    clock,
    log: silentLog,
    notify: async (assignments) => {
      told.push(assignments.join(' '));
      return true;
    },
  });
  return { told, clock, manager };
}

test('sockets are taken from whoever passes them to this very process', () => {
  const passed = (LISTEN_FDS: string, LISTEN_PID: string) =>
    passedSockets({ LISTEN_FDS, LISTEN_PID }, pid);
  expect(passed('2', '77')).toEqual([3, 4]);
  expect(passed('2', '78')).toEqual([]);
  expect(passed('', '77')).toEqual([]);
  expect(passed('-1', '77')).toEqual([]);
  expect(passedSockets({}, pid)).toEqual([]);
});

test('a manager that wants to know is told, and given signs of life until the end', async () => {
  const { told, clock, manager } = managed({ NOTIFY_SOCKET: '@x', WATCHDOG_USEC: '10000000' });
  await manager.ready('serving');
  expect(told).toEqual(['READY=1 STATUS=serving', 'WATCHDOG=1']);
  clock.advance(4_999);
  expect(told).toHaveLength(2);
  clock.advance(1);
  clock.advance(5_000);
  expect(told.slice(2)).toEqual(['WATCHDOG=1', 'WATCHDOG=1']);
  await manager.stopping('uploading');
  clock.advance(20_000);
  expect(told.slice(4)).toEqual(['STOPPING=1 STATUS=uploading']);
  expect(clock.pending).toBe(0);
});

test('nobody is told who did not ask, and no other process is spoken for', async () => {
  const quiet = managed({ WATCHDOG_USEC: '10000000' });
  await quiet.manager.ready('serving');
  expect(quiet.told).toEqual([]);
  const other = managed({ NOTIFY_SOCKET: '@x', WATCHDOG_USEC: '10000000', WATCHDOG_PID: '78' });
  await other.manager.ready('serving');
  expect(other.told).toEqual(['READY=1 STATUS=serving']);
});
