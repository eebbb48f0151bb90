import { beforeEach, describe, expect, it } from 'vitest';
import { StorageError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import { MemorySource } from '../host/testing/memory-source.ts';
import { VolumeCatalog } from '../host/volume-catalog.ts';
import { systemClock } from '../base/clock.ts';
import { Output } from './output.ts';
import { takeOverHeld, takeOverIn, takeOverOf, takeOverWishes } from './taking-over.ts';
import { Capture } from './testing/run-program.ts';

let source: MemorySource;
let catalog: VolumeCatalog;
let stderr: Capture;
let output: Output;

beforeEach(() => {
  source = new MemorySource('s3://a', ['free', 'v', 'w']);
  source.holders.set('v', 'host-v').set('w', 'host-w');
  catalog = new VolumeCatalog({
    sources: [source],
    defaultVolume: undefined,
    clock: systemClock,
    takeOver: () => 'never',
    disconnect: () => Promise.resolve(),
    log: silentLog,
  });
  stderr = new Capture();
  output = new Output({ stdout: new Capture(), stderr, stderrIsTerminal: true }, false);
});

const attached = (): string[] => catalog.attached().map(({ name }) => name);
const take = (options: Record<string, unknown>): Promise<void> =>
  takeOverHeld(catalog, takeOverWishes(options), output);

describe('taking volumes over when the daemon starts', () => {
  it('takes nothing unless told to', async () => {
    await take({});
    expect(attached()).toEqual([]);
    expect(takeOverOf(takeOverWishes({}))('v')).toBe('never');
  });

  it('takes those whose writer is dead, says how it goes, and leaves those that live', async () => {
    const times = { leaseMs: 120_000, epoch: 1 };
    source.beforeAttach = (volume, { onWatch }) => {
      onWatch({ volume, host: `host-${volume}`, remainingMs: 83_000, ...times });
      const alive = new StorageError('held', `Volume ${volume} is attached on host-w.`);
      return volume === 'w' ? Promise.reject(alive) : Promise.resolve();
    };
    await take({ takeOver: true });
    expect(attached()).toEqual(['v']);
    expect(stderr.text).toContain('waiting whether host-v still has v');
    expect(stderr.text).toContain(': 83 s of 120 s left');
    expect(stderr.text).toContain('warning: Volume w is attached on host-w.\n');
    expect(takeOverOf(takeOverWishes({ takeOver: true }))('any')).toBe('when-dead');
  });

  it('fails when a volume that was named is not to be had', async () => {
    const alive = new StorageError('held', 'alive');
    source.beforeAttach = () => Promise.reject(alive);
    await expect(take({ takeOver: ['w'] })).rejects.toBe(alive);
    const of = takeOverOf(takeOverWishes({ takeOver: ['w'] }));
    expect([of('v'), of('w')]).toEqual(['never', 'when-dead']);
  });

  it('takes by force what was named, or what alone can be meant', async () => {
    await expect(take({ force: true })).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringContaining('--force v w') as string,
    });
    expect(attached()).toEqual([]);
    await take({ force: ['w'] });
    expect(attached()).toEqual(['w']);
    expect(source.takeOvers).toEqual(['now']);
    expect(stderr.text).toContain('warning: taking w from host-w by force');
    source.holders.delete('w');
    await take({ force: true });
    expect(attached()).toEqual(['v', 'w']);
    // Clients that come later get nothing by force.
    expect(takeOverOf(takeOverWishes({ force: true }))('v')).toBe('never');
  });

  it('reads the flags of commands for one volume', () => {
    expect(takeOverIn({})).toBe('never');
    expect(takeOverIn({ takeOver: true })).toBe('when-dead');
    expect(takeOverIn({ takeOver: true, force: true })).toBe('now');
  });
});
