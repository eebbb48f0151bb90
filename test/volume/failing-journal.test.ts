import { expect, test } from 'vitest';
import { StorageError } from '../../src/base/errors.ts';
import type { LocalDisk, LocalFile } from '../../src/base/local-disk.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const plain = { fua: false };

/** Fails every write to a file of the disk as long as `fails` says so. */
function breakWrites(disk: LocalDisk, fails: () => boolean): void {
  const open = disk.open.bind(disk);
  const sound = (): void => {
    if (fails()) throw new StorageError('local-io', 'the disk is broken');
  };
  const broken = (file: LocalFile): LocalFile => ({
    read: (...args) => file.read(...args),
    sync: () => file.sync(),
    sizeBytes: () => file.sizeBytes(),
    close: () => file.close(),
    write: async (...args) => {
      sound();
      await file.write(...args);
    },
    writeDurably: async (...args) => {
      sound();
      await file.writeDurably(...args);
    },
    writeHere: (...args) => {
      sound();
      file.writeHere(...args);
    },
  });
  const opened: LocalDisk['open'] = async (...args) => broken(await open(...args));
  Object.assign(disk, { open: opened });
}

/** A volume whose journal takes no write any more, which it learns when it next writes to it. */
async function failingVolume(): Promise<Volume> {
  const host = new VolumeHost(createMemoryStore(), {
    writesAnswered: 'memory',
    journalDelayMs: 5,
  });
  await host.create({ name: 'drive', sizeBytes: 4 * mebibyte, durability: 'store' });
  let fails = false;
  breakWrites(host.disk, () => fails);
  const volume = await host.open('drive');
  await volume.write(0, new Uint8Array(mebibyte).fill(1), plain);
  await volume.flush();
  fails = true;
  return volume;
}

test.each([
  ['a flush', (volume: Volume) => volume.flush()],
  ['a shrink', (volume: Volume) => volume.shrink(mebibyte)],
])('%s that waits for the store is answered when the journal fails under it', async (_, ask) => {
  const volume = await failingVolume();
  const written = volume.write(0, new Uint8Array(4096).fill(2), plain);
  await expect(Promise.all([written, ask(volume)])).rejects.toMatchObject({ code: 'local-io' });
  await expect(volume.close()).rejects.toMatchObject({ code: 'local-io' });
});
