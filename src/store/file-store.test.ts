import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { errorTraits } from '../base/errors.ts';
import { fileError } from './file-io.ts';
import { claimNumber } from './file-registers.ts';
import { createFileStore } from './file-store.ts';

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'elasticdrive-file-'));
});
afterEach(() => rm(directory, { recursive: true }));

describe('the directory of a store', () => {
  it('is plain: an object is a file, a register a directory of versions', async () => {
    const store = createFileStore({ directory });
    await store.put('volumes/v/segments/1', [bytesOf('data')]);
    const version = await store.swap('names/drive0', undefined, bytesOf('one'));
    await store.swap('names/drive0', version, bytesOf('two'));
    expect(await readFile(join(directory, 'volumes/v/segments/1'), 'utf8')).toBe('data');
    const [incarnation = ''] = await readdir(join(directory, 'names/drive0@'));
    const versions = join(directory, 'names/drive0@', incarnation);
    expect(await readdir(versions)).toEqual(['0000000000000001', '0000000000000002']);
    expect(await readFile(join(versions, '0000000000000002'), 'utf8')).toBe('two');
  });

  it('is for its owner alone', async () => {
    const store = createFileStore({ directory: join(directory, 'new') });
    await store.put('a/object', [bytesOf('x')]);
    await store.swap('a/register', undefined, bytesOf('x'));
    const modeOf = async (path: string) => (await stat(join(directory, path))).mode & 0o777;
    const [incarnation = ''] = await readdir(join(directory, 'new/a/register@'));
    for (const path of ['new', 'new/.tmp', 'new/a', 'new/a/register@']) {
      expect(await modeOf(path), path).toBe(0o700);
    }
    expect(await modeOf('new/a/object')).toBe(0o600);
    expect(await modeOf(`new/a/register@/${incarnation}/0000000000000001`)).toBe(0o600);
  });

  it('is not made by one who only reads', async () => {
    const store = createFileStore({ directory: join(directory, 'absent') });
    expect(await store.load('names/x')).toBeUndefined();
    expect(await store.list('')).toEqual({ keys: [], truncated: false });
    await expect(store.get('x')).rejects.toMatchObject({ code: 'not-found' });
    expect(await readdir(directory)).toEqual([]);
  });

  it('keeps eight versions of a register', async () => {
    const store = createFileStore({ directory });
    let version: string | undefined;
    for (let i = 0; i < 20; i += 1) version = await store.swap('r', version, bytesOf(`${i}`));
    const [incarnation = ''] = await readdir(join(directory, 'r@'));
    const versions = await readdir(join(directory, 'r@', incarnation));
    expect(versions).toHaveLength(8);
    expect(versions.at(-1)).toBe('0000000000000020');
  });

  it('is left empty by what was deleted', async () => {
    const store = createFileStore({ directory });
    await store.put('a/b/c/object', []);
    await store.swap('a/d/register', undefined, bytesOf('x'));
    await store.delete('a/b/c/object');
    await store.remove('a/d/register');
    expect(await readdir(directory)).toEqual(['.tmp']);
    expect(await readdir(join(directory, '.tmp'))).toEqual([]);
    await store.put('a/b/c/object', [bytesOf('again')]);
    expect(await readFile(join(directory, 'a/b/c/object'), 'utf8')).toBe('again');
  });

  it('loses the temporary files of the dead, not those of the living', async () => {
    const temporary = join(directory, '.tmp');
    await mkdir(join(temporary, 'old-register'), { recursive: true });
    await writeFile(join(temporary, 'old'), 'half an object');
    await writeFile(join(temporary, 'fresh'), 'half an object');
    const longAgo = new Date('2020-01-01');
    await utimes(join(temporary, 'old'), longAgo, longAgo);
    await utimes(join(temporary, 'old-register'), longAgo, longAgo);
    const store = createFileStore({ directory });
    expect((await store.list('')).keys).toEqual([]);
    await store.put('object', []);
    expect(await readdir(temporary)).toEqual(['fresh']);
  });

  it('leaves nothing of a write that fails', async () => {
    const store = createFileStore({ directory });
    await store.put('taken', []);
    await expect(store.put('taken/below', [bytesOf('x')])).rejects.toMatchObject({
      name: 'StorageError',
    });
    await store.put('above/object', []);
    await expect(store.put('above', [bytesOf('x')])).rejects.toMatchObject({
      name: 'StorageError',
    });
    expect(await readdir(join(directory, '.tmp'))).toEqual([]);
    expect((await store.list('')).keys.map(({ key }) => key)).toEqual(['above/object', 'taken']);
  });

  it('says so when a file is shorter than the range asked for', async () => {
    const store = createFileStore({ directory });
    await store.put('object', [new Uint8Array(100)]);
    await truncate(join(directory, 'object'), 50);
    const range = { offset: 0, lengthBytes: 100 };
    await expect(store.get('object', range)).rejects.toMatchObject({ code: 'corrupt' });
    expect((await store.getStart('object', 100)).objectBytes).toBe(50);
  });
});

