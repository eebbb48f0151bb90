/**
 * Volumes that the first version with encryption made, as they lay in its store and on its disk: every later
 * one opens them. They are never made anew: if this fails, what people have stored cannot be read.
 */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import { systemRandom } from '../../src/base/random.ts';
import { memoryVolumeKeys } from '../../src/crypto/testing/memory-volume-keys.ts';
import { sealedJournalFileBytes } from '../../src/format/sealed-journal.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { checkVolume } from '../../src/volume/check.ts';
import { withSealing } from '../../src/volume/sealing-store.ts';
import { allData } from '../support/sound-stores.ts';
import { readAll, VolumeHost } from '../support/volume-host.ts';
import { contentOf, goldenKey, goldenNames, type GoldenFile } from './golden-content.ts';

const file = new URL('encrypted-volume.json', import.meta.url);

async function restored(golden: GoldenFile): Promise<ObjectStore> {
  const raw = createMemoryStore();
  for (const [key, value] of Object.entries(golden.objects))
    await raw.put(key, [Buffer.from(value, 'base64')]);
  for (const [key, value] of Object.entries(golden.registers))
    await raw.swap(key, undefined, Buffer.from(value, 'base64'));
  return raw;
}

test('a volume that was encrypted long ago is opened, journal and all', async () => {
  const golden = JSON.parse(readFileSync(file, 'utf8')) as GoldenFile;
  const keys = memoryVolumeKeys(goldenKey);
  const raw = await restored(golden);
  const store = withSealing(raw, { keys, clock: systemClock, random: systemRandom });
  const host = new VolumeHost(store).named(golden.host);
  for (const [path, value] of Object.entries(golden.files)) {
    const bytes = Buffer.from(value, 'base64');
    const isJournal = path.endsWith('.journal');
    const whole = new Uint8Array(isJournal ? sealedJournalFileBytes : bytes.byteLength);
    whole.set(bytes);
    await host.disk.replaceFile(path, whole);
  }
  for (const name of goldenNames) {
    const volume = await host.open(name);
    expect(Buffer.compare(await readAll(volume), contentOf(name)), name).toBe(0);
    const { recoveredSegments } = volume.statistics().attachment;
    expect(recoveredSegments > 0).toBe(name === 'base');
    await volume.close();
    const report = await checkVolume(store, name, { clock: systemClock, readData: allData });
    expect(report.problems).toEqual([]);
  }
  // It has what a volume may have.
  const kinds = new Set(Object.keys(golden.objects).map((key) => key.split('/')[2]));
  const all = ['checkpoints', 'compacted', 'pages', 'placements', 'segments'];
  expect(kinds).toEqual(new Set(all));
});
