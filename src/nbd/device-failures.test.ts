import { describe, expect, it } from 'vitest';
import { AssertionError } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import { createLog } from '../base/log.ts';
import { DeviceFailures } from './device-failures.ts';
import { ManualClock } from './testing/manual-clock.ts';

function failures() {
  const clock = new ManualClock();
  const lines: unknown[] = [];
  const log = createLog((_level, _message, fields) => lines.push(fields));
  return { clock, lines, failures: new DeviceFailures(log, clock) };
}

describe('what a device failed with', () => {
  it('is told to the client by its NBD error, and by its sentence', () => {
    const refusal = failures().failures.refusalOf(new StorageError('corrupt', 'segment 7 is torn'));
    expect(refusal).toEqual({ error: 'EIO', message: 'segment 7 is torn' });
  });

  it('is in the log once a second, with the count of what was left out', () => {
    const { clock, lines, failures: device } = failures();
    const error = new StorageError('store-unavailable', 'the store does not answer');
    for (let count = 0; count < 1000; count += 1) device.refusalOf(error);
    clock.advance(1_000);
    device.refusalOf(error);
    const line = { code: 'store-unavailable', error: 'the store does not answer' };
    expect(lines).toEqual([
      { ...line, unlogged: 0 },
      { ...line, unlogged: 999 },
    ]);
  });

  it('is in the log once for each thing that is said, up to a limit', () => {
    const { clock, lines, failures: device } = failures();
    const fail = (count: number): void => {
      for (let block = 0; block < count; block += 1) {
        device.refusalOf(new StorageError('corrupt', `block ${block} is damaged`));
      }
    };
    fail(2);
    fail(2);
    expect(lines).toHaveLength(2);
    fail(100);
    expect(lines).toHaveLength(16);
    clock.advance(1_000);
    fail(1);
    expect(lines.at(-1)).toMatchObject({ error: 'block 0 is damaged', unlogged: 84 });
  });

  it('stays inside when it is a mistake of ours, and is in the log', () => {
    const { lines, failures: device } = failures();
    const refusal = device.refusalOf(new TypeError('x is not a function'));
    expect(refusal).toEqual({ error: 'EIO', message: 'internal error: see the log of the server' });
    expect(lines).toMatchObject([{ code: 'internal', error: 'x is not a function' }]);
  });

  it('goes on as a failed assertion, which ends the process', () => {
    const error = new AssertionError('proved wrong');
    expect(() => failures().failures.refusalOf(error)).toThrow(error);
  });
});
