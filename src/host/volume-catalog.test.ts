import { beforeEach, describe, expect, it } from 'vitest';
import type { BlockDevice } from '../base/block-device.ts';
import { systemClock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import type { MeteredDevice } from './metered-device.ts';
import { MemorySource } from './testing/memory-source.ts';
import type { OpenVolume } from './open-volume.ts';
import { VolumeCatalog } from './volume-catalog.ts';

function catalogOf(sources: MemorySource[], defaultVolume?: string): VolumeCatalog {
  return new VolumeCatalog({
    sources,
    defaultVolume,
    takeOver: () => 'when-dead',
    disconnect: () => Promise.resolve(),
    clock: systemClock,
    log: silentLog,
  });
}

/** The device that a client's requests come to, behind the one that counts them. */
function deviceOf({ device }: OpenVolume): BlockDevice {
  return (device as MeteredDevice).device;
}

const down = new StorageError('store-unavailable', 'the store does not answer');

describe('a catalog', () => {
  it('lists the volumes of all stores by name, as far as they answer', async () => {
    const [a, b] = [new MemorySource('s3://a', ['z', 'm']), new MemorySource('s3://b', ['a'])];
    const catalog = catalogOf([a, b]);
    expect(await catalog.list()).toEqual([
      { name: 'a', description: '1MiB in s3://b' },
      { name: 'm', description: '1MiB in s3://a' },
      { name: 'z', description: '1MiB in s3://a' },
    ]);
    a.failure = down;
    expect((await catalog.list()).map((volume) => volume.name)).toEqual(['a']);
  });

  it('attaches a volume once, however many ask', async () => {
    const source = new MemorySource('s3://a', ['v']);
    const catalog = catalogOf([source]);
    const [one, two] = await Promise.all([catalog.open('v'), catalog.open('v')]);
    const three = await catalog.open('');
    expect(source.attachments).toHaveLength(1);
    expect(new Set([one.device, two.device, three.device]).size).toBe(1);
    expect(catalog.attached()[0]).toMatchObject({ name: 'v', clients: 3 });
    await one.close();
    await one.close();
    expect(catalog.attached()[0]).toMatchObject({ name: 'v', clients: 2 });
  });

  it('keeps a volume attached without clients', async () => {
    const source = new MemorySource('s3://a', ['v']);
    const catalog = catalogOf([source]);
    await (await catalog.open('v')).close();
    await catalog.open('v');
    expect(source.attachments).toHaveLength(1);
  });

  it('tries again after an attachment that failed', async () => {
    const source = new MemorySource('s3://a', ['v']);
    const catalog = catalogOf([source]);
    source.failure = down;
    await expect(catalog.open('v')).rejects.toBe(down);
    source.failure = undefined;
    expect((await catalog.open('v')).name).toBe('v');
  });

  it('attaches a volume anew that had failed, when its last client is gone', async () => {
    const source = new MemorySource('s3://a', ['v']);
    const catalog = catalogOf([source]);
    const clients = [await catalog.open('v'), await catalog.open('v')];
    source.attachments[0]!.ended = true;
    await clients[0]!.close();
    const between = await catalog.open('v');
    expect(deviceOf(between)).toBe(source.attachments[0]);
    await Promise.all([clients[1]!.close(), between.close()]);
    expect(deviceOf(await catalog.open('v'))).toBe(source.attachments[1]);
    expect(source.attachments[0]!.end).toBe('abandoned');
  });

  it('refuses a name that two stores have, and only that', async () => {
    const sources = [new MemorySource('s3://a', ['v', 'w']), new MemorySource('s3://b', ['v'])];
    const catalog = catalogOf(sources);
    const opening = catalog.open('v');
    await expect(opening).rejects.toMatchObject({ code: 'conflict' });
    await expect(opening).rejects.toThrow(/s3:\/\/a and s3:\/\/b/);
    expect((await catalog.open('w')).name).toBe('w');
  });

  it('does not guess which volume is meant while a store is silent', async () => {
    const sources = [new MemorySource('s3://a', ['v']), new MemorySource('s3://b', ['v'])];
    sources[1]!.failure = down;
    await expect(catalogOf(sources).open('v')).rejects.toBe(down);
  });

  it('knows what the empty name means', async () => {
    const several = [new MemorySource('s3://a', ['v', 'w'])];
    const open = (sources: MemorySource[], name?: string): Promise<string> =>
      catalogOf(sources, name)
        .open('')
        .then((opened) => opened.name);
    expect(await open(several, 'w')).toBe('w');
    expect(await open([new MemorySource('s3://a', []), new MemorySource('s3://b', ['x'])])).toBe(
      'x',
    );
    await expect(open(several)).rejects.toThrow('several volumes');
    await expect(open([new MemorySource('s3://a', [])])).rejects.toThrow('no volume');
    await expect(open(several, 'gone')).rejects.toMatchObject({ code: 'not-found' });
  });

  it('gives everything up when it closes, and says what it could not', async () => {
    const source = new MemorySource('s3://a', ['v', 'w']);
    const catalog = catalogOf([source]);
    await catalog.open('v');
    const late = catalog.open('w');
    source.attachments[0]!.closeError = down;
    const closing = catalog.close();
    await expect(closing).rejects.toBe(down);
    await late;
    expect(source.attachments[1]!.end).toBe('closed');
    await expect(catalog.open('v')).rejects.toMatchObject({ code: 'shutting-down' });
  });

  describe('of a volume that another writer has', () => {
    const watch = { volume: 'v', host: 'b', epoch: 3, leaseMs: 120_000, remainingMs: 90_000 };
    let source: MemorySource;
    let leaseEnds: () => void;
    beforeEach(() => {
      source = new MemorySource('s3://a', ['v']);
      source.holders.set('v', 'b');
      source.beforeAttach = (_name, { onWatch, signal }) => {
        onWatch(watch);
        return new Promise((resolve, reject) => {
          leaseEnds = resolve;
          signal.addEventListener('abort', () => reject(down));
        });
      };
    });

    it('says who has it, and lets no client wait for the lease', async () => {
      const catalog = catalogOf([source]);
      expect(await catalog.held()).toMatchObject([{ name: 'v', holder: 'b' }]);
      expect((await catalog.list())[0]?.description).toBe('1MiB in s3://a, attached on b');
      await expect(catalog.open('v')).rejects.toThrow('attached on b, whose lease is watched');
      await expect(catalog.open('v')).rejects.toMatchObject({ code: 'held' });
      leaseEnds();
      await expect.poll(() => catalog.open('v')).toMatchObject({ name: 'v' });
      expect(source.takeOvers).toEqual(['when-dead']);
    });

    it('stops watching when an operator takes it by force, or when the daemon ends', async () => {
      const catalog = catalogOf([source]);
      await expect(catalog.open('v')).rejects.toMatchObject({ code: 'held' });
      const watching = source.beforeAttach;
      source.beforeAttach = () => Promise.resolve();
      await catalog.attach('v', 'now');
      expect(source.takeOvers).toEqual(['when-dead', 'now']);
      expect(catalog.attached()).toHaveLength(1);
      const other = catalogOf([source]);
      source.beforeAttach = watching;
      await expect(other.open('v')).rejects.toMatchObject({ code: 'held' });
      await other.close();
    });

    it('has nothing to detach', async () => {
      const catalog = catalogOf([source]);
      await expect(catalog.detach('v')).rejects.toMatchObject({ code: 'held' });
      source.holders.clear();
      expect(await catalog.detach('v')).toBe(false);
      expect(await catalog.detach('v')).toBe(false);
      await expect(catalog.open('v')).rejects.toThrow('was detached here');
      expect(source.takeOvers).toEqual([]);
    });
  });

  it('lets go of a volume that was lost, when it is detached or attached anew', async () => {
    const source = new MemorySource('s3://a', ['v']);
    const catalog = catalogOf([source]);
    const client = await catalog.open('v');
    source.attachments[0]!.ended = true;
    expect(await catalog.detach('v')).toBe(true);
    expect(source.attachments[0]!.end).toBe('abandoned');
    await client.close();
    await catalog.attach('v', 'never');
    expect(deviceOf(await catalog.open('v'))).toBe(source.attachments[1]);
  });

  it('keeps a volume that could not be given up from nobody', async () => {
    const source = new MemorySource('s3://a', ['v']);
    const catalog = catalogOf([source]);
    await catalog.open('v');
    source.attachments[0]!.closeError = down;
    await expect(catalog.detach('v')).rejects.toBe(down);
    expect(deviceOf(await catalog.open('v'))).toBe(source.attachments[1]);
  });

  describe('of a volume that gets another size', () => {
    const [oneMebibyte, twoMebibytes] = [2 ** 20, 2 ** 21];
    const grows = { sizeBytes: twoMebibytes, shrinks: false };
    const cutOff = { sizeBytes: oneMebibyte / 2, shrinks: true };
    let source: MemorySource;
    let catalog: VolumeCatalog;
    beforeEach(() => {
      source = new MemorySource('s3://a', ['v']);
      catalog = catalogOf([source]);
    });

    it('lets the attached one grow under its clients', async () => {
      const { device } = await catalog.open('v');
      expect(await catalog.resize('v', grows)).toEqual({
        beforeBytes: oneMebibyte,
        sizeBytes: twoMebibytes,
      });
      expect(device.sizeBytes).toBe(twoMebibytes);
      expect((await catalog.open('v')).description).toBe('2MiB in s3://a');
      expect(source.grown.size).toBe(0);
    });

    it('waits for one that is being attached', async () => {
      const opening = catalog.open('v');
      await catalog.resize('v', grows);
      expect((await opening).device.sizeBytes).toBe(twoMebibytes);
      expect(source.grown.size).toBe(0);
    });

    it('grows in its store what is not attached, and attaches nothing for that', async () => {
      await catalog.resize('v', grows);
      expect([...source.grown]).toEqual([['v', twoMebibytes]]);
      expect(source.attachments).toEqual([]);
      await expect(catalog.resize('w', grows)).rejects.toMatchObject({ code: 'not-found' });
    });

    it('leaves alone what another host has, and says which', async () => {
      source.holders.set('v', 'elsewhere');
      const refused = catalog.resize('v', grows);
      await expect(refused).rejects.toMatchObject({ code: 'held' });
      await expect(refused).rejects.toThrow('elsewhere');
    });

    it('cuts off nothing that is attached', async () => {
      const client = await catalog.open('v');
      await expect(catalog.resize('v', cutOff)).rejects.toThrow('has 1 client');
      await client.close();
      await expect(catalog.resize('v', cutOff)).rejects.toMatchObject({ code: 'held' });
      expect(source.attachments[0]?.sizeBytes).toBe(oneMebibyte);
      await catalog.detach('v');
      await catalog.resize('v', cutOff);
      expect(source.attachments[1]).toMatchObject({ sizeBytes: oneMebibyte / 2, end: 'closed' });
    });

    it('gives to nobody what is being cut off', async () => {
      const shrinking = Promise.withResolvers<void>();
      source.beforeAttach = () => shrinking.promise;
      const resized = catalog.resize('v', cutOff);
      await expect(catalog.open('v')).rejects.toThrow('is being made smaller');
      const closing = catalog.close();
      shrinking.resolve();
      await resized;
      await closing;
      expect(source.attachments).toHaveLength(1);
      expect(source.attachments[0]?.end).toBe('closed');
    });

    it('gives up what could not be cut off', async () => {
      source.shrinkError = down;
      await expect(catalog.resize('v', cutOff)).rejects.toBe(down);
      expect(source.attachments[0]?.end).toBe('closed');
      expect((await catalog.open('v')).device.sizeBytes).toBe(oneMebibyte);
    });
  });
});
