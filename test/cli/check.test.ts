/** `elasticdrive volume check` as a user runs it: what it prints and how it exits. */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { systemRandom } from '../../src/base/random.ts';
import { openStore } from '../../src/store/open-store.ts';
import { type ProgramResult, run, TemporaryDirectory } from '../support/programs.ts';
import { forgetStore } from '../support/sound-stores.ts';
import { VolumeHost } from '../support/volume-host.ts';

const command = resolve('bin/elasticdrive.js');
let root: TemporaryDirectory;
let directory: string;
beforeEach(async () => {
  root = await TemporaryDirectory.make();
  directory = root.join('store');
  const store = await openStore(directory, { clock: systemClock, random: systemRandom });
  const host = new VolumeHost(store);
  await host.create({ name: 'data', sizeBytes: 2 ** 26 });
  const volume = await host.open('data');
  await volume.write(0, systemRandom.bytes(3 * 2 ** 20), { fua: false });
  await volume.close();
  forgetStore(store);
  await store.close();
});
afterEach(() => root[Symbol.asyncDispose]());

function elasticdrive(verb: string, args: readonly string[]): Promise<ProgramResult> {
  const environment = { HOME: root.path, XDG_CONFIG_HOME: '' };
  const line = ['volume', verb, 'data', '--store', directory, ...args];
  return run(process.execPath, [command, ...line], { environment, statuses: [0, 2, 13] });
}

function check(...args: string[]): Promise<ProgramResult> {
  return elasticdrive('check', args);
}

function fileOf(kind: 'segments' | 'pages'): string {
  const [id = ''] = readdirSync(join(directory, 'volumes'));
  const [name = ''] = readdirSync(join(directory, 'volumes', id, kind));
  return join(directory, 'volumes', id, kind, name);
}

it('passes a sound volume in one sentence and leaves with 0', async () => {
  const { status, stdout, stderr } = await check('--read-data');
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toMatch(/^OBJECTS +COUNT +SIZE\nreferenced +\d+ +3MiB\n/);
  expect(stdout).toMatch(
    /\ndata is sound \(1 segment and 1 map page verified, all of the data, 3MiB read\)\n$/,
  );
});

it('names what is damaged and what is lost, and leaves with 13', async () => {
  const path = fileOf('segments');
  const bytes = await readFile(path);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  await writeFile(path, bytes);
  expect((await check()).status).toBe(0);
  const half = await check('--read-data=1/2');
  const other = await check('--read-data=2/2');
  // The only segment is number 1, which is in the second part.
  expect([half.status, other.status]).toEqual([0, 13]);
  const { status, stdout } = await check('--read-data');
  expect(status).toBe(13);
  expect(stdout).toMatch(/^damage +damaged +volumes\/.*: frame 47 fails its checksum$/m);
  expect(stdout).toMatch(/^ *3080192 +65536 +volumes\/\w+\/segments\//m);
  expect(stdout).toMatch(/\ndata is damaged: 1 thing is wrong, 64KiB cannot be read \(/);
});

it('answers a machine in JSON', async () => {
  await rm(fileOf('segments'));
  const { status, stdout } = await check('--json');
  expect(status).toBe(13);
  expect(JSON.parse(stdout)).toMatchObject({
    volume: 'data',
    verdict: 'damaged',
    problems: [{ severity: 'damage', what: 'missing' }],
    lostBlocks: 768,
  });
});

it('says what could be mended, and mends it when the name is given twice', async () => {
  expect((await elasticdrive('repair', [])).stdout).toContain('nothing is there that could be');
  await rm(fileOf('pages'));
  const plan = await elasticdrive('repair', []);
  expect(plan.status).toBe(13);
  expect(plan.stdout).toMatch(/^can be done +fold 1 pages of the map again from the log$/m);
  expect(plan.stdout).toMatch(/\nnothing was changed: --confirm data does what can be done\n$/);
  const refused = await elasticdrive('repair', ['--confirm', 'date']);
  expect(refused.status).toBe(2);
  expect(refused.stderr).toContain('repeat its name with --confirm data');
  const done = await elasticdrive('repair', ['--confirm', 'data']);
  expect(done.status).toBe(0);
  expect(done.stdout).toMatch(/^done +fold 1 pages of the map again from the log$/m);
  expect(done.stdout).toContain('data is sound');
  expect((await check('--read-data')).status).toBe(0);
});

it.each(['0/3', '4/3', '1/', 'all'])('refuses --read-data=%s', async (part) => {
  const { status, stderr } = await check(`--read-data=${part}`);
  expect(status).toBe(2);
  expect(stderr).toContain('--read-data expected a part such as 1/10');
});
