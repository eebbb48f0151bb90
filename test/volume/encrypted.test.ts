/** Encrypted volumes: they do what others do, and nothing that leaves memory tells what is in them. */
import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { listAll, type ObjectStore } from '../../src/base/object-store.ts';
import { systemRandom } from '../../src/base/random.ts';
import { memoryVolumeKeys } from '../../src/crypto/testing/memory-volume-keys.ts';
import type { VolumeKeys } from '../../src/crypto/volume-keys.ts';
import { sealedHeaderBytes, sealedPartBytes } from '../../src/format/sealed-object.ts';
import { type CipherName, cipherNames } from '../../src/format/sealing.ts';
import { decodeManifest, encodeManifest } from '../../src/format/manifest.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { type FaultPlan, withFaults } from '../../src/store/with-faults.ts';
import { findVolume, listVolumes } from '../../src/volume/catalog.ts';
import { checkVolume } from '../../src/volume/check.ts';
import { deleteVolume } from '../../src/volume/deletion.ts';
import { openReadOnly } from '../../src/volume/read-only-volume.ts';
import { withSealing } from '../../src/volume/sealing-store.ts';
import { defaultSpaceSettings } from '../../src/volume/space-settings.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { cloneOf, snapshotOf } from '../support/clones.ts';
import type { MemoryDisk } from '../support/memory-disk.ts';
import { allData, forgetStore } from '../support/sound-stores.ts';
import { readAll, VolumeHost } from '../support/volume-host.ts';

const mebibyte = 2 ** 20;
const sizeBytes = 24 * mebibyte;
const notNow = { fua: false };
const space = {
  ...{ ...defaultSpaceSettings, bytesPerSecond: 2 ** 30, graceMs: 0, lookMs: 2 ** 30 },
  limits: { startShare: 0, stopShare: 0, mergeCount: 2 },
};
const context = { clock: systemClock, random: systemRandom };
/** What a client writes, and nobody else must find. */
const marker = Buffer.from('what only those with the key may know of ');

/** A store as hosts with these keys see it. */
function hostOf(raw: ObjectStore, keys: VolumeKeys, settings = {}): VolumeHost {
  return new VolumeHost(withSealing(raw, { keys, ...context }), settings);
}

/** Writes a bit of everything; returns what the volume holds then. */
async function fill(volume: Volume): Promise<Uint8Array> {
  const content = new Uint8Array(volume.sizeBytes);
  const write = async (at: number, bytes: Uint8Array): Promise<void> => {
    await volume.write(at, bytes, notNow);
    content.set(bytes, at);
  };
  for (let at = 0; at < content.byteLength; at += 2 * mebibyte) {
    const isText = at % (4 * mebibyte) === 0;
    await write(at, isText ? Buffer.alloc(mebibyte, marker) : randomBytes(mebibyte));
  }
  for (let turn = 0; turn < 40; turn += 1) {
    await write(turn * 98_304 + 4096, Buffer.alloc(8192, marker));
    if (turn % 8 === 0) await volume.flush();
  }
  await volume.trim(12_288, 65_536, notNow);
  content.fill(0, 12_288, 12_288 + 65_536);
  await volume.flush();
  return content;
}

async function expectContent(volume: { readonly sizeBytes: number }, content: Uint8Array) {
  const found = await readAll(volume as Volume);
  expect(found.byteLength).toBe(content.byteLength);
  expect(Buffer.compare(found, content)).toBe(0);
}

function isRegister(key: string): boolean {
  return key.startsWith('names/') || key.endsWith('manifest.json');
}

/** All that is in a store. */
async function contentsOf(raw: ObjectStore): Promise<Map<string, Uint8Array>> {
  const found = new Map<string, Uint8Array>();
  for await (const { key } of listAll(raw, '')) {
    const bytes = isRegister(key) ? (await raw.load(key))?.value : await raw.get(key);
    if (bytes !== undefined) found.set(key, bytes);
  }
  return found;
}

/** Whether any 16 bytes of what was written are there. */
function tells(bytes: Uint8Array): boolean {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < marker.byteLength; at += 1) {
    const sixteen = Buffer.alloc(at + 16, marker).subarray(at);
    if (all.includes(sixteen)) return true;
  }
  return false;
}

async function expectSecret(disk: MemoryDisk): Promise<void> {
  for (const path of disk.paths()) {
    expect(tells((await disk.readFile(path)) ?? new Uint8Array()), path).toBe(false);
  }
}

