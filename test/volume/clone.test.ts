import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import { listAll, type ObjectStore } from '../../src/base/object-store.ts';
import { seededRandom } from '../../src/base/random.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { checkVolume } from '../../src/volume/check.ts';
import { repairVolume } from '../../src/volume/repair.ts';
import { forgetStore } from '../support/sound-stores.ts';
import { openReadOnly } from '../../src/volume/read-only-volume.ts';
import { cloneOf, snapshotOf } from '../support/clones.ts';
import { readAll, smallSettings, VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const plain = { fua: false };
const random = seededRandom(5);

/** A volume of 72 MiB, two pages of map, with `bytes` in it, given up. */
async function writtenStore(bytes = random.bytes(9 * mebibyte)) {
  const store = createMemoryStore();
  const host = new VolumeHost(store);
  await host.create({ name: 'base', sizeBytes: 72 * mebibyte, codec: 'lz4' });
  const volume = await host.open('base');
  await volume.write(60 * mebibyte, bytes, plain);
  await volume.close();
  return { store, host, bytes };
}

async function keysUnder(store: ObjectStore, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of listAll(store, prefix)) keys.push(key);
  return keys;
}

/** Without a list of millions of differences. */
function expectSame(found: Uint8Array, expected: Uint8Array | undefined): void {
  expect(found.length).toBe(expected?.length);
  if (Buffer.compare(found, expected ?? new Uint8Array()) === 0) return;
  const at = found.findIndex((byte, index) => byte !== expected?.[index]);
  throw new Error(`other bytes than expected from ${at} on`);
}

describe('a clone', () => {
  test('is its source, bit for bit, and copies nothing', async () => {
    const { store, host, bytes } = await writtenStore();
    await snapshotOf(store, 'base', 'monday');
    const { id } = await cloneOf(store, 'base', 'monday', 'dev');
    expect(await keysUnder(store, `volumes/${id}/`)).toEqual([`volumes/${id}/manifest.json`]);
    const clone = await new VolumeHost(store).open('dev');
    const base = await host.open('base');
    expect(clone.sizeBytes).toBe(base.sizeBytes);
    const found = await readAll(clone);
    expectSame(found.subarray(60 * mebibyte, 69 * mebibyte), bytes);
    expectSame(found, await readAll(base));
    await Promise.all([clone.close(), base.close()]);
    expect(await findVolume(store, 'dev')).toMatchObject({ codec: 'lz4', durability: 'local' });
  });

  test('and its source are independent from then on', async () => {
    const { store, host } = await writtenStore();
    await snapshotOf(store, 'base', 'monday');
    const base = await host.open('base');
    await base.write(0, random.bytes(mebibyte), plain);
    await cloneOf(store, 'base', 'monday', 'dev');
    const clone = await new VolumeHost(store).open('dev');
    const [atBirth, ofBase] = [await readAll(clone), await readAll(base)];
    const mine = random.bytes(3 * mebibyte);
    const theirs = random.bytes(3 * mebibyte);
    await clone.write(61 * mebibyte, mine, plain);
    await base.write(62 * mebibyte, theirs, plain);
    await clone.trim(68 * mebibyte, mebibyte, plain);
    await clone.flush();
    await base.flush();
    atBirth.set(mine, 61 * mebibyte);
    atBirth.fill(0, 68 * mebibyte, 69 * mebibyte);
    ofBase.set(theirs, 62 * mebibyte);
    expectSame(await readAll(clone), atBirth);
    expectSame(await readAll(base), ofBase);
    await Promise.all([clone.close(), base.close()]);
    const again = await new VolumeHost(store).open('dev');
    const baseAgain = await new VolumeHost(store).open('base');
    expectSame(await readAll(again), atBirth);
    expectSame(await readAll(baseAgain), ofBase);
    await Promise.all([again.close(), baseAgain.close()]);
  });

  test('may be larger, with nothing in what is added', async () => {
    const { store, bytes } = await writtenStore();
    await snapshotOf(store, 'base', 'monday');
    await cloneOf(store, 'base', 'monday', 'dev', { sizeBytes: 100 * mebibyte });
    const clone = await new VolumeHost(store).open('dev');
    expect(clone.sizeBytes).toBe(100 * mebibyte);
    await clone.write(99 * mebibyte, bytes.subarray(0, mebibyte), plain);
    const found = await readAll(clone);
    expectSame(found.subarray(60 * mebibyte, 69 * mebibyte), bytes);
    expectSame(found.subarray(69 * mebibyte, 99 * mebibyte), new Uint8Array(30 * mebibyte));
    expectSame(found.subarray(99 * mebibyte), bytes.subarray(0, mebibyte));
    await clone.close();
    const smaller = cloneOf(store, 'base', 'monday', 'less', { sizeBytes: mebibyte });
    await expect(smaller).rejects.toMatchObject({ code: 'usage' });
  });

  test('of a volume that was never written is empty, and is written as any other', async () => {
    const store = createMemoryStore();
    const host = new VolumeHost(store);
    await host.create({ name: 'base', sizeBytes: mebibyte });
    await snapshotOf(store, 'base', 'empty');
    await cloneOf(store, 'base', 'empty', 'dev');
    const bytes = random.bytes(mebibyte);
    for (const name of ['dev', 'base']) {
      const volume = await host.open(name);
      expect((await readAll(volume)).every((byte) => byte === 0)).toBe(true);
      await volume.write(0, name === 'dev' ? bytes : new Uint8Array(4096).fill(1), plain);
      await volume.close();
    }
    const clone = await host.open('dev');
    expectSame(await readAll(clone), bytes);
    await clone.close();
  });

  test('goes back 40 generations, each with what it wrote', async () => {
    const store = createMemoryStore();
    const host = new VolumeHost(store);
    await host.create({ name: 'g0', sizeBytes: 2 * mebibyte });
    const expected = new Uint8Array(2 * mebibyte);
    const births: Uint8Array[] = [];
    const generations = 40;
    for (let at = 0; at <= generations; at += 1) {
      // Every fifth writes nothing before it is cloned.
      if (at % 5 !== 4) {
        const volume = await new VolumeHost(store).open(`g${at}`);
        const bytes = random.bytes(3 * 4096);
        await volume.write(at * 8192, bytes, plain);
        await volume.trim((at + 40) * 8192, 4096, plain);
        await volume.close();
        expected.set(bytes, at * 8192);
        expected.fill(0, (at + 40) * 8192, (at + 40) * 8192 + 4096);
      }
      births.push(expected.slice());
      if (at === generations) break;
      await snapshotOf(store, `g${at}`, 'cut');
      await cloneOf(store, `g${at}`, 'cut', `g${at + 1}`);
    }
    for (const at of [generations, 31, 0]) {
      const volume = await new VolumeHost(store).open(`g${at}`);
      expectSame(await readAll(volume), births[at]);
      await volume.close();
      const options = { store, clock: systemClock, settings: smallSettings, reason: '' };
      const view = await openReadOnly({ ...options, name: `g${at}` });
      const found = new Uint8Array(view.sizeBytes);
      await view.read(0, found);
      expectSame(found, births[at]);
    }
  });

  test('keeps what its writer had not uploaded over a crash', async () => {
    const { store, bytes } = await writtenStore();
    await snapshotOf(store, 'base', 'monday');
    await cloneOf(store, 'base', 'monday', 'dev');
    const host = new VolumeHost(store, { uploadIntervalMs: 600_000 });
    const clone = await host.open('dev');
    await clone.write(60 * mebibyte, bytes.subarray(0, 4096).slice().fill(3), { fua: true });
    await clone.abandon();
    const again = await host.open('dev');
    const found = new Uint8Array(8192);
    await again.read(60 * mebibyte, found);
    expect(found.subarray(0, 4096).every((byte) => byte === 3)).toBe(true);
    expectSame(found.subarray(4096), bytes.subarray(4096, 8192));
    await again.close();
  });
});

