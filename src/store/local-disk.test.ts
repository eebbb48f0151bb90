import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { LocalDisk } from '../base/local-disk.ts';
import { createLocalDisk } from './local-disk.ts';

let root: string;
let disk: LocalDisk;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'elasticdrive-disk-'));
  disk = createLocalDisk(join(root, 'state'));
});

afterEach(async () => {
  await rm(root, { recursive: true });
});

test('what is written in parts is read back, more parts than one call to the kernel takes', async () => {
  const file = await disk.open('a/b/file', { create: true });
  const parts = Array.from({ length: 1500 }, (_, at) => Uint8Array.of(at & 255, at >> 8));
  await file.write(parts, 10);
  await file.sync();
  await file.writeDurably([Uint8Array.of(0), Uint8Array.of(0)], 10);
  const found = new Uint8Array(3000);
  await file.read(found, 10);
  expect(found).toEqual(new Uint8Array(Buffer.concat(parts)));
  expect(await file.sizeBytes()).toBe(3010);
  await expect(file.read(new Uint8Array(20), 3000)).rejects.toMatchObject({ code: 'local-io' });
  await file.close();
});

test('a file is replaced as a whole, directories are listed, moved and removed', async () => {
  expect(await disk.readFile('state.json')).toBeUndefined();
  expect(await disk.list('none')).toEqual([]);
  await disk.replaceFile('v/state.json', Uint8Array.of(1));
  await disk.replaceFile('v/state.json', Uint8Array.of(2, 3));
  expect([...((await disk.readFile('v/state.json')) ?? [])]).toEqual([2, 3]);
  expect(await disk.list('v')).toEqual(['state.json']);
  await disk.rename('v', 'w');
  expect(await disk.list('v')).toEqual([]);
  expect(await disk.list('w')).toEqual(['state.json']);
  await disk.remove('w');
  await disk.remove('w');
  expect(await disk.list('w')).toEqual([]);
  await expect(disk.open('w/none', { create: false })).rejects.toMatchObject({ code: 'not-found' });
});
