import { expect, test } from 'vitest';
import { listAll, type ObjectStore } from '../../src/base/object-store.ts';
import { seededRandom } from '../../src/base/random.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import type { VolumeSettings } from '../../src/volume/settings.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { forgetStore } from '../support/sound-stores.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const hourMs = 3_600_000;
const content = seededRandom(17).bytes(12 * mebibyte);

/** A volume with 12 MiB in two segments, on a clock that stands still. */
async function attached(settings: Partial<VolumeSettings> = {}) {
  const clock = new VirtualClock();
  const store = createMemoryStore();
  const host = new VolumeHost(store, { scrubBytesPerSecond: mebibyte, ...settings }, 1, clock);
  await host.create({ name: 'drive', sizeBytes: 64 * mebibyte });
  const volume = await host.open('drive');
  await volume.write(0, content, { fua: false });
  await clock.advance(10_000);
  expect(volume.statistics().dirtyBytes).toBe(0);
  return { clock, store, host, volume };
}

async function damageFirstSegment(store: ObjectStore): Promise<string> {
  forgetStore(store);
  for await (const { key } of listAll(store, 'volumes/')) {
    if (!key.includes('/segments/')) continue;
    const bytes = await store.get(key);
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    await store.delete(key);
    await store.put(key, [bytes]);
    return key;
  }
  throw new Error('there is no segment');
}

/** Closes it on a clock that has to be moved for that. */
async function close(volume: Volume, clock: VirtualClock): Promise<void> {
  const closing = volume.close();
  await clock.advance(10_000);
  await closing;
}

test('a scrub reads everything, and no faster than it may', async () => {
  const { clock, volume } = await attached();
  const scrub = volume.scrub();
  expect(volume.scrub()).toBe(scrub);
  await clock.advance(4000);
  const { running, readBytes } = volume.statistics().scrub;
  expect(running).toBe(true);
  // The first segment of 8 MiB was read at once, and has to be paid for.
  expect(readBytes).toBeLessThan(9 * mebibyte);
  await clock.advance(20_000);
  const report = await scrub;
  expect(report).toMatchObject({ verdict: 'ok', dataRead: { part: 1, parts: 1 } });
  expect(report.readBytes).toBeGreaterThan(12 * mebibyte);
  expect(volume.statistics().scrub).toMatchObject({
    running: false,
    readBytes: report.readBytes,
    damageCount: 0,
  });
  await close(volume, clock);
});

test('a scrub finds damage before anybody reads it, and it is known after a restart', async () => {
  const { clock, store, host, volume } = await attached();
  const key = await damageFirstSegment(store);
  const scrub = volume.scrub();
  await clock.advance(60_000);
  expect(await scrub).toMatchObject({ verdict: 'damaged', problems: [{ object: key }] });
  expect(volume.statistics().scrub).toMatchObject({ damageCount: 1, lostBlocks: 16 });
  await close(volume, clock);
  const again = await host.open('drive');
  expect(again.statistics().scrub).toMatchObject({ damageCount: 1, lostBlocks: 16 });
  await close(again, clock);
});

test('with an interval a volume is scrubbed by itself, also over restarts', async () => {
  const { clock, host, volume } = await attached({ scrubIntervalMs: 10 * hourMs });
  await clock.advance(9 * hourMs);
  expect(volume.statistics().scrub.endedMs).toBe(0);
  await close(volume, clock);
  const again = await host.open('drive');
  await clock.advance(hourMs);
  const { endedMs } = again.statistics().scrub;
  expect(endedMs).toBeGreaterThan(0);
  await clock.advance(9 * hourMs);
  expect(again.statistics().scrub.endedMs).toBe(endedMs);
  await clock.advance(2 * hourMs);
  expect(again.statistics().scrub.endedMs).toBeGreaterThan(endedMs);
  await close(again, clock);
});

test('a volume that is closed ends its scrub', async () => {
  const { clock, volume } = await attached({ scrubBytesPerSecond: 1 });
  const scrub = volume.scrub();
  await clock.advance(1000);
  const ended = scrub.catch((error: unknown) => error);
  await close(volume, clock);
  expect(await ended).toMatchObject({ code: 'shutting-down' });
});