/** A store with an encrypted volume `drive` that has been given up, with a compacted object if need be. */
async function filledStore(cipher: CipherName = 'aes-256-gcm', isCompacted = true) {
  const raw = createMemoryStore();
  const keys = memoryVolumeKeys();
  const host = hostOf(raw, keys, { space });
  await host.create({ name: 'drive', sizeBytes, codec: 'none', encryption: { cipher } });
  const volume = await host.open('drive');
  const content = await fill(volume);
  if (isCompacted) await volume.compact();
  await expectContent(volume, content);
  await volume.close();
  return { raw, keys, host, content };
}

describe.each(cipherNames)('with %s', (cipher) => {
  test('what is written is read again, and neither store nor disk tells of it', async () => {
    const { raw, keys, host, content } = await filledStore(cipher);
    const other = hostOf(raw, keys);
    const again = await other.open('drive');
    await expectContent(again, content);
    await again.close();
    const kinds = new Set<string>();
    for (const [key, bytes] of await contentsOf(raw)) {
      kinds.add(key.split('/')[2] ?? 'names');
      expect(tells(bytes), key).toBe(false);
    }
    expect([...kinds].sort()).toEqual(
      [
        'checkpoints',
        'compacted',
        'manifest.json',
        'pages',
        'placements',
        'segments',
        'names',
      ].sort(),
    );
    await expectSecret(host.disk);
    await expectSecret(other.disk);
    // What the cache on the disk had was of use.
    expect(other.disk.paths().some((path) => path.endsWith('/cache'))).toBe(true);
  });

  test('what only the journal has is there again after a crash', async () => {
    const plan: FaultPlan = { only: (operation) => operation === 'put' };
    const raw = withFaults(createMemoryStore(), { ...context, plan });
    const host = hostOf(raw, memoryVolumeKeys(), { uploadIntervalMs: 3_600_000 });
    await host.create({ name: 'drive', sizeBytes, encryption: { cipher } });
    const volume = await host.open('drive');
    plan.errorBefore = 1;
    const content = await fill(volume);
    // The memory of the first segments has gone to younger ones: this reads the files.
    await expectContent(volume, content);
    await expectSecret(host.disk);
    host.disk.kill();
    await volume.abandon().catch(() => undefined);
    plan.errorBefore = 0;
    const again = await host.open('drive');
    expect(again.statistics().attachment.recoveredSegments).toBeGreaterThan(1);
    await expectContent(again, content);
    await again.close();
  });
});

describe('an encrypted volume', () => {
  test('is cloned, rolled back, checked and gone back into as any other', async () => {
    const { keys, raw, host, content } = await filledStore();
    const { store } = host;
    await snapshotOf(store, 'drive', 'monday');
    const { id } = await cloneOf(store, 'drive', 'monday', 'dev');
    const manifest = await findVolume(store, 'dev');
    expect(manifest.encryption?.keys).toHaveLength(1);
    const elsewhere = hostOf(raw, keys, { space });
    const clone = await elsewhere.open('dev');
    await expectContent(clone, content);
    await clone.write(0, Buffer.alloc(mebibyte, marker), notNow);
    await clone.close();
    for (const [key, bytes] of await contentsOf(raw)) {
      if (key.includes(id)) expect(tells(bytes), key).toBe(false);
    }
    const base = await host.open('drive');
    await base.write(mebibyte, Buffer.alloc(mebibyte, 7), notNow);
    await base.rollback('monday');
    const back = await host.open('drive');
    await expectContent(back, content);
    await back.close();
    for (const name of ['drive', 'dev']) {
      const report = await checkVolume(store, name, { clock: systemClock, readData: allData });
      expect(report.problems).toEqual([]);
    }
    const view = await openReadOnly({
      ...{ store: elsewhere.store, clock: systemClock, name: 'drive', reason: 'a test' },
      settings: host.settings,
    });
    await expectContent(view, content);
    await view.close();
  });

  test('is flattened with what its ancestors have sealed with their keys', async () => {
    const { keys, raw, host, content } = await filledStore();
    const { store } = host;
    await snapshotOf(store, 'drive', 'monday');
    const { id } = await cloneOf(store, 'drive', 'monday', 'dev');
    const elsewhere = hostOf(raw, keys, { space });
    const clone = await elsewhere.open('dev');
    await clone.flatten({ mayForget: false });
    await clone.close();
    await deleteVolume(store, 'drive', { clock: systemClock, random: host.random });
    for (const [key, bytes] of await contentsOf(raw)) {
      expect(key.includes(id) || key === 'names/dev', key).toBe(true);
      expect(tells(bytes), key).toBe(false);
    }
    // One who was never told of the ancestor's key.
    const alone = await hostOf(raw, keys, { space }).open('dev');
    await expectContent(alone, content);
    await alone.close();
  });

  test('is listed without its key, and neither opened nor changed', async () => {
    const { raw } = await filledStore();
    const before = await contentsOf(raw);
    const stranger = hostOf(raw, memoryVolumeKeys());
    forgetStore(stranger.store);
    const volumes = await listVolumes(stranger.store, (_, error) => {
      throw error;
    });
    expect(volumes.map(({ name }) => name)).toEqual(['drive']);
    await expect(stranger.open('drive')).rejects.toMatchObject({ code: 'wrong-key' });
    await expect(snapshotOf(stranger.store, 'drive', 'tuesday')).rejects.toMatchObject({
      code: 'wrong-key',
    });
    await expect(
      checkVolume(stranger.store, 'drive', { clock: systemClock }),
    ).rejects.toMatchObject({ code: 'wrong-key' });
    expect(await contentsOf(raw)).toEqual(before);
    expect(stranger.disk.paths()).toEqual([]);
  });

  test('is deleted by those who have lost its key', async () => {
    const { raw, host } = await filledStore();
    forgetStore(host.store);
    const stranger = hostOf(raw, memoryVolumeKeys());
    forgetStore(stranger.store);
    await deleteVolume(stranger.store, 'drive', context);
    expect(await contentsOf(raw)).toEqual(new Map());
  });

  test('cannot be made where there are no keys, nor when its key cannot be had', async () => {
    const raw = createMemoryStore();
    const wish = { name: 'drive', sizeBytes, encryption: {} };
    await expect(new VolumeHost(raw).create(wish)).rejects.toMatchObject({ code: 'usage' });
    const other = memoryVolumeKeys();
    const forgetful: VolumeKeys = {
      ...memoryVolumeKeys(),
      wrapNew: (...wish) => other.wrapNew(...wish),
    };
    await expect(hostOf(raw, forgetful).create(wish)).rejects.toMatchObject({ code: 'wrong-key' });
    expect(await contentsOf(raw)).toEqual(new Map());
  });
});

