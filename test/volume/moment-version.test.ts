import { expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { blockBytes } from '../../src/format/geometry.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { changedRanges } from '../../src/volume/map-difference.ts';
import type { MapVersion } from '../../src/volume/map-version.ts';
import { momentVersion } from '../../src/volume/moment-version.ts';
import { PageCache } from '../../src/volume/page-cache.ts';
import { presentVersion } from '../../src/volume/stored-version.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { smallSettings, VolumeHost } from '../support/volume-host.ts';

const blocks = 64;

/** The volume at a time, and the blocks that were written since the time before. */
interface Remembered {
  readonly timeMs: number;
  readonly values: readonly number[];
  readonly written: readonly number[];
}

test('what was changed between any two moments is told, also within a segment', async () => {
  const clock = new VirtualClock();
  const random = seededRandom(4);
  const store = createMemoryStore();
  const settings = { ...smallSettings, uploadIntervalMs: 1000, checkpointSegments: 2 };
  const host = new VolumeHost(store, settings, 1, clock);
  await host.create({ name: 'drive', sizeBytes: blocks * blockBytes, retainMs: 3_600_000 });
  const past: Remembered[] = [];
  const values = new Array<number>(blocks).fill(0);
  for (let round = 0; round < 3; round += 1) {
    const volume = await host.open('drive');
    for (let at = 0; at < 6; at += 1) {
      await clock.advance(300);
      const first = Math.floor(random.fraction() * (blocks - 4));
      const value = at % 3 === 0 ? 0 : 1 + past.length;
      const bytes = new Uint8Array(3 * blockBytes).fill(value);
      const offset = first * blockBytes;
      if (value === 0) await volume.trim(offset, bytes.byteLength, { fua: false });
      else await volume.write(offset, bytes, { fua: false });
      values.fill(value, first, first + 3);
      await clock.advance(5);
      const written = [first, first + 1, first + 2];
      past.push({ timeMs: clock.wallMs(), values: [...values], written });
    }
    await volume.close();
    await clock.advance(500);
  }
  const manifest = await findVolume(store, 'drive');
  const pages = new PageCache(2 ** 20);
  const versions: MapVersion[] = [];
  for (const { timeMs } of past) {
    versions.push(await momentVersion({ store, clock, settings }, manifest, timeMs, pages));
  }
  const last = past.at(-1) as Remembered;
  versions.push(await presentVersion(store, manifest, pages, 4));
  past.push({ ...last, written: [] });
  for (const [from, before] of versions.entries()) {
    for (const [to, after] of versions.entries()) {
      const found = new Set<number>();
      for await (const { offset, lengthBytes } of changedRanges(before, after)) {
        for (let at = 0; at < lengthBytes; at += blockBytes) found.add((offset + at) / blockBytes);
      }
      const [was, is] = [past[from]?.values, past[to]?.values];
      const differing = values.map((_, block) => block).filter((b) => was?.[b] !== is?.[b]);
      expect([from, to, differing.filter((block) => !found.has(block))]).toEqual([from, to, []]);
      const between = past.slice(Math.min(from, to) + 1, Math.max(from, to) + 1);
      const written = new Set(between.flatMap((each) => each.written));
      expect([from, to, [...found].filter((block) => !written.has(block))]).toEqual([from, to, []]);
    }
  }
});
