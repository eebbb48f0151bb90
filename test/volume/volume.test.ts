import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { listAll, type ObjectStore } from '../../src/base/object-store.ts';
import { seededRandom } from '../../src/base/random.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { type FaultPlan, withFaults } from '../../src/store/with-faults.ts';
import { withMetrics } from '../../src/store/with-metrics.ts';
import { createVolume, findVolume, listVolumes } from '../../src/volume/catalog.ts';
import { deleteVolume } from '../../src/volume/deletion.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { forgetStore } from '../support/sound-stores.ts';
import { putMappedVolume } from '../support/synthetic-volume.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const plain = { fua: false };
const random = seededRandom(7);

function noise(lengthBytes: number): Uint8Array {
  const seed = random.bytes(4096);
  const bytes = new Uint8Array(lengthBytes);
  for (let at = 0; at < lengthBytes; at += 4096) {
    bytes.set(seed.subarray(0, Math.min(4096, lengthBytes - at)), at);
    bytes[at] = (at / 4096) & 255;
    bytes[at + 1] = (at / 1_048_576) & 255;
  }
  return bytes;
}

async function keysOf(store: ObjectStore, part: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of listAll(store, 'volumes/')) if (key.includes(part)) keys.push(key);
  return keys;
}

async function madeHost(sizeBytes: number, settings = {}): Promise<VolumeHost> {
  const host = new VolumeHost(createMemoryStore(), settings);
  await host.create({ name: 'drive', sizeBytes });
  return host;
}

async function readBack(volume: Volume, offset: number, lengthBytes: number): Promise<Uint8Array> {
  const into = new Uint8Array(lengthBytes);
  await volume.read(offset, into);
  return into;
}

test('volumes are made once, listed, found and deleted with all they have', async () => {
  const host = await madeHost(mebibyte);
  const context = { clock: systemClock, random };
  await expect(host.create({ name: 'drive', sizeBytes: mebibyte })).rejects.toMatchObject({
    code: 'already-exists',
  });
  await expect(
    createVolume(host.store, { name: 'odd', sizeBytes: 5000 }, context),
  ).rejects.toMatchObject({ code: 'usage' });
  await expect(
    createVolume(host.store, { name: 'a/b', sizeBytes: 4096 }, context),
  ).rejects.toMatchObject({ code: 'usage' });
  const damaged: string[] = [];
  const volumes = await listVolumes(host.store, (name) => damaged.push(name));
  expect(volumes.map(({ name }) => name)).toEqual(['drive']);
  expect(damaged).toEqual([]);
  const volume = await host.open('drive');
  await volume.write(0, noise(4096), plain);
  await expect(deleteVolume(host.store, 'drive', context)).rejects.toMatchObject({ code: 'held' });
  await volume.close();
  await deleteVolume(host.store, 'drive', context);
  expect(await keysOf(host.store, '')).toEqual([]);
  await expect(findVolume(host.store, 'drive')).rejects.toMatchObject({ code: 'not-found' });
});

test('a name is made by one of many that try at once', async () => {
  const store = createMemoryStore();
  const tries = Array.from({ length: 8 }, (_, at) =>
    createVolume(
      store,
      { name: 'drive', sizeBytes: (at + 1) * 4096 },
      { clock: systemClock, random },
    ),
  );
  const results = await Promise.allSettled(tries);
  expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  expect(await keysOf(store, 'manifest')).toHaveLength(1);
});

test('what one host wrote another finds after the first gave the volume up', async () => {
  const host = await madeHost(40 * mebibyte);
  const volume = await host.open('drive');
  const content = noise(30 * mebibyte);
  await volume.write(5 * mebibyte, content, plain);
  await volume.close();
  const other = new VolumeHost(host.store);
  const there = await other.open('drive');
  expect(Buffer.compare(await readBack(there, 5 * mebibyte, content.length), content)).toBe(0);
  await there.close();
});

test('a volume that is attached is refused to other hosts, and names the one that has it', async () => {
  const host = await madeHost(mebibyte);
  const volume = await host.open('drive');
  const other = new VolumeHost(host.store);
  await expect(other.open('drive')).rejects.toMatchObject({
    code: 'held',
    message: expect.stringContaining(host.name) as string,
  });
  await volume.close();
  await (await other.open('drive')).close();
});

