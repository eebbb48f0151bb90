/**
 * The local disk has damaged a journal that holds what was flushed. The volume is not opened without
 * it, and nothing is changed: what is there may still be mended. What was never flushed may be torn.
 */
import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { seededRandom } from '../../src/base/random.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { type FaultPlan, withFaults } from '../../src/store/with-faults.ts';
import type { Volume } from '../../src/volume/volume.ts';
import type { MemoryDisk } from '../support/memory-disk.ts';
import { VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const blockBytes = 4096;
const dataAt = 135_168;
const recordsAt = 4096;

/** A volume whose `segments` segments, and one more block, are flushed, in the journal alone, and killed. */
async function crashedHost(segments: number): Promise<VolumeHost> {
  const random = seededRandom(3);
  const plan: FaultPlan = { errorBefore: 1, only: (operation) => operation === 'put' };
  const store = withFaults(createMemoryStore(), { clock: systemClock, random, plan });
  const host = new VolumeHost(store, { uploadIntervalMs: 3_600_000 });
  await host.create({ name: 'drive', sizeBytes: 64 * mebibyte });
  const volume = await host.open('drive');
  for (let at = 0; at < segments * 8 * mebibyte; at += mebibyte) {
    await volume.write(at, new Uint8Array(mebibyte).fill(1 + at / mebibyte), { fua: false });
  }
  for (let block = 0; block < 4; block += 1) await writeBlock(volume, 16_000 + 2 * block, 99);
  await volume.flush();
  // Three more that nobody has flushed.
  for (let block = 0; block < 3; block += 1) await writeBlock(volume, 12_000 + 2 * block, 98);
  await marked(host.disk);
  host.disk.kill();
  await volume.abandon().catch(() => undefined);
  return host;
}

async function writeBlock(volume: Volume, block: number, value: number): Promise<void> {
  const bytes = new Uint8Array(blockBytes).fill(value);
  await volume.write(block * blockBytes, bytes, { fua: false });
}

function journals(disk: MemoryDisk): string[] {
  return disk.paths().filter((path) => path.endsWith('.journal'));
}

/** The file with a segment: its header says which. */
async function fileOf(disk: MemoryDisk, segment: number): Promise<string> {
  for (const path of journals(disk)) {
    const bytes = (await disk.readFile(path)) as Uint8Array;
    if (new DataView(bytes.buffer, bytes.byteOffset).getUint32(12, true) === segment) return path;
  }
  throw new Error(`no file has segment ${segment}`);
}

/** Waits until the last file that has a segment says how much of it is durable. */
async function marked(disk: MemoryDisk): Promise<void> {
  const marks = async (): Promise<number[]> => {
    const found: number[] = [];
    for (const path of journals(disk)) {
      const bytes = (await disk.readFile(path)) as Uint8Array;
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      if (view.getUint32(12, true) > 0) found.push(view.getUint32(512, true));
    }
    return found;
  };
  await expect.poll(async () => Math.min(...(await marks()))).toBeGreaterThan(0);
}

async function contents(disk: MemoryDisk): Promise<Uint8Array[]> {
  return Promise.all(journals(disk).map(async (path) => (await disk.readFile(path)) as Uint8Array));
}

async function expectRefused(host: VolumeHost, says: RegExp): Promise<void> {
  const before = await contents(host.disk);
  for (let attempt = 0; attempt < 2; attempt += 1) {
    await expect(host.open('drive')).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringMatching(says) as string,
    });
  }
  expect(
    (await contents(host.disk)).map((bytes, at) => Buffer.compare(bytes, before[at]!)),
  ).toEqual(before.map(() => 0));
}

async function byteAt(volume: Volume, block: number): Promise<number> {
  const into = new Uint8Array(blockBytes);
  await volume.read(block * blockBytes, into);
  return into[17] ?? -1;
}

test('a flipped bit in what was flushed is damage, and mended is as if it had not been', async () => {
  const host = await crashedHost(2);
  const path = await fileOf(host.disk, 2);
  host.disk.flipBit(path, dataAt + 700 * blockBytes + 5);
  await expectRefused(host, /2\.journal has only \d of \d+ entries of segment 2 whole.*Nothing/);
  host.disk.flipBit(path, dataAt + 700 * blockBytes + 5);
  const volume = await host.open('drive');
  expect(await byteAt(volume, 2_048)).toBe(9);
  expect(await byteAt(volume, 16_006)).toBe(99);
  expect(await byteAt(volume, 12_004)).toBe(98);
  await volume.abandon();
});

test.each([
  ['its first record', recordsAt, /has no whole entry of segment 3/],
  ['its fourth', recordsAt + 3 * 32 + 8, /has only 3 of 4 entries of segment 3 whole/],
  ['its data', dataAt + 2 * blockBytes, /has only 2 of 4 entries of segment 3 whole/],
])('so it is in the last segment: %s', async (_, position, says) => {
  const host = await crashedHost(2);
  host.disk.flipBit(await fileOf(host.disk, 3), position);
  await expectRefused(host, says);
});

