import { expect, test } from 'vitest';
import { StorageError } from '../../src/base/errors.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { wrapCalls } from '../../src/store/wrap-calls.ts';
import { listSetAside, removeSetAside } from '../../src/volume/set-aside.ts';
import { readAll, VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const plain = { fua: false };
const blockOf = (value: number): Uint8Array => new Uint8Array(4096).fill(value);

async function madeHost(settings = {}): Promise<VolumeHost> {
  const host = new VolumeHost(createMemoryStore(), settings);
  await host.create({ name: 'drive', sizeBytes: mebibyte });
  return host;
}

test('a host whose journal another host has overtaken sets it aside and says so', async () => {
  const host = await madeHost({ uploadIntervalMs: 60_000 });
  const volume = await host.open('drive');
  await volume.write(0, blockOf(1), { fua: true });
  host.disk.kill();
  await volume.abandon();
  const other = await new VolumeHost(host.store).open('drive', { takeOver: 'now' });
  await other.write(0, blockOf(9), plain);
  await other.close();
  const back = await host.open('drive');
  expect(await readAll(back)).toEqual(new Uint8Array(mebibyte).fill(9, 0, 4096));
  const [aside, ...others] = await listSetAside(host.disk, back.id);
  expect(aside).toMatchObject({ epoch: 1, segments: 1, dataBytes: 4096 });
  expect(others).toEqual([]);
  await removeSetAside(host.disk, aside!);
  expect(host.disk.paths().some((path) => path.includes('set-aside'))).toBe(false);
  await back.close();
});

test('a journal that another host has overtaken and that is all in the store is used on', async () => {
  const host = await madeHost();
  const volume = await host.open('drive');
  await volume.write(0, blockOf(1), plain);
  await expect.poll(() => volume.statistics().dirtyBytes).toBe(0);
  await volume.abandon();
  await (await new VolumeHost(host.store).open('drive', { takeOver: 'now' })).close();
  const back = await host.open('drive');
  expect(await listSetAside(host.disk, back.id)).toEqual([]);
  await back.close();
});

test('a journal that cannot be read is set aside as it is', async () => {
  const host = await madeHost({ uploadIntervalMs: 60_000 });
  const volume = await host.open('drive');
  await volume.write(0, blockOf(1), { fua: true });
  await volume.abandon();
  await (await new VolumeHost(host.store).open('drive', { takeOver: 'now' })).close();
  const open = host.disk.open.bind(host.disk);
  host.disk.open = async (path, options) => {
    const file = await open(path, options);
    if (options.create || path.includes('set-aside')) return file;
    const read = (): Promise<never> => Promise.reject(new StorageError('local-io', 'unreadable'));
    return { ...file, sizeBytes: () => file.sizeBytes(), close: () => file.close(), read };
  };
  const back = await host.open('drive');
  expect(await listSetAside(host.disk, back.id)).toMatchObject([{ epoch: 1, segments: 0 }]);
  await back.close();
});

test('an attachment that fails leaves no file open and no lease alive', async () => {
  const memory = createMemoryStore();
  let swapsLeft = Number.POSITIVE_INFINITY;
  const store = wrapCalls(memory, ({ operation, make }) => {
    if (operation !== 'swap') return make();
    swapsLeft -= 1;
    if (swapsLeft >= 0) return make();
    return Promise.reject(new StorageError('store-denied', 'No permission.'));
  });
  const host = new VolumeHost(store, { uploadIntervalMs: 60_000, leaseMs: 100 });
  await host.create({ name: 'drive', sizeBytes: mebibyte });
  const volume = await host.open('drive');
  await volume.write(0, blockOf(1), { fua: true });
  await volume.abandon();
  let openFiles = 0;
  const open = host.disk.open.bind(host.disk);
  host.disk.open = async (path, options) => {
    const file = await open(path, options);
    openFiles += 1;
    const close = file.close.bind(file);
    file.close = () => {
      openFiles -= 1;
      return close();
    };
    return file;
  };
  // One begins the epoch; the next would close those before.
  swapsLeft = 1;
  await expect(host.open('drive')).rejects.toThrow('No permission.');
  expect(openFiles).toBe(0);
  const taken = await new VolumeHost(memory).open('drive', { takeOver: 'when-dead' });
  expect(taken.statistics().epoch).toBe(3);
  await taken.close();
});