test('a writer that another has followed stops answering and says who', async () => {
  const host = await madeHost(mebibyte, { leaseMs: 15 });
  const volume = await host.open('drive');
  // The same host's next daemon: what a stale process would meet after a restart.
  const next = await host.open('drive');
  await next.write(0, noise(4096), plain);
  await expect
    .poll(() => volume.statistics().failure ?? '', { timeout: 5000 })
    .toContain(`taken by ${host.name}`);
  expect(() => volume.read(0, new Uint8Array(4096))).toThrow(
    expect.objectContaining({ code: 'lost-ownership' }),
  );
  await volume.abandon();
  await next.close();
});

test('while the store is away writes go on until the journal is full, then wait, and none is lost', async () => {
  const plan: FaultPlan = { errorBefore: 1, only: (operation) => operation === 'put' };
  const memory = createMemoryStore();
  const store = withFaults(memory, { clock: systemClock, random, plan });
  const host = new VolumeHost(store, { journalBytes: 40 * mebibyte });
  await host.create({ name: 'drive', sizeBytes: 100 * mebibyte });
  const volume = await host.open('drive');
  const content = noise(80 * mebibyte);
  let done = 0;
  const writing = (async () => {
    for (; done < content.length; done += mebibyte) {
      await volume.write(done, content.subarray(done, done + mebibyte), plain);
    }
  })();
  await expect.poll(() => volume.statistics().journalFiles).toBe(4);
  const doneWhileAway = done;
  expect(doneWhileAway).toBeGreaterThanOrEqual(31 * mebibyte);
  expect(doneWhileAway).toBeLessThan(content.length);
  plan.errorBefore = 0;
  await writing;
  expect(Buffer.compare(await readBack(volume, 0, content.length), content)).toBe(0);
  await volume.close();
});

test('a crash with the store away loses nothing that was flushed', async () => {
  const plan: FaultPlan = { only: (operation) => operation === 'put' };
  const store = withFaults(createMemoryStore(), { clock: systemClock, random, plan });
  const host = new VolumeHost(store);
  await host.create({ name: 'drive', sizeBytes: 40 * mebibyte });
  const content = noise(20 * mebibyte);
  let volume = await host.open('drive');
  plan.errorBefore = 1;
  await volume.write(0, content, plain);
  await volume.flush();
  for (let round = 0; round < 3; round += 1) {
    host.disk.losePower(random);
    await volume.abandon();
    volume = await host.open('drive');
    expect(Buffer.compare(await readBack(volume, 0, content.length), content)).toBe(0);
    content.set(noise(8192), round * mebibyte);
    await volume.write(
      round * mebibyte,
      content.subarray(round * mebibyte, round * mebibyte + 8192),
      {
        fua: true,
      },
    );
  }
  plan.errorBefore = 0;
  await volume.close();
  const elsewhere = await new VolumeHost(store).open('drive');
  expect(Buffer.compare(await readBack(elsewhere, 0, content.length), content)).toBe(0);
  await elsewhere.close();
});

test('with store durability a flush waits for the store', async () => {
  const plan: FaultPlan = { only: (operation) => operation === 'put' };
  const store = withFaults(createMemoryStore(), { clock: systemClock, random, plan });
  const host = new VolumeHost(store, { uploadIntervalMs: 60_000 });
  await host.create({ name: 'drive', sizeBytes: mebibyte, durability: 'store' });
  const volume = await host.open('drive');
  plan.errorBefore = 1;
  const content = noise(4096);
  let flushed = false;
  const flushing = Promise.resolve(volume.write(0, content, { fua: true })).then(() => {
    flushed = true;
  });
  await new Promise((resolve) => {
    setTimeout(resolve, 50);
  });
  expect(flushed).toBe(false);
  plan.errorBefore = 0;
  await flushing;
  // The host and its disk are lost.
  host.disk.kill();
  await volume.abandon();
  const manifest = await findVolume(store, 'drive');
  expect(manifest.epoch).toBe(1);
  expect(await keysOf(store, 'segments')).toHaveLength(1);
});

