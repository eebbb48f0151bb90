import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../base/clock.ts';
import { silentLog } from '../base/log.ts';
import { firstSignal } from './signals.ts';

class Left extends Error {}

function watch(echoed: boolean) {
  const emitter = new EventEmitter();
  let nowMs = 0;
  const signals = {
    on: (signal: string, listener: (signal: string) => void) => void emitter.on(signal, listener),
    exit: (): never => {
      throw new Left('the process would be gone');
    },
  };
  const clock = { ...systemClock, monotonicMs: () => nowMs };
  const first = firstSignal(signals, { clock, log: silentLog, echoed });
  const sendAt = (atMs: number, signal = 'SIGINT'): void => {
    nowMs = atMs;
    emitter.emit(signal, signal);
  };
  return { first, sendAt };
}

describe('signals', () => {
  it('ask to stop, then to leave at once', async () => {
    const { first, sendAt } = watch(false);
    sendAt(0, 'SIGTERM');
    expect(await first).toBe('SIGTERM');
    expect(() => sendAt(1)).toThrow(Left);
  });

  it('that npm repeats count once', async () => {
    const { first, sendAt } = watch(true);
    sendAt(0);
    sendAt(1);
    expect(await first).toBe('SIGINT');
    expect(() => sendAt(200)).toThrow(Left);
  });
});