describe('what somebody without the key has changed', () => {
  /** The volume as a fresh host finds it when an object of the store is another. */
  async function readWith(
    { raw, keys }: Awaited<ReturnType<typeof filledStore>>,
    key: string,
    bytes: Uint8Array,
  ): Promise<unknown> {
    const store: ObjectStore = {
      ...raw,
      get: async (of, range, options) => {
        if (of !== key) return raw.get(of, range, options);
        if (range === undefined) return bytes.slice();
        return bytes.slice(range.offset, range.offset + range.lengthBytes);
      },
      getStart: async (of, maxBytes, options) => {
        if (of !== key) return raw.getStart(of, maxBytes, options);
        return { bytes: bytes.slice(0, maxBytes), objectBytes: bytes.byteLength };
      },
      load: async (of, options) => {
        const found = await raw.load(of, options);
        return of === key && found !== undefined ? { ...found, value: bytes } : found;
      },
    };
    const sealing = withSealing(store, { keys, ...context });
    return checkVolume(sealing, 'drive', { clock: systemClock, readData: allData }).then(
      (report) => report.problems,
      (error: unknown) => error,
    );
  }

  test('is found, whichever bit of whatever object it is', async () => {
    const filled = await filledStore();
    for (const [key, bytes] of await contentsOf(filled.raw)) {
      if (isRegister(key)) continue;
      const positions = Array.from({ length: sealedHeaderBytes }, (_, at) => at);
      for (let at = sealedHeaderBytes; at < bytes.byteLength; at += sealedPartBytes) {
        positions.push(at, Math.min(bytes.byteLength, at + 16 + sealedPartBytes) - 1);
      }
      const chosen = positions.filter((_, at) => at % 7 === key.length % 7 || at > 80).slice(-24);
      for (const at of chosen) {
        const flipped = bytes.slice();
        flipped[at] = (flipped[at] ?? 0) ^ (1 << (at % 8));
        const problems = await readWith(filled, key, flipped);
        expect(JSON.stringify(problems), `${key} byte ${at}`).toMatch(
          /fails its (authentication|checksum)|sealed|reserved|bytes of/,
        );
      }
    }
  });

  test('is found when an object lies in the place of another, or only a part of it does', async () => {
    const filled = await filledStore('aes-256-gcm', false);
    const contents = await contentsOf(filled.raw);
    const segments = [...contents.keys()].filter((key) => key.includes('/segments/'));
    const [first = '', second = ''] = segments;
    const [a, b] = [contents.get(first), contents.get(second)] as [Uint8Array, Uint8Array];
    expect(JSON.stringify(await readWith(filled, first, b))).toMatch(/fails its authentication/);
    const stored = sealedPartBytes + 16;
    const spliced = a.slice();
    const parts = spliced.subarray(sealedHeaderBytes);
    parts.copyWithin(stored, 0, stored);
    expect(JSON.stringify(await readWith(filled, first, spliced))).toMatch(/part 1 of it fails/);
    const short = a.slice(0, sealedHeaderBytes + stored);
    expect(JSON.stringify(await readWith(filled, first, short))).toMatch(/bytes of/);
  });

  test('is found in the manifest, whoever reads it first', async () => {
    const filled = await filledStore();
    const contents = await contentsOf(filled.raw);
    const key = [...contents.keys()].find((each) => each.endsWith('manifest.json')) ?? '';
    const text = Buffer.from(contents.get(key) ?? []).toString();
    for (const [from, to] of [
      ['"sizeBytes": 25165824', '"sizeBytes": 12582912'],
      ['"name": "drive"', '"name": "drove"'],
      [/"mac": "[0-9a-f]{64}"/, `"mac": "${'0'.repeat(64)}"`],
      [/"mac": "[0-9a-f]{64}"/, '"mac": ""'],
    ] as const) {
      const changed = text.replace(from, to);
      expect(changed).not.toBe(text);
      const problems = await readWith(filled, key, Buffer.from(changed));
      expect(problems).toMatchObject({ code: 'corrupt' });
      expect(String(problems)).toMatch(/somebody without the volume's key has changed it/);
    }
  });

  test('is found when the whole store is set back, by a host that had the volume since', async () => {
    const { raw, keys, host } = await filledStore();
    forgetStore(host.store);
    const key = [...(await contentsOf(raw)).keys()].find((each) => each.endsWith('.json')) ?? '';
    const before = await raw.load(key);
    const since = await host.open('drive');
    await since.write(0, Buffer.alloc(4096, 1), notNow);
    await since.close();
    const now = await raw.load(key);
    await raw.swap(key, now?.version, before?.value ?? new Uint8Array());
    await expect(host.open('drive')).rejects.toThrow(/epoch 1, and this host had it in epoch 2/);
    // Nor is it taken for a volume that never was encrypted.
    const { encryption: _, ...plain } = decodeManifest(before?.value ?? new Uint8Array());
    const version = (await raw.load(key))?.version;
    await raw.swap(key, version, encodeManifest({ ...plain, epoch: 9 }));
    const fresh = withSealing(raw, { keys, ...context });
    const again = host.withStore(fresh).open('drive');
    await expect(again).rejects.toThrow(/is not encrypted, and was when this host had it/);
    forgetStore(fresh);
  });

  test('is found in the journal, and nothing of it is taken', async () => {
    const plan: FaultPlan = { only: (operation) => operation === 'put' };
    const raw = withFaults(createMemoryStore(), { ...context, plan });
    const host = hostOf(raw, memoryVolumeKeys(), { uploadIntervalMs: 3_600_000 });
    await host.create({ name: 'drive', sizeBytes, encryption: {} });
    const volume = await host.open('drive');
    plan.errorBefore = 1;
    const content = await fill(volume);
    host.disk.kill();
    await volume.abandon().catch(() => undefined);
    const path = host.disk.paths().find((each) => each.endsWith('000001.journal')) ?? '';
    const whole = (await host.disk.readFile(path)) as Uint8Array;
    const changed = whole.slice();
    changed[4096 + 40] = (changed[4096 + 40] ?? 0) ^ 1;
    // Whoever changes it puts the checksum right, too.
    fixGroup(changed);
    await host.disk.replaceFile(path, changed);
    const attempt = await host.open('drive').catch((error: unknown) => error);
    expect(String(attempt)).toMatch(/entry 0 of it fails its authentication.*Nothing of it/s);
    await host.disk.replaceFile(path, whole);
    plan.errorBefore = 0;
    const again = await host.open('drive');
    await expectContent(again, content);
    await again.close();
  });
});

/** Puts the checksum of the first group of a journal file right, by what FORMAT.md says of it. */
function fixGroup(file: Uint8Array): void {
  const view = new DataView(file.buffer, file.byteOffset);
  const entries = view.getUint16(4096 + 4, true);
  const blocks = view.getUint16(4096 + 6, true);
  const fields = crc32(file.subarray(4096, 4096 + 12), view.getUint32(96, true));
  const body = file.subarray(4096 + 16, 4096 + 32 + entries * 24 + blocks * 4096);
  view.setUint32(4096 + 12, crc32(body, fields), true);
}