test('store requests that lose their answers change nothing', async () => {
  const plan: FaultPlan = { errorBefore: 0.1, errorAfter: 0.1 };
  const store = withFaults(createMemoryStore(), { clock: systemClock, random, plan });
  const quiet = { ...plan };
  Object.assign(plan, { errorBefore: 0, errorAfter: 0 });
  const host = new VolumeHost(store);
  await host.create({ name: 'drive', sizeBytes: 20 * mebibyte });
  let volume = await host.open('drive');
  const content = noise(20 * mebibyte);
  Object.assign(plan, quiet, {
    only: (operation: string) => operation === 'put' || operation === 'swap',
  });
  for (let at = 0; at < content.length; at += mebibyte) {
    await volume.write(at, content.subarray(at, at + mebibyte), plain);
  }
  await volume.close();
  Object.assign(plan, { errorBefore: 0, errorAfter: 0 });
  volume = await new VolumeHost(store).open('drive');
  expect(Buffer.compare(await readBack(volume, 0, content.length), content)).toBe(0);
  await volume.close();
});

test('a damaged object gives an error for its blocks, the others are served', async () => {
  const plan: FaultPlan = {};
  const memory = createMemoryStore();
  const store = withFaults(memory, { clock: systemClock, random, plan });
  const host = new VolumeHost(store, { readaheadBytes: 0, diskCacheBytes: 0 });
  await host.create({ name: 'drive', sizeBytes: 64 * mebibyte });
  const writer = await host.open('drive');
  const content = noise(32 * mebibyte);
  await writer.write(0, content, plain);
  await writer.close();
  const volume = await new VolumeHost(store, { readaheadBytes: 0, diskCacheBytes: 0 }).open(
    'drive',
  );
  const [first] = await keysOf(memory, 'segments/');
  for (const damage of ['flip', 'truncate'] as const) {
    plan[damage] = 1;
    plan.only = (operation, key) => operation === 'get' && key === first;
    await expect(readBack(volume, 0, 4096)).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringContaining(first ?? 'no key') as string,
    });
    const later = await readBack(volume, 24 * mebibyte, 4096);
    expect(Buffer.compare(later, content.subarray(24 * mebibyte, 24 * mebibyte + 4096))).toBe(0);
    plan[damage] = 0;
  }
  expect(Buffer.compare(await readBack(volume, 0, 4096), content.subarray(0, 4096))).toBe(0);
  await volume.close();
});

test('a segment that is missing is an error, never an empty part of the disk', async () => {
  const host = await madeHost(64 * mebibyte, {
    checkpointSegments: 1000,
    checkpointIdleMs: 60_000,
  });
  const volume = await host.open('drive');
  await volume.write(0, noise(20 * mebibyte), plain);
  await volume.close();
  const [first] = await keysOf(host.store, 'segments/');
  forgetStore(host.store);
  await host.store.delete(first ?? '');
  const reopened = await new VolumeHost(host.store).open('drive');
  await expect(readBack(reopened, 0, 4096)).rejects.toMatchObject({ code: 'corrupt' });
  await reopened.close();
  const manifest = await findVolume(host.store, 'drive');
  await host.store.remove(`volumes/${manifest.id}/manifest.json`);
  await expect(new VolumeHost(host.store).open('drive')).rejects.toMatchObject({ code: 'corrupt' });
});

test('a bit flipped in the journal is not served and does not reach the store', async () => {
  const plan: FaultPlan = { errorBefore: 1, only: (operation) => operation === 'put' };
  const store = withFaults(createMemoryStore(), { clock: systemClock, random, plan });
  const host = new VolumeHost(store, { readaheadBytes: 0 });
  Object.assign(plan, { errorBefore: 0 });
  await host.create({ name: 'drive', sizeBytes: 64 * mebibyte });
  const volume = await host.open('drive');
  Object.assign(plan, { errorBefore: 1 });
  const content = noise(40 * mebibyte);
  for (let at = 0; at < content.length; at += mebibyte) {
    await volume.write(at, content.subarray(at, at + mebibyte), plain);
  }
  await volume.flush();
  const files = host.disk.paths().filter((path) => path.endsWith('.journal'));
  host.disk.flipBit(files[0] ?? '', 135_168 + 5000);
  // Four are packed already and only wait for the store; this one is still to be read.
  host.disk.flipBit(files[4] ?? '', 135_168 + 5000);
  // The cache is smaller than what was written: the beginning is only in the journal now.
  await expect(readBack(volume, 4096, 4096)).rejects.toMatchObject({ code: 'corrupt' });
  const later = await readBack(volume, 65_536, 4096);
  expect(Buffer.compare(later, content.subarray(65_536, 65_536 + 4096))).toBe(0);
  Object.assign(plan, { errorBefore: 0 });
  await expect
    .poll(() => volume.statistics().failure ?? '', { timeout: 20_000 })
    .toContain('read-only');
  expect(() => volume.write(0, content.subarray(0, 4096), plain)).toThrow('read-only');
  expect((await keysOf(store, 'segments/')).some((key) => key.includes('/00000005-'))).toBe(false);
  await volume.abandon();
});

