import { expect, test } from 'vitest';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { VolumeHost } from '../support/volume-host.ts';

test('however many flushes wait, one sync answers them', async () => {
  const host = new VolumeHost(createMemoryStore());
  let syncs = 0;
  const open = host.disk.open.bind(host.disk);
  host.disk.open = async (path, options) => {
    const file = await open(path, options);
    return {
      ...file,
      sync: () => {
        syncs += 1;
        return file.sync();
      },
      writeDurably: (parts, position) => {
        syncs += 1;
        return file.writeDurably(parts, position);
      },
    };
  };
  await host.create({ name: 'drive', sizeBytes: 4 * 2 ** 20 });
  const volume = await host.open('drive');
  await volume.write(0, new Uint8Array(4096).fill(1), { fua: true });
  for (let block = 0; block < 64; block += 1) {
    await volume.write(block * 4096, new Uint8Array(4096).fill(block), { fua: false });
  }
  syncs = 0;
  const flushes = Array.from({ length: 64 }, async () => volume.flush());
  await Promise.all(flushes);
  expect(syncs).toBe(1);
  await volume.close();
});
