import { expect, test } from 'vitest';
import { StorageError } from '../../src/base/errors.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { VolumeHost } from '../support/volume-host.ts';

const block = new Uint8Array(4096).fill(7);

/** A volume whose journal fails from the moment at which `breaks` is called. */
async function breakable(): Promise<{ volume: Volume; breaks: () => void }> {
  const host = new VolumeHost(createMemoryStore());
  const { disk } = host;
  let isBroken = false;
  const open = disk.open.bind(disk);
  disk.open = async (path, options) => {
    const file = await open(path, options);
    const check = (): void => {
      if (isBroken) throw new StorageError('local-io', 'The disk fails.');
    };
    return {
      ...file,
      write: async (parts, position) => {
        check();
        await file.write(parts, position);
      },
      writeHere: (bytes, position) => {
        check();
        file.writeHere(bytes, position);
      },
      writeDurably: async (parts, position) => {
        check();
        await file.writeDurably(parts, position);
      },
    };
  };
  await host.create({ name: 'drive', sizeBytes: 2 ** 20, durability: 'store' });
  const volume = await host.open('drive');
  await volume.write(0, block, { fua: true });
  return {
    volume,
    breaks: () => {
      isBroken = true;
    },
  };
}

test('a flush to the store of what the journal could not take is answered, with the reason', async () => {
  const { volume, breaks } = await breakable();
  breaks();
  await expect(volume.write(4096, block, { fua: true })).rejects.toMatchObject({
    code: 'local-io',
    message: expect.stringContaining('read-only since its journal failed') as string,
  });
  await volume.abandon();
});

test('a snapshot that the journal could not take is not made', async () => {
  const { volume, breaks } = await breakable();
  const { id } = await volume.createSnapshot({ name: 'before' });
  breaks();
  await expect(volume.write(0, block, { fua: true })).rejects.toMatchObject({ code: 'local-io' });
  expect(() => volume.createSnapshot({})).toThrow('read-only since its journal failed');
  await expect(volume.whenSnapshotCompleted(id)).resolves.toMatchObject({ name: 'before' });
  await volume.abandon();
});