test('a trim of a whole volume of 1 TiB writes a few bytes', async () => {
  const store = withMetrics(createMemoryStore(), { clock: systemClock });
  const host = new VolumeHost(store);
  await host.create({ name: 'drive', sizeBytes: 2 ** 40 });
  const volume = await host.open('drive');
  for (let at = 0; at < 2 ** 40; at += 2 ** 36) await volume.write(at, noise(4096), plain);
  const sentBefore = store.snapshot().operations.put.sentBytes;
  await volume.trim(0, 2 ** 40, { fua: true });
  expect(await volume.status(0, 2 ** 40, 10)).toEqual([
    { lengthBytes: 2 ** 40, hole: true, zero: true },
  ]);
  await volume.close();
  expect(store.snapshot().operations.put.sentBytes - sentBefore).toBeLessThan(16 * 4096 + 10_000);
  const reopened = await new VolumeHost(store).open('drive');
  expect(await readBack(reopened, 2 ** 36, 4096)).toEqual(new Uint8Array(4096));
  await reopened.close();
});

test('status tells data, holes and zeroes apart', async () => {
  const host = await madeHost(mebibyte);
  let volume = await host.open('drive');
  await volume.write(8192, noise(8192), plain);
  await volume.zero(32_768, 4096, { mayPunchHole: false, fua: false });
  await volume.zero(65_536, 4096, { mayPunchHole: true, fua: false });
  const expected = [
    { lengthBytes: 8192, hole: true, zero: true },
    { lengthBytes: 8192, hole: false, zero: false },
    { lengthBytes: 16_384, hole: true, zero: true },
    { lengthBytes: 4096, hole: false, zero: true },
    { lengthBytes: mebibyte - 36_864, hole: true, zero: true },
  ];
  expect(await volume.status(0, mebibyte, 100)).toEqual(expected);
  await volume.close();
  volume = await new VolumeHost(host.store).open('drive');
  expect(await volume.status(0, mebibyte, 100)).toEqual(expected);
  expect(await volume.status(8193, 20_000, 1)).toEqual([
    { lengthBytes: 8191, hole: false, zero: false },
  ]);
  await volume.close();
});

test('writes of bytes within one block at the same time all stay', async () => {
  const host = await madeHost(mebibyte);
  const volume = await host.open('drive');
  await volume.write(0, noise(4096), plain);
  await volume.close();
  // Opened anew, so that the block must be fetched while the writes race for it.
  const again = await new VolumeHost(host.store).open('drive');
  await Promise.all(
    Array.from({ length: 64 }, async (_, at) =>
      again.write(at * 64, new Uint8Array(64).fill(at + 1), plain),
    ),
  );
  const expected = new Uint8Array(4096).map((_, at) => Math.floor(at / 64) + 1);
  expect(await readBack(again, 0, 4096)).toEqual(expected);
  await again.close();
});

test('an idle volume makes at most two store requests a minute', async () => {
  const clock = new VirtualClock();
  const store = withMetrics(createMemoryStore(), { clock });
  const host = new VolumeHost(
    store,
    { leaseMs: 120_000, uploadIntervalMs: 5000, checkpointIdleMs: 30_000 },
    1,
    clock,
  );
  await host.create({ name: 'drive', sizeBytes: mebibyte });
  const volume = await host.open('drive');
  await volume.write(0, noise(4096), plain);
  await clock.advance(120_000);
  expect(volume.statistics().dirtyBytes).toBe(0);
  const requests = (): number =>
    Object.values(store.snapshot().operations).reduce((sum, { requests: count }) => sum + count, 0);
  const before = requests();
  await clock.advance(60 * 60_000);
  expect(requests() - before).toBeLessThanOrEqual(120);
  expect(requests() - before).toBeGreaterThan(0);
  await volume.close();
});

