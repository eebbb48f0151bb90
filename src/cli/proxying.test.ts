import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestMachine } from './testing/run-program.ts';

let directory: string;
let machine: TestMachine;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'elasticdrive-cli-'));
  machine = new TestMachine(directory, { HOME: directory });
});
afterEach(() => rm(directory, { recursive: true }));

const at = ['--at', 'nbd+unix:///run/drive.sock'];

it.each([
  [['drive0', ...at], 2, '"drive0" is no NBD URI: expected "nbd://host:port/name"'],
  [['nbd://host/drive0', '--at', '/run/drive.sock'], 2, '--at "/run/drive.sock" is no address'],
  [['nbd://host/drive0'], 2, "required option '--at <address>'"],
  [
    ['nbd://127.0.0.1/drive0', ...at],
    1,
    'the server at nbd://127.0.0.1:10809/drive0 does not serve: ECONNREFUSED',
  ],
])('elasticdrive proxy %j ends with %i and says why', async (args, status, reason) => {
  expect(await machine.run('proxy', ...args)).toBe(status);
  expect(machine.stderr.text).toContain(reason);
  expect(machine.stdout.text).toBe('');
});
