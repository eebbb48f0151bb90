import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { VolumeHost } from '../support/volume-host.ts';

const blockBytes = 4096;
const plain = { fua: false };

/** A gate that lets through what comes to it once it is open. */
class Gate {
  #open = Promise.withResolvers<void>();
  waiting = 0;

  async pass(): Promise<void> {
    this.waiting += 1;
    await this.#open.promise;
  }

  open(): void {
    this.#open.resolve();
  }
}

test('a write that came while a batch was written does not wait for the sync after it', async () => {
  const host = new VolumeHost(createMemoryStore(), { uploadIntervalMs: 60_000 });
  const [write, sync] = [new Gate(), new Gate()];
  let isHeld = false;
  const open = host.disk.open.bind(host.disk);
  host.disk.open = async (path, options) => {
    const file = await open(path, options);
    return {
      ...file,
      write: async (parts, position) => {
        if (isHeld) await write.pass();
        return file.write(parts, position);
      },
      sync: async () => {
        if (isHeld) await sync.pass();
        return file.sync();
      },
    };
  };
  await host.create({ name: 'drive', sizeBytes: 16 * 2 ** 20 });
  const volume = await host.open('drive');
  await volume.write(0, new Uint8Array(blockBytes).fill(1), plain);
  isHeld = true;
  const large = Promise.resolve(volume.write(2 ** 20, new Uint8Array(2 ** 20).fill(2), plain));
  await expect.poll(() => write.waiting).toBeGreaterThan(0);
  let isFlushed = false;
  const flush = Promise.resolve(volume.flush()).then(() => {
    isFlushed = true;
  });
  const small = Promise.resolve(
    volume.write(blockBytes, new Uint8Array(blockBytes).fill(3), plain),
  );
  // It has asked for its place in the journal by now.
  await sleep(20);
  write.open();
  await Promise.all([large, small]);
  await expect.poll(() => sync.waiting).toBeGreaterThan(0);
  expect(isFlushed).toBe(false);
  sync.open();
  await flush;
  await volume.close();
});