describe('damage of an ancestor', () => {
  async function damagedFamily(part: string) {
    const { store, bytes } = await writtenStore();
    forgetStore(store);
    await snapshotOf(store, 'base', 'monday');
    const { id } = await findVolume(store, 'base');
    await cloneOf(store, 'base', 'monday', 'dev');
    const keys = await keysUnder(store, `volumes/${id}/${part}/`);
    const key = keys.at(-1) ?? '';
    const object = await store.get(key);
    object[object.length - 3] = (object.at(-3) ?? 0) ^ 1;
    await store.delete(key);
    await store.put(key, [object]);
    return { store, bytes, key };
  }

  const readData = { part: 1, parts: 1 };

  test('to a page of the map is found in the clone, and an error for its blocks', async () => {
    const { store, bytes, key } = await damagedFamily('pages');
    const found = await checkVolume(store, 'dev', { clock: systemClock, readData });
    expect(found).toMatchObject({ verdict: 'damaged', problems: [{ object: key }] });
    const options = { store, clock: systemClock, random, log: silentLog, settings: smallSettings };
    const who = { writerId: 'repairer', host: 'repairer', apply: true };
    // What the clone has of it is the ancestor's to say; nothing is guessed.
    const report = await repairVolume({ ...options, ...who }, 'dev');
    expect(report).toMatchObject({ mendedPages: 0, check: { verdict: 'damaged', damageCount: 1 } });
    expect(report.unmended.length).toBe(1);
    const clone = await new VolumeHost(store).open('dev');
    const content = new Uint8Array(4096);
    await expect(clone.read(65 * mebibyte, content)).rejects.toMatchObject({ code: 'corrupt' });
    await clone.read(60 * mebibyte, content);
    expectSame(content, bytes.subarray(0, 4096));
    await clone.close();
  });

  test('to data is an error for its blocks in the clone, and the object is named', async () => {
    const { store, bytes, key } = await damagedFamily('segments');
    const found = await checkVolume(store, 'dev', { clock: systemClock, readData });
    expect(found).toMatchObject({ verdict: 'damaged', problems: [{ object: key }] });
    expect(found.lostBlocks).toBe(16);
    const clone = await new VolumeHost(store).open('dev');
    const last = new Uint8Array(4096);
    await expect(clone.read(69 * mebibyte - 4096, last)).rejects.toMatchObject({ code: 'corrupt' });
    await clone.write(69 * mebibyte - 65_536, bytes.subarray(0, 65_536), plain);
    await clone.read(69 * mebibyte - 4096, last);
    expectSame(last, bytes.subarray(61_440, 65_536));
    await clone.close();
  });
});