test('a sequential reader of a cold volume is served by few large requests', async () => {
  const store = withMetrics(createMemoryStore(), { clock: systemClock });
  const host = new VolumeHost(store);
  await host.create({ name: 'drive', sizeBytes: 64 * mebibyte });
  const writer = await host.open('drive');
  const content = noise(64 * mebibyte);
  await writer.write(0, content, plain);
  await writer.close();
  const volume = await new VolumeHost(store, { cacheBytes: 64 * mebibyte }).open('drive');
  const before = store.snapshot().operations.get.requests;
  for (let at = 0; at < content.length; at += 65_536) {
    const found = await readBack(volume, at, 65_536);
    if (Buffer.compare(found, content.subarray(at, at + 65_536)) !== 0) throw new Error(`at ${at}`);
  }
  expect(store.snapshot().operations.get.requests - before).toBeLessThan(40);
  await volume.close();
});

test('a frame is fetched once however many readers wait for it', async () => {
  const store = withMetrics(createMemoryStore(), { clock: systemClock });
  const host = new VolumeHost(store);
  await host.create({ name: 'drive', sizeBytes: mebibyte });
  const writer = await host.open('drive');
  await writer.write(0, noise(65_536), plain);
  await writer.close();
  const volume = await new VolumeHost(store).open('drive');
  await volume.status(0, 4096, 1);
  const before = store.snapshot().operations.get.requests;
  await Promise.all(
    Array.from({ length: 50 }, (_, at) => readBack(volume, (at % 16) * 4096, 4096)),
  );
  expect(store.snapshot().operations.get.requests - before).toBe(1);
  await volume.close();
});

test('random writes of a gibibyte would cost at most 160 puts', async () => {
  const store = withMetrics(createMemoryStore(), { clock: systemClock });
  const host = new VolumeHost(store, {
    uploadIntervalMs: 60_000,
    checkpointSegments: 32,
    journalBytes: 512 * mebibyte,
  });
  await host.create({ name: 'drive', sizeBytes: 1024 * mebibyte });
  const volume = await host.open('drive');
  const block = noise(4096);
  const blocks = 2 ** 18 / 4;
  for (let at = 0; at < blocks; at += 1) {
    await volume.write(Math.floor(random.fraction() * 2 ** 18) * 4096, block, plain);
  }
  await volume.close();
  const { put, swap } = store.snapshot().operations;
  expect(4 * (put.requests + swap.requests)).toBeLessThanOrEqual(160);
});

test.each(['zstd', 'lz4', 'none'] as const)(
  'a volume compressed with %s reads as it was written',
  async (codec) => {
    const store = withMetrics(createMemoryStore(), { clock: systemClock });
    const host = new VolumeHost(store);
    await host.create({ name: 'drive', sizeBytes: 16 * mebibyte, codec });
    const volume = await host.open('drive');
    const text = new TextEncoder().encode('the same words again and again. '.repeat(65_536));
    const incompressible = random.bytes(mebibyte);
    await volume.write(0, text, plain);
    await volume.write(4 * mebibyte, incompressible, plain);
    await volume.close();
    const sent = store.snapshot().operations.put.sentBytes;
    if (codec === 'none') expect(sent).toBeGreaterThan(3 * mebibyte);
    else expect(sent).toBeLessThan(1.2 * mebibyte);
    const again = await new VolumeHost(store).open('drive');
    expect(Buffer.compare(await readBack(again, 0, text.length), text)).toBe(0);
    expect(Buffer.compare(await readBack(again, 4 * mebibyte, mebibyte), incompressible)).toBe(0);
    await again.close();
  },
);

test('opening a volume of 1 TiB of mapped data reads the manifest, the page table and no page', async () => {
  const store = withMetrics(createMemoryStore(), { clock: systemClock });
  await putMappedVolume(store, 'mapped', 2 ** 40);
  const before = store.snapshot().operations;
  const volume = await new VolumeHost(store).open('mapped');
  const { get, getStart } = store.snapshot().operations;
  expect(get.requests - before.get.requests).toBe(1);
  expect(getStart.requests - before.getStart.requests).toBe(0);
  expect(await volume.status(2 ** 39, 2 ** 30, 4)).toEqual([
    { lengthBytes: 2 ** 30, hole: false, zero: false },
  ]);
  expect(volume.statistics().mapBytes).toBeLessThan(16 * 1024);
  await volume.close();
});
