import { expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { listAll, type ObjectStore } from '../../src/base/object-store.ts';
import { encodeCheckpoint } from '../../src/format/checkpoint-object.ts';
import { lastClosedSegment } from '../../src/format/manifest.ts';
import { checkpointKey } from '../../src/format/names.ts';
import { changeManifest } from '../../src/volume/manifest-change.ts';
import { PageTable } from '../../src/volume/page-table.ts';
import { turned } from '../../src/volume/retention.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { findVolume } from '../../src/volume/catalog.ts';
import { cloneVolume } from '../../src/volume/cloning.ts';
import { findStoredMoment, openMoment } from '../../src/volume/moment-reader.ts';
import { windowOf } from '../../src/volume/moments.ts';
import type { VolumeSettings } from '../../src/volume/settings.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { readSnapshot } from '../support/snapshot-reader.ts';
import { readAll, smallSettings, VolumeHost } from '../support/volume-host.ts';

const plain = { fua: false };
const blocks = 64;
const hourMs = 3_600_000;

/** What the volume held, from when on. */
interface Remembered {
  readonly fromMs: number;
  readonly content: Uint8Array;
}

/** Said as a flag: what is different of so many bytes takes minutes to be shown. */
function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** A volume that is written at one time after the other, and what it was at each of them. */
class Past {
  readonly clock = new VirtualClock();
  readonly store: ObjectStore = createMemoryStore();
  readonly host: VolumeHost;
  readonly remembered: Remembered[] = [];
  private readonly random = seededRandom(11);
  private readonly content = new Uint8Array(blocks * 4096);
  private writes = 0;

  constructor(settings: Partial<VolumeSettings> = {}) {
    this.host = new VolumeHost(
      this.store,
      { uploadIntervalMs: 1000, checkpointIdleMs: 10 * hourMs, ...settings },
      1,
      this.clock,
    );
    this.remember();
  }

  remember(): void {
    this.remembered.push({ fromMs: this.clock.wallMs(), content: this.content.slice() });
  }

  /** The volume is made another one now. */
  becomes(content: Uint8Array): void {
    this.content.set(content);
    this.remember();
  }

  /** Writes, or trims, a few blocks; a while passes before. */
  async change(volume: Volume): Promise<void> {
    await this.clock.advance(1 + Math.floor(this.random.fraction() * 700));
    this.writes += 1;
    const first = Math.floor(this.random.fraction() * (blocks - 4));
    const lengthBytes = (1 + Math.floor(this.random.fraction() * 4)) * 4096;
    if (this.random.fraction() < 0.2) {
      await volume.trim(first * 4096, lengthBytes, plain);
      this.content.fill(0, first * 4096, first * 4096 + lengthBytes);
    } else {
      const bytes = new Uint8Array(lengthBytes).fill(1 + (this.writes % 255));
      await volume.write(first * 4096, bytes, plain);
      this.content.set(bytes, first * 4096);
    }
    this.remember();
  }

  /** What was answered before that time. */
  before(timeMs: number): Uint8Array {
    const found = this.remembered.findLast(({ fromMs }) => fromMs < timeMs);
    if (found === undefined) throw new Error('nothing is remembered of that time');
    return found.content;
  }

  async asOf(timeMs: number, flushed = false): Promise<Uint8Array> {
    const manifest = await findVolume(this.store, 'drive');
    const options = { store: this.store, clock: this.clock, settings: smallSettings };
    const moment = await findStoredMoment(options, manifest, { timeMs, flushed });
    const volume = await openMoment(options, moment, timeMs);
    const content = new Uint8Array(volume.sizeBytes);
    await volume.read(0, content);
    return content;
  }

  /** Compares every moment that something changed at, and those between. */
  async compareAll(): Promise<void> {
    expect(this.remembered.length).toBeGreaterThan(1);
    const { fromMs: firstMs } = this.remembered[0] as Remembered;
    for (const { fromMs } of this.remembered) {
      for (const timeMs of [fromMs, fromMs + 1]) {
        if (timeMs <= firstMs) continue;
        const isSame = Buffer.compare(await this.asOf(timeMs), this.before(timeMs)) === 0;
        expect(isSame, `as of ${timeMs - firstMs} ms after the beginning`).toBe(true);
      }
    }
  }
}

async function create(past: Past, retainMs = hourMs): Promise<void> {
  await past.host.create({ name: 'drive', sizeBytes: blocks * 4096, retainMs });
}

test('every moment can be had: within segments, across checkpoints, crashes and attachments', async () => {
  const past = new Past({ checkpointSegments: 2 });
  await create(past);
  for (let round = 0; round < 4; round += 1) {
    const volume = await past.host.open('drive');
    for (let at = 0; at < 8; at += 1) await past.change(volume);
    if (round % 2 === 0) await volume.close();
    else await volume.abandon();
    await past.clock.advance(500);
  }
  const volume = await past.host.open('drive');
  await volume.close();
  const { head, tenures } = await findVolume(past.store, 'drive');
  expect(head?.segment).toBeGreaterThan(5);
  expect(tenures.length).toBeGreaterThan(2);
  await past.compareAll();
});

test('a time before what is kept, in the future, or of a volume that keeps nothing is refused', async () => {
  const past = new Past();
  await create(past);
  const bornMs = past.clock.wallMs();
  await past.clock.advance(1000);
  await expect(past.asOf(bornMs)).rejects.toMatchObject({
    code: 'usage',
    message: expect.stringContaining(' or later') as unknown,
  });
  await expect(past.asOf(past.clock.wallMs() + 1)).rejects.toMatchObject({ code: 'usage' });
  expect(isSame(await past.asOf(bornMs + 1), new Uint8Array(blocks * 4096))).toBe(true);
  await past.host.create({ name: 'other', sizeBytes: 4096 });
  const manifest = await findVolume(past.store, 'other');
  const options = { store: past.store, clock: past.clock, settings: smallSettings };
  await expect(
    findStoredMoment(options, manifest, { timeMs: bornMs + 1, flushed: false }),
  ).rejects.toMatchObject({
    code: 'usage',
    message: expect.stringContaining('--retain') as unknown,
  });
});

test('while a writer has the volume, only what is surely in the store is given', async () => {
  const past = new Past({ uploadIntervalMs: 60_000 });
  await create(past);
  const volume = await past.host.open('drive');
  await past.change(volume);
  await past.clock.advance(10);
  const timeMs = past.clock.wallMs();
  await expect(past.asOf(timeMs)).rejects.toMatchObject({
    code: 'held',
    message: expect.stringContaining(past.host.name) as unknown,
  });
  // Its writer knows: it uploads what is missing.
  const moment = await volume.asOf({ timeMs, flushed: false });
  expect(moment.segments).toHaveLength(1);
  await past.clock.advance(50_000);
  // The writer has said meanwhile, with its lease, that all is in the store.
  expect(isSame(await past.asOf(timeMs), past.before(timeMs))).toBe(true);
  const window = windowOf(await findVolume(past.store, 'drive'), past.clock.wallMs());
  expect(window?.throughMs).toBeGreaterThan(timeMs);
  await volume.close();
});

test('the last flush before a moment is found, also behind checkpoints that came after it', async () => {
  const past = new Past({ checkpointSegments: 1 });
  await create(past);
  const volume = await past.host.open('drive');
  await past.change(volume);
  await past.clock.advance(5);
  await volume.flush();
  const flushed = past.before(past.clock.wallMs() + 1);
  for (let at = 0; at < 10; at += 1) await past.change(volume);
  await past.clock.advance(60_000);
  const timeMs = past.clock.wallMs();
  await volume.close();
  const { head } = await findVolume(past.store, 'drive');
  expect(head?.segment).toBeGreaterThan(2);
  expect(isSame(await past.asOf(timeMs, true), flushed)).toBe(true);
  expect(isSame(await past.asOf(timeMs), flushed)).toBe(false);
  const firstMs = past.remembered[0]?.fromMs ?? 0;
  await expect(past.asOf(firstMs + 1, true)).rejects.toMatchObject({
    message: expect.stringContaining('--flushed') as unknown,
  });
});

test('the last flush before a moment has the size that the volume had then', async () => {
  const past = new Past({ checkpointSegments: 1 });
  await create(past);
  const volume = await past.host.open('drive');
  await past.change(volume);
  await past.clock.advance(5);
  await volume.flush();
  const flushed = past.before(past.clock.wallMs() + 1);
  await past.clock.advance(1000);
  await volume.shrink(4096);
  await past.clock.advance(60_000);
  const timeMs = past.clock.wallMs();
  await volume.close();
  expect(isSame(await past.asOf(timeMs, true), flushed)).toBe(true);
  expect((await past.asOf(timeMs)).byteLength).toBe(4096);
});

test('what is kept begins later as time goes on, and not sooner than was asked for', async () => {
  const past = new Past({ checkpointSegments: 1 });
  await create(past, 60_000);
  const volume = await past.host.open('drive');
  for (let at = 0; at < 300; at += 1) {
    await past.change(volume);
    if (at % 50 !== 49) continue;
    const window = windowOf(await findVolume(past.store, 'drive'), past.clock.wallMs());
    const firstMs = past.remembered[0]?.fromMs ?? 0;
    const wantedMs = Math.max(firstMs + 1, past.clock.wallMs() - 60_000);
    expect(window?.fromMs).toBeLessThanOrEqual(wantedMs);
    expect(isSame(await past.asOf(wantedMs), past.before(wantedMs))).toBe(true);
  }
  // An idle volume needs no checkpoint for it.
  await past.clock.advance(200_000);
  const { head, retention } = await findVolume(past.store, 'drive');
  expect(retention?.keptFrom?.checkpoint).toEqual(head);
  await volume.close();
});

test('what was written before retention was turned on is no past, what follows is', async () => {
  const past = new Past({ checkpointSegments: 2 });
  await past.host.create({ name: 'drive', sizeBytes: blocks * 4096 });
  const volume = await past.host.open('drive');
  for (let at = 0; at < 8; at += 1) await past.change(volume);
  await past.host.setRetention('drive', hourMs);
  // The writer learns of it with its next change of the manifest.
  await past.clock.advance(50_000);
  for (let at = 0; at < 12; at += 1) await past.change(volume);
  await past.clock.advance(2000);
  const nowMs = past.clock.wallMs();
  const window = windowOf(await findVolume(past.store, 'drive'), nowMs);
  expect(window?.fromMs).toBeLessThan(nowMs - 3000);
  await volume.close();
  const fromMs = window?.fromMs ?? nowMs;
  await expect(past.asOf(fromMs - 1)).rejects.toMatchObject({ code: 'usage' });
  for (let timeMs = fromMs; timeMs < nowMs; timeMs += 97) {
    expect(Buffer.compare(await past.asOf(timeMs), past.before(timeMs))).toBe(0);
  }
  await past.host.setRetention('drive', 0);
  await expect(past.asOf(nowMs)).rejects.toMatchObject({ code: 'usage' });
});

test('a snapshot of a moment inside a segment outlives what is kept, and is cloned', async () => {
  const past = new Past({ uploadIntervalMs: 100_000, checkpointSegments: 1 });
  await create(past);
  const volume = await past.host.open('drive');
  for (let at = 0; at < 20; at += 1) await past.change(volume);
  const timeMs = (past.remembered[10]?.fromMs ?? 0) + 1;
  const snapshot = await volume.createSnapshot({ name: 'then', asOf: { timeMs, flushed: false } });
  expect(snapshot).toMatchObject({ isCompleted: true, description: expect.any(String) as unknown });
  expect(snapshot.checkpoint?.variant).toBe(1);
  for (let at = 0; at < 5; at += 1) await past.change(volume);
  const again = await volume.createSnapshot({ asOf: { timeMs: timeMs - 1, flushed: false } });
  expect(again.checkpoint?.variant).toBe(2);
  await past.host.setRetention('drive', 0);
  expect(isSame(await readSnapshot(past.store, 'drive', 'then'), past.before(timeMs))).toBe(true);
  expect(isSame(await readSnapshot(past.store, 'drive', again.id), past.before(timeMs - 1))).toBe(
    true,
  );
  const wish = { name: 'copy', sourceId: volume.id, snapshotId: snapshot.id };
  const { random } = past.host;
  await cloneVolume({ store: past.store, clock: past.clock, random }, wish);
  // Another has changed the manifest: the next change is tried twice, with a while between.
  const closing = volume.close();
  await past.clock.advance(1000);
  await closing;
  const copy = await past.host.open('copy');
  expect(isSame(await readAll(copy), past.before(timeMs))).toBe(true);
  await copy.write(0, new Uint8Array(4096).fill(0xee), plain);
  await copy.close();
});

test('what a snapshot of the past was made of is not taken for a state that the log goes on from', async () => {
  const past = new Past({ uploadIntervalMs: 100_000, checkpointSegments: 1 });
  await create(past);
  const volume = await past.host.open('drive');
  for (let round = 0; round < 3; round += 1) {
    for (let at = 0; at < 10; at += 1) await past.change(volume);
    const timeMs = (past.remembered[round * 10 + 5]?.fromMs ?? 0) + 1;
    await volume.createSnapshot({ asOf: { timeMs, flushed: false } });
    await past.clock.advance(60_000);
  }
  await volume.close();
  expect((await findVolume(past.store, 'drive')).snapshots).toHaveLength(3);
  await past.compareAll();
});

test('a checkpoint of a writer that had lost the volume is nothing to begin from', async () => {
  const past = new Past({ checkpointSegments: 100 });
  await create(past);
  for (let round = 0; round < 3; round += 1) {
    const volume = await past.host.open('drive');
    for (let at = 0; at < 8; at += 1) await past.change(volume);
    await volume.close();
  }
  const { id, tenures } = await findVolume(past.store, 'drive');
  const [first, second] = tenures;
  expect(tenures).toHaveLength(3);
  // It had written on, and says that there is nothing in the volume.
  const at = { segment: (first?.lastSegment ?? 0) + 1, epoch: first?.epoch ?? 0, variant: 0 };
  expect(at.segment).toBeLessThan(second?.lastSegment ?? 0);
  const timeMs = (past.remembered[9]?.fromMs ?? 0) + 1;
  await past.store.put(checkpointKey(id, at), [encodeCheckpoint(id, at, [], timeMs)]);
  await past.clock.advance(10);
  await past.compareAll();
});

/** What a rollback does in the store, to a volume that nobody has: another map, from now on. */
async function turnTo(past: Past, snapshotName: string, timeMs: number): Promise<void> {
  const manifest = await findVolume(past.store, 'drive');
  const to = manifest.snapshots.find(({ name }) => name === snapshotName);
  const last = lastClosedSegment(manifest);
  const table = await PageTable.load(past.store, manifest, to?.checkpoint);
  const at = { segment: last, epoch: manifest.epoch, variant: 9 };
  const object = encodeCheckpoint(manifest.id, at, table.references(), timeMs);
  await past.store.put(checkpointKey(manifest.id, at), [object]);
  await changeManifest(past.host, manifest.id, (before) =>
    turned({ ...before, head: at }, at, last, timeMs),
  );
}

test('moments before and after a rollback are those of before and after it', async () => {
  const past = new Past({ checkpointSegments: 2 });
  await create(past);
  const volume = await past.host.open('drive');
  for (let at = 0; at < 10; at += 1) await past.change(volume);
  await volume.createSnapshot({ name: 'there' });
  await past.clock.advance(3000);
  const there = past.before(past.clock.wallMs());
  for (let at = 0; at < 10; at += 1) await past.change(volume);
  await volume.close();
  await past.clock.advance(100);
  await turnTo(past, 'there', past.clock.wallMs());
  past.becomes(there);
  await past.clock.advance(100);
  const again = await past.host.open('drive');
  expect(isSame(await readAll(again), there)).toBe(true);
  for (let at = 0; at < 10; at += 1) await past.change(again);
  await again.close();
  await past.clock.advance(10);
  await past.compareAll();
  const { retention } = await findVolume(past.store, 'drive');
  expect(retention?.turns).toHaveLength(1);
});

test('giving space back takes nothing from a moment that is kept, and all once it is not', async () => {
  const past = new Past({ checkpointSegments: 1, uploadIntervalMs: 2000 });
  await create(past);
  const volume = await past.host.open('drive');
  for (let round = 0; round < 3; round += 1) {
    for (let at = 0; at < 30; at += 1) await past.change(volume);
    await inTime(past, volume.compact({ graceMs: 0, isThorough: true }));
  }
  await past.clock.advance(60_000);
  const kept = await storedBytes(past.store);
  await past.compareAll();
  await past.host.setRetention('drive', 0);
  await past.clock.advance(60_000);
  await inTime(past, volume.compact({ graceMs: 0, isThorough: true }));
  await past.clock.advance(60_000);
  expect(await storedBytes(past.store)).toBeLessThan(kept / 2);
  expect(isSame(await readAll(volume), past.before(past.clock.wallMs()))).toBe(true);
  await volume.close();
});

async function storedBytes(store: ObjectStore): Promise<number> {
  let bytes = 0;
  for await (const { sizeBytes } of listAll(store, 'volumes/')) bytes += sizeBytes;
  return bytes;
}

/** Lets time pass until it is done. */
async function inTime(past: Past, done: Promise<unknown>): Promise<void> {
  const over = done.then(() => true);
  while (!(await Promise.race([over, past.clock.advance(100).then(() => false)])));
}
