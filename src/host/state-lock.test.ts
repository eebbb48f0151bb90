import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { lockStateDirectory } from './state-lock.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'elasticdrive-lock-'));
});
afterEach(() => rm(directory, { recursive: true }));

it('makes the directory for its user alone', async () => {
  const state = join(directory, 'a', 'b');
  const lock = await lockStateDirectory(state);
  expect((await stat(state)).mode & 0o777).toBe(0o700);
  await lock.release();
});

it('refuses a second holder by naming the first, until that lets go', async () => {
  const lock = await lockStateDirectory(directory);
  await expect(lockStateDirectory(directory)).rejects.toMatchObject({
    code: 'held',
    message: expect.stringContaining(`process ${process.pid}:`) as string,
  });
  await lock.release();
  await (await lockStateDirectory(directory)).release();
});

it('is free again when its holder was killed', async () => {
  const module = new URL('./state-lock.ts', import.meta.url).href;
  const script = `
    const { lockStateDirectory } = await import(${JSON.stringify(module)});
    await lockStateDirectory(${JSON.stringify(directory)});
    console.log('locked');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script]);
  await once(child.stdout, 'data');
  await expect(lockStateDirectory(directory)).rejects.toMatchObject({
    code: 'held',
    message: expect.stringContaining(`process ${child.pid}:`) as string,
  });
  child.kill('SIGKILL');
  await once(child, 'exit');
  await (await lockStateDirectory(directory)).release();
});

it('says what is wrong with a path that cannot be one', async () => {
  const file = join(directory, 'file');
  await writeFile(file, '');
  await expect(lockStateDirectory(join(file, 'a'))).rejects.toMatchObject({ code: 'local-io' });
});