test('what was written after the last flush may be torn, and all of it is dropped', async () => {
  const host = await crashedHost(1);
  host.disk.flipBit(await fileOf(host.disk, 2), dataAt + 5 * blockBytes);
  const volume = await host.open('drive');
  expect(await byteAt(volume, 16_006)).toBe(99);
  expect(await byteAt(volume, 12_000)).toBe(98);
  expect(await byteAt(volume, 12_002)).toBe(0);
  expect(await byteAt(volume, 12_004)).toBe(0);
  await volume.abandon();
});

test('what was dropped never comes back, though the disk should read it again', async () => {
  const host = await crashedHost(1);
  const torn = dataAt + 5 * blockBytes;
  const path = await fileOf(host.disk, 2);
  host.disk.flipBit(path, torn);
  const first = await host.open('drive');
  expect(await byteAt(first, 12_002)).toBe(0);
  await writeBlock(first, 12_002, 55);
  await first.flush();
  host.disk.kill();
  await first.abandon().catch(() => undefined);
  // The bit had changed in the memory of the host alone, or in the reading.
  host.disk.flipBit(path, torn);
  const second = await host.open('drive');
  expect(await byteAt(second, 12_002)).toBe(55);
  expect(await byteAt(second, 12_004)).toBe(0);
  await second.abandon();
});

test('a file that is missing is damage', async () => {
  const host = await crashedHost(2);
  await host.disk.remove(await fileOf(host.disk, 2));
  await expectRefused(host, /file with segment 2 is missing, and later ones were flushed/);
});

test('a file that was cut short is damage, and is not removed', async () => {
  const host = await crashedHost(2);
  const path = await fileOf(host.disk, 3);
  const whole = (await host.disk.readFile(path)) as Uint8Array;
  await host.disk.replaceFile(path, whole.slice(0, 2 * mebibyte));
  await expectRefused(host, /\d\.journal was cut short/);
  await host.disk.replaceFile(path, whole);
  const volume = await host.open('drive');
  expect(await byteAt(volume, 16_006)).toBe(99);
  await volume.abandon();
});

test('without the damaged journal the volume is as of the last upload', async () => {
  const host = await crashedHost(1);
  host.disk.flipBit(await fileOf(host.disk, 1), dataAt);
  const [path = ''] = journals(host.disk);
  const directory = path.replace(/\/[^/]*$/, '');
  await expectRefused(host, new RegExp(`move the directory ${directory} .*away`));
  await host.disk.rename(directory, 'elsewhere');
  const volume = await host.open('drive');
  expect(await byteAt(volume, 0)).toBe(0);
  await writeBlock(volume, 5, 7);
  await volume.flush();
  await volume.abandon();
});

test.each([
  ['the magic', 3],
  ['the segment', 12],
  ['the volume', 30],
  ['the checksum', 41],
  ['the time', 45],
  ['the checksum of the time', 53],
  ['what is reserved', 60],
  ['the end of what is reserved', 511],
])('a flipped bit in the header of the last segment is damage: %s', async (_, position) => {
  const host = await crashedHost(1);
  const path = await fileOf(host.disk, 2);
  host.disk.flipBit(path, position);
  await expectRefused(
    host,
    new RegExp(
      `volumes/[0-9a-f]{32}/journal/\\d+\\.journal, which was that of segment 2, was changed on the disk`,
    ),
  );
  host.disk.flipBit(path, position);
  const volume = await host.open('drive');
  expect(await byteAt(volume, 16_006)).toBe(99);
  await volume.abandon();
});

test('a header that several changed bits have made unreadable is damage, too', async () => {
  const host = await crashedHost(1);
  const path = await fileOf(host.disk, 2);
  for (const position of [8, 20, 33]) host.disk.flipBit(path, position);
  await expectRefused(host, /the header of volumes.*journal, was changed on the disk/);
});

test.each([14, 60])(
  'a flipped bit in the header of a file that the store has is of no matter: byte %i',
  async (position) => {
    const store = createMemoryStore();
    const host = new VolumeHost(store, { uploadIntervalMs: 3_600_000 });
    await host.create({ name: 'drive', sizeBytes: 64 * mebibyte });
    const volume = await host.open('drive');
    for (let at = 0; at < 24 * mebibyte; at += mebibyte) {
      await volume.write(at, new Uint8Array(mebibyte).fill(1 + at / mebibyte), { fua: false });
    }
    await writeBlock(volume, 12_000, 7);
    await volume.flush();
    await expect.poll(() => volume.statistics().uploadedSegments).toBe(3);
    host.disk.kill();
    await volume.abandon().catch(() => undefined);
    // Where the others were, later ones may lie.
    const path = await fileOf(host.disk, 3);
    host.disk.flipBit(path, position);
    const again = await host.open('drive');
    expect(await byteAt(again, 12_000)).toBe(7);
    await again.abandon();
  },
);

test.each([512, 515, 516, 519, 520, 4095])(
  'a flipped bit in or behind a mark loses nothing: byte %i',
  async (position) => {
    const host = await crashedHost(1);
    host.disk.flipBit(await fileOf(host.disk, 2), position);
    const volume = await host.open('drive');
    expect(await byteAt(volume, 16_006)).toBe(99);
    expect(await byteAt(volume, 12_004)).toBe(98);
    await volume.abandon();
  },
);
