import { expect, test } from 'vitest';
import { listAll, type ObjectStore } from '../../src/base/object-store.ts';
import { decodeAllEntries } from '../../src/format/entry.ts';
import { parseSegmentKey, segmentsPrefix } from '../../src/format/names.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { readSegmentTables } from '../../src/volume/segment-tables.ts';
import type { VolumeSettings } from '../../src/volume/settings.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { VolumeHost } from '../support/volume-host.ts';

const plain = { fua: false };
const names = ['', 'data', 'hole', 'zeroed', 'flushed'];

/** What the stored log says, entry by entry: its kind and its time since 1970. */
async function storedLog(store: ObjectStore): Promise<[string, number][]> {
  const { id } = await findVolume(store, 'drive');
  const log: [string, number][] = [];
  for await (const { key } of listAll(store, segmentsPrefix(id))) {
    const tables = await readSegmentTables(store, id, parseSegmentKey(id, key));
    for (const { kind, timeMs } of decodeAllEntries(tables.entries)) {
      log.push([names[kind] ?? '', tables.header.openedMs + timeMs]);
    }
  }
  return log;
}

async function hostWith(
  settings: Partial<VolumeSettings>,
  retainMs: number,
): Promise<{ host: VolumeHost; clock: VirtualClock }> {
  const clock = new VirtualClock();
  const host = new VolumeHost(
    createMemoryStore(),
    { uploadIntervalMs: 60_000, ...settings },
    1,
    clock,
  );
  await host.create({ name: 'drive', sizeBytes: 2 ** 20, retainMs });
  return { host, clock };
}

test.each(['journal', 'memory', 'disk'] as const)(
  'each entry has the time at which it was written (answered: %s)',
  async (writesAnswered) => {
    const { host, clock } = await hostWith({ writesAnswered }, 0);
    const startMs = clock.wallMs();
    const volume = await host.open('drive');
    for (let at = 0; at < 3; at += 1) {
      await clock.advance(100);
      await volume.write(at * 4096, new Uint8Array(4096).fill(at + 1), plain);
    }
    await clock.advance(50);
    await volume.trim(0, 4096, plain);
    await volume.close();
    expect(await storedLog(host.store)).toEqual([
      ['data', startMs + 100],
      ['data', startMs + 200],
      ['data', startMs + 300],
      ['hole', startMs + 350],
    ]);
  },
);

test('with retention the log says when flushes were answered, once after each change', async () => {
  const { host, clock } = await hostWith({}, 3_600_000);
  const startMs = clock.wallMs();
  const volume = await host.open('drive');
  await volume.flush();
  await volume.write(0, new Uint8Array(4096).fill(1), plain);
  await clock.advance(10);
  await volume.flush();
  await clock.advance(10);
  await volume.flush();
  await volume.write(0, new Uint8Array(4096).fill(2), { fua: true });
  await clock.advance(10);
  await volume.write(0, new Uint8Array(4096).fill(3), plain);
  await clock.advance(10);
  await volume.flush();
  await volume.close();
  expect(await storedLog(host.store)).toEqual([
    ['data', startMs],
    ['flushed', startMs + 10],
    ['data', startMs + 20],
    ['flushed', startMs + 20],
    ['data', startMs + 30],
    ['flushed', startMs + 40],
  ]);
});

test('what a crash leaves in the journal keeps its times, and no later time is before them', async () => {
  const { host, clock } = await hostWith({}, 3_600_000);
  const startMs = clock.wallMs();
  const volume = await host.open('drive');
  await clock.advance(70);
  await volume.write(0, new Uint8Array(4096).fill(1), { fua: true });
  await clock.advance(30);
  await volume.write(4096, new Uint8Array(4096).fill(1), { fua: true });
  await volume.abandon();
  await clock.advance(1000);
  const again = await host.open('drive');
  await again.write(8192, new Uint8Array(4096).fill(2), plain);
  await again.close();
  const log = await storedLog(host.store);
  expect(log.filter(([kind]) => kind === 'data')).toEqual([
    ['data', startMs + 70],
    ['data', startMs + 100],
    ['data', startMs + 1100],
  ]);
});

test('a host whose clock is behind goes on after the times of the one before', async () => {
  const { host, clock } = await hostWith({}, 0);
  const volume = await host.open('drive');
  await clock.advance(100_000);
  await volume.write(0, new Uint8Array(4096).fill(1), plain);
  await volume.close();
  const late = new VirtualClock();
  const other = new VolumeHost(host.store, {}, 2, late);
  const taken = await other.open('drive');
  await taken.write(0, new Uint8Array(4096).fill(2), plain);
  await taken.close();
  const [first, second] = await storedLog(host.store);
  expect(second?.[1]).toBeGreaterThanOrEqual(first?.[1] ?? Number.NaN);
  expect(late.wallMs()).toBeLessThan(first?.[1] ?? 0);
});
