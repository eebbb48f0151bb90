import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { openReadOnly } from '../../src/volume/read-only-volume.ts';
import { forgetStore } from '../support/sound-stores.ts';
import { smallSettings, VolumeHost } from '../support/volume-host.ts';

const blockOf = (value: number): Uint8Array => new Uint8Array(4096).fill(value);

test('a volume is read as the store has it, while its writer goes on', async () => {
  const store = createMemoryStore();
  const writer = new VolumeHost(store);
  await writer.create({ name: 'drive', sizeBytes: 2 ** 20, durability: 'store' });
  const first = await writer.open('drive');
  await first.write(0, blockOf(1), { fua: true });
  await first.close();
  const volume = await writer.open('drive');
  await volume.write(4096, blockOf(2), { fua: true });
  const settings = smallSettings;
  const reason = 'for a test';
  const view = await openReadOnly({ store, clock: systemClock, name: 'drive', settings, reason });
  await volume.write(4096, blockOf(3), { fua: true });

  const found = new Uint8Array(3 * 4096);
  await view.read(0, found);
  expect([found[0], found[4096], found[8192]]).toEqual([1, 2, 0]);
  expect(await view.status(0, 3 * 4096, 9)).toMatchObject([{ hole: false }, { hole: true }]);
  expect(view).toMatchObject({ readOnly: true, sizeBytes: 2 ** 20, name: 'drive' });
  expect(view.statistics()).toMatchObject({ epoch: 2, failure: reason });
  expect(() => view.write()).toThrow(expect.objectContaining({ code: 'read-only' }));
  expect(() => view.zero()).toThrow('for reading only');
  expect(() => view.trim()).toThrow('for reading only');
  expect(view.flush()).toBe(undefined);
  await view.close();
  // Nothing was taken from the writer.
  await volume.close();
});

test('what an attachment that was not finished left is read under its own epoch', async () => {
  const store = createMemoryStore();
  const host = new VolumeHost(store);
  await host.create({ name: 'drive', sizeBytes: 2 ** 20, durability: 'store' });
  const volume = await host.open('drive');
  await volume.write(0, blockOf(7), { fua: true });
  await volume.abandon();
  // The next host begins an epoch and is gone before it has closed the one before.
  const failing = { ...store, list: () => Promise.reject(new Error('gone')) };
  forgetStore(failing);
  await expect(new VolumeHost(failing).open('drive', { takeOver: 'now' })).rejects.toThrow('gone');
  const options = { store, clock: systemClock, settings: smallSettings, reason: '' };
  const view = await openReadOnly({ ...options, name: 'drive' });
  const found = new Uint8Array(4096);
  await view.read(0, found);
  expect(found).toEqual(blockOf(7));
});
