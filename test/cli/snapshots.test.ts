/** Snapshots as a user reads and compares them: NBD exports, dirty bitmaps, `snapshot diff`. */
import { readFile, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, type TestContext } from 'vitest';
import { parseExposition, valueOf } from '../../src/host/testing/prometheus.ts';
import {
  createVolume,
  Daemon,
  directoryStore,
  elasticdrive,
  type TestStore,
} from '../support/daemon.ts';
import { nbdsh } from '../support/nbdsh.ts';
import { accepts, run, Server, TemporaryDirectory } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';

const missing = missingPrograms({
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  nbdsh: 'python3-libnbd',
  'qemu-img': 'qemu-utils',
});
const mebibyte = 2 ** 20;
/** More than one page of the map. */
const sizeBytes = 160 * mebibyte;

let root: TemporaryDirectory;
let store: TestStore;
let daemon: Daemon;
/** What the volume holds. */
let image: Buffer;

function need({ skip }: TestContext): void {
  skip(missing !== undefined, missing);
}

beforeEach(async () => {
  root = await TemporaryDirectory.make();
  store = directoryStore(root.join('store'));
  await createVolume(store, 'data', '160MiB');
  const flags = ['--metrics-listen', 'http://127.0.0.1:0'];
  daemon = await Daemon.start({ store, directory: root.join('host'), flags });
  image = Buffer.alloc(sizeBytes);
});
afterEach(async () => {
  await daemon[Symbol.asyncDispose]();
  await root[Symbol.asyncDispose]();
});

type Change = readonly [offset: number, lengthBytes: number, value: number];

/** Writes each range with a byte, or trims it with 0. */
async function changeAll(changes: readonly Change[]): Promise<void> {
  const calls = changes.map(([offset, lengthBytes, value]) => {
    image.fill(value, offset, offset + lengthBytes);
    return value === 0
      ? `h.trim(${lengthBytes}, ${offset})`
      : `h.pwrite(bytes([${value}]) * ${lengthBytes}, ${offset})`;
  });
  await nbdsh(daemon.uri('data'), [...calls, 'h.flush()', 'h.shutdown()'].join('\n'));
}

function change(...one: Change): Promise<void> {
  return changeAll([one]);
}

/** Makes a snapshot of the volume as it is; gives what it holds. Who opens it waits until it is there. */
async function snapshot(name: string, ...flags: string[]): Promise<Buffer> {
  const where = ['--store', store.url, '--description', `of ${name}`, ...flags];
  await daemon.command('snapshot', 'create', 'data', name, ...where);
  return Buffer.from(image);
}

async function contentOf(uri: string): Promise<Buffer> {
  const file = root.join('copy.img');
  await writeFile(file, '');
  await run('nbdcopy', ['--connections=2', uri, file]);
  return readFile(file);
}

interface Export {
  readonly 'export-name': string;
  readonly 'export-size': number;
  readonly is_read_only: boolean;
  readonly description: string;
  readonly contexts: string[];
}

async function exportsAt(uri: string, ...flags: string[]): Promise<Export[]> {
  const { stdout } = await run('nbdinfo', ['--json', ...flags, uri]);
  return (JSON.parse(stdout) as { exports: Export[] }).exports;
}

/** Ranges that a dirty bitmap calls dirty. */
async function dirtyRanges(uri: string, moment: string): Promise<[number, number][]> {
  const { stdout } = await run('nbdinfo', ['--json', `--map=qemu:dirty-bitmap:${moment}`, uri]);
  const extents = JSON.parse(stdout) as { offset: number; length: number; type: number }[];
  return extents.filter(({ type }) => type === 1).map(({ offset, length }) => [offset, length]);
}

function diff(...args: string[]) {
  return elasticdrive(store, ['snapshot', 'diff', ...args, '--store', store.url], [0, 2, 10]);
}

