import { expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const plain = { fua: false };

const answers = [
  { writesAnswered: 'memory', lost: true },
  { writesAnswered: 'journal', lost: false },
  { writesAnswered: 'disk', lost: false },
] as const;
test.for(answers)(
  'a write that $writesAnswered has is lost with the process: $lost',
  async ({ writesAnswered, lost }) => {
    const host = new VolumeHost(createMemoryStore(), { writesAnswered, uploadIntervalMs: 60_000 });
    await host.create({ name: 'drive', sizeBytes: 64 * mebibyte });
    let volume = await host.open('drive');
    const content = Buffer.from(seededRandom(7).bytes(20 * mebibyte));
    // Some that are written on the spot, some by a thread, across the end of a segment.
    const lengths = [4096, 65_536, mebibyte, 100, 8192, 9 * mebibyte, 4096];
    const writes: Promise<void>[] = [];
    let end = 0;
    for (const length of lengths) {
      const part = content.subarray(end, end + length);
      writes.push(Promise.resolve(volume.write(end, part, plain)));
      end += length;
    }
    await Promise.all(writes);
    await volume.trim(0, 4096, plain);
    content.fill(0, 0, 4096);
    host.disk.kill();
    await volume.abandon();
    volume = await host.open('drive');
    const found = Buffer.alloc(end);
    await volume.read(0, found);
    expect(found.equals(content.subarray(0, end))).toBe(!lost);
    await volume.close();
  },
);