describe('fileError', () => {
  it.each([
    ['ENOSPC', 'no-space'],
    ['EDQUOT', 'no-space'],
    ['EACCES', 'store-denied'],
    ['EPERM', 'store-denied'],
    ['EROFS', 'store-denied'],
    ['ENOENT', 'not-found'],
    ['EIO', 'store-unavailable'],
    ['ESTALE', 'store-unavailable'],
    ['EMFILE', 'store-unavailable'],
  ] as const)('takes %s for %s', (errno, code) => {
    const error = fileError(Object.assign(new Error(errno), { code: errno }), 'Writing x');
    expect(error.code).toBe(code);
    expect(error.message).toContain('Writing x failed');
    expect(error.class).toBe(errorTraits[code].class);
  });
});

describe('claimNumber', () => {
  const versions = async (...numbers: number[]): Promise<string> => {
    for (const number of numbers) {
      await writeFile(join(directory, String(number).padStart(16, '0')), `value ${number}`);
    }
    const temporary = join(directory, 'temporary');
    await writeFile(temporary, 'mine');
    return temporary;
  };
  const claim = async (number: number, ...present: number[]): Promise<string> =>
    claimNumber(directory, number, await versions(...present));
  const has = async (number: number): Promise<boolean> =>
    (await readdir(directory)).includes(String(number).padStart(16, '0'));

  it('wins the number after the present one', async () => {
    expect(await claim(6, 1, 2, 3, 4, 5)).toBe('won');
    expect(await readFile(join(directory, '0000000000000006'), 'utf8')).toBe('mine');
  });

  it('loses a number that is there', async () => {
    expect(await claim(5, 4, 5)).toBe('lost');
    expect(await readFile(join(directory, '0000000000000005'), 'utf8')).toBe('value 5');
  });

  it('has won although others have gone on from its version before it looked', async () => {
    expect(await claim(6, 5, 7, 8, 9, 10, 11, 12, 13)).toBe('won');
  });

  it('does not take a hole below the kept versions for a win, and leaves the hole', async () => {
    expect(await claim(3, 13, 14, 15, 16, 17, 18, 19, 20)).toBe('unknown');
    expect(await has(3)).toBe(false);
    // The same when its predecessor is there: one more stranger, who slept as well.
    expect(await claim(3, 2, 13, 14, 15, 16, 17, 18, 19, 20)).toBe('unknown');
    expect(await has(3)).toBe(false);
  });

  it('does not win without its predecessor', async () => {
    expect(await claim(6, 7, 8, 9)).toBe('unknown');
  });

  it('loses when the register is gone', async () => {
    const temporary = await versions();
    expect(await claimNumber(join(directory, 'gone'), 1, temporary)).toBe('lost');
  });

  it('says so when its own file was cleaned away, and changes nothing', async () => {
    await versions(1);
    await expect(claimNumber(directory, 2, join(directory, 'cleaned'))).rejects.toMatchObject({
      code: 'store-unavailable',
    });
    expect(await has(2)).toBe(false);
  });
});