describe('a snapshot as an export', () => {
  it('reads as the volume was, beside the volume, which goes on', async (context) => {
    need(context);
    await change(0, 3 * mebibyte, 0x61);
    await change(sizeBytes - 4096, 4096, 0x62);
    const one = await snapshot('one');
    await change(mebibyte, mebibyte, 0x63);
    await change(2 * mebibyte, mebibyte, 0);
    expect((await contentOf(daemon.uri('data@one'))).equals(one)).toBe(true);
    expect((await contentOf(daemon.uri('data'))).equals(image)).toBe(true);
    const listed = await exportsAt(`nbd+unix:///?socket=${daemon.socketPath}`, '--list');
    expect(listed).toMatchObject([
      { 'export-name': 'data', is_read_only: false },
      {
        'export-name': 'data@one',
        'export-size': sizeBytes,
        is_read_only: true,
        contexts: ['base:allocation'],
      },
    ]);
    expect(listed[1]?.description).toContain('(of one) in file://');
    const writing =
      'h.set_strict_mode(0)\ntry:\n  h.pwrite(b"x", 0)\nexcept nbd.Error as error:\n  print(error.errnum)';
    expect((await nbdsh(daemon.uri('data@one'), writing)).stdout).toBe('1\n');
  });

  it('is served by a host that does not have the volume', async (context) => {
    need(context);
    await change(0, mebibyte, 0x61);
    const one = await snapshot('one');
    await change(0, mebibyte, 0x62);
    const elsewhere = { store, directory: root.join('other'), unchecked: true } as const;
    await using other = await Daemon.start(elsewhere);
    expect((await contentOf(other.uri('data@one'))).equals(one)).toBe(true);
    await run('nbdinfo', [other.uri('data')], { statuses: [1] });
    expect(other.log).toContain('is attached on');
  });

  it('is in status and metrics while it is open, and passed on by a proxy', async (context) => {
    need(context);
    await change(0, mebibyte, 0x61);
    const one = await snapshot('one');
    const uri = daemon.uri('data@one');
    expect((await contentOf(uri)).equals(one)).toBe(true);
    const { stdout } = await daemon.command('status');
    expect(stdout).toMatch(/^data@one +160MiB +0 +[\d.-]+%? +file:/m);
    expect(await daemon.status()).toMatchObject({ volumes: [{ name: 'data', readOnly: false }] });
    const { metrics } = (await daemon.status()) as { metrics: string };
    const families = parseExposition(await (await fetch(`${metrics}/metrics`)).text());
    const labels = { volume: 'data@one', operation: 'read' };
    expect(valueOf(families, 'elasticdrive_nbd_request_bytes_total', labels)).toBeGreaterThan(0);
    expect(valueOf(families, 'elasticdrive_snapshot_clients', { volume: 'data@one' })).toBe(0);
    // What is read only makes nobody believe that a volume cannot be written.
    expect((await fetch(`${metrics}/readyz`)).status).toBe(200);
    const socket = root.join('proxy.sock');
    await using proxy = new Server(process.execPath, [
      ...[resolve('bin/elasticdrive.js'), 'proxy', uri, '--at', `nbd+unix://${socket}`],
    ]);
    await proxy.until(() => accepts(socket));
    const passed = `nbd+unix:///data@one?socket=${socket}`;
    expect((await contentOf(passed)).equals(one)).toBe(true);
    expect(await proxy.stop()).toBe(0);
  });

  it('that is not there is refused as an unknown export', async (context) => {
    need(context);
    await snapshot('one');
    const refused = await run('nbdinfo', [daemon.uri('data@none')], { statuses: [1] });
    expect(refused.stderr).toContain('No such file or directory for export: data@none');
    expect(daemon.log).toContain('There is no snapshot data@none');
  });
});

describe('what was changed', () => {
  it('is told by dirty bitmaps, and a full copy brought up to date with them', async (context) => {
    need(context);
    const everywhere = Array.from({ length: 40 }, (_, at) => at);
    await changeAll(everywhere.map((at): Change => [at * 4 * mebibyte, 300_000, 1 + at]));
    const one = await snapshot('one');
    await changeAll([
      [5 * mebibyte, 4096, 0x70],
      [8 * mebibyte, 196_608, 0],
      [100 * mebibyte + 4096, 8192, 0x71],
    ]);
    const two = await snapshot('two', '--wait');
    await change(159 * mebibyte, 4096, 0x72);
    const [volume] = await exportsAt(daemon.uri('data'));
    expect(volume?.contexts).toEqual([
      'base:allocation',
      'qemu:dirty-bitmap:one',
      'qemu:dirty-bitmap:two',
    ]);
    // What is read of the later version, and nothing else, makes it of the full copy.
    const copy = await contentOf(daemon.uri('data@one'));
    expect(copy.equals(one)).toBe(true);
    const apply = async (from: string, moment: string): Promise<number> => {
      const ranges = await dirtyRanges(daemon.uri(from), moment);
      const later = await contentOf(daemon.uri(from));
      for (const [offset, length] of ranges) later.copy(copy, offset, offset, offset + length);
      return ranges.reduce((sum, [, length]) => sum + length, 0);
    };
    expect(await apply('data@two', 'one')).toBe(4096 + 196_608 + 8192);
    expect(copy.equals(two)).toBe(true);
    expect(await apply('data', 'two')).toBe(4096);
    expect(copy.equals(image)).toBe(true);
    const image1 = `driver=nbd,export=data,server.type=unix,server.path=${daemon.socketPath},x-dirty-bitmap=qemu:dirty-bitmap:two`;
    const { stdout } = await run('qemu-img', ['map', '--output=json', '--image-opts', image1]);
    const dirty = (JSON.parse(stdout) as { start: number; length: number; data: boolean }[]).filter(
      ({ data }) => !data,
    );
    expect(dirty).toMatchObject([{ start: 159 * mebibyte, length: 4096 }]);
  }, 120_000);

  it('is told by snapshot diff, in ranges and what they are now', async (context) => {
    need(context);
    await change(0, mebibyte, 0x61);
    await snapshot('one', '--wait');
    await change(4096, 8192, 0x62);
    await change(65_536, 4096, 0);
    await nbdsh(
      daemon.uri('data'),
      'h.zero(4096, 100 * 2**20, nbd.CMD_FLAG_NO_HOLE)\nh.flush()\nh.shutdown()',
    );
    await snapshot('two', '--wait');
    const between = await diff('data@one', 'data@two', '--json');
    expect(JSON.parse(between.stdout)).toEqual({
      from: { name: 'data@one', sizeBytes, writer: null },
      to: { name: 'data@two', sizeBytes, writer: null },
      summary: { ranges: 3, bytes: 16_384, now: { data: 8192, zero: 4096, hole: 4096 } },
      ranges: [
        { offset: 4096, lengthBytes: 8192, was: 'data', is: 'data' },
        { offset: 65_536, lengthBytes: 4096, was: 'data', is: 'hole' },
        { offset: 100 * mebibyte, lengthBytes: 4096, was: 'hole', is: 'zero' },
      ],
    });
    const text = await diff('data@one', 'data@two');
    expect(text.stdout).toMatch(/^ +4096 +8192 {2}data {2}data$/m);
    expect(text.stdout).toMatch(
      /^changed {2}8KiB of data, 4KiB of zeroes, 4KiB trimmed, in 3 ranges$/m,
    );
    const same = await diff('data@two', 'data', '--summary', '--json');
    expect(JSON.parse(same.stdout)).toMatchObject({
      to: { name: 'data', writer: expect.any(String) as string },
      summary: { ranges: 0, bytes: 0 },
    });
    const alike = await diff('data@two');
    expect(alike.stdout).toMatch(/^changed {2}nothing$/m);
    const back = await diff('data@two', 'data@one', '--json');
    expect(JSON.parse(back.stdout)).toMatchObject({
      ranges: [{}, { was: 'hole', is: 'data' }, {}],
    });
  });

  it('is refused of versions that are not there or have nothing in common', async (context) => {
    need(context);
    await change(0, 4096, 1);
    await snapshot('one', '--wait');
    await createVolume(store, 'other', '1MiB');
    const missingSnapshot = await diff('data@one', 'data@two');
    expect([missingSnapshot.status, missingSnapshot.stderr]).toEqual([
      10,
      expect.stringContaining('there is no snapshot data@two'),
    ]);
    expect((await diff('none@one')).status).toBe(10);
    const strangers = await diff('data@one', 'other');
    expect([strangers.status, strangers.stderr]).toEqual([
      2,
      expect.stringContaining('data@one and other have no history in common'),
    ]);
  });
});
