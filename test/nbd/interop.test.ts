/** The clients that people use, against the NBD server over a memory device. */
import { readFile, writeFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it, type TestContext } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { silentLog } from '../../src/base/log.ts';
import { createNbdServer, type NbdServer } from '../../src/nbd/server.ts';
import { MemoryDevice } from '../support/memory-device.ts';
import { TrackedDevice } from '../support/tracked-device.ts';
import { memoryCatalog } from '../support/memory-catalog.ts';
import { nbdsh } from '../support/nbdsh.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';

const mebibyte = 2 ** 20;
const missing = missingPrograms({
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  fio: 'fio',
});

let root: TemporaryDirectory;
let server: NbdServer;
let device: TrackedDevice;
let uri = '';
const openHandles: { count: () => number } = { count: () => 0 };

beforeEach(async () => {
  root = await TemporaryDirectory.make();
  device = new TrackedDevice(64 * mebibyte);
  const catalog = memoryCatalog(
    { disk: device, small: new MemoryDevice(10_000, true) },
    {
      disk: 'a disk in memory',
    },
  );
  openHandles.count = catalog.openHandles;
  server = createNbdServer({ catalog, clock: systemClock, log: silentLog });
  const path = root.join('nbd.sock');
  await server.listen({ path });
  uri = `nbd+unix:///disk?socket=${path}`;
});

afterEach(async () => {
  await server.drain();
  await root[Symbol.asyncDispose]();
  if (openHandles.count() > 0) throw new Error('a client left its export open');
});

const need = ({ skip }: TestContext): void => skip(missing !== undefined, missing);

/** 64 KiB of letters at the start, at 1 MiB and at the end; holes between. */
function letter(): void {
  for (const at of [0, mebibyte, device.sizeBytes - 65_536]) {
    device.put(at, Buffer.alloc(65_536, `letters at ${at} `));
  }
}

describe('libnbd', () => {
  it('nbdinfo sees what is offered', async (context) => {
    need(context);
    const { stdout } = await run('nbdinfo', ['--json', uri]);
    const { exports } = JSON.parse(stdout) as { exports: Record<string, unknown>[] };
    expect(exports[0]).toMatchObject({
      'export-name': 'disk',
      description: 'a disk in memory',
      'export-size': 64 * mebibyte,
      is_read_only: false,
      can_cache: true,
      can_df: true,
      can_fast_zero: true,
      can_flush: true,
      can_fua: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
      contexts: ['base:allocation'],
      block_size_minimum: 1,
      block_size_preferred: 4096,
      block_size_maximum: 32 * mebibyte,
    });
  });

  it('nbdinfo lists the exports', async (context) => {
    need(context);
    const { stdout } = await run('nbdinfo', ['--json', '--list', uri]);
    const { exports } = JSON.parse(stdout) as { exports: Record<string, unknown>[] };
    expect(exports.map((one) => [one['export-name'], one['export-size']])).toEqual([
      ['disk', 64 * mebibyte],
      ['small', 10_000],
    ]);
    expect(exports[1]).toMatchObject({ is_read_only: true });
  });

  it('nbdinfo maps data and holes', async (context) => {
    need(context);
    letter();
    const { stdout } = await run('nbdinfo', ['--json', '--map', uri]);
    const extents = JSON.parse(stdout) as { offset: number; length: number; type: number }[];
    expect(extents.map(({ offset, length, type }) => [offset, length, type])).toEqual([
      [0, 65_536, 0],
      [65_536, mebibyte - 65_536, 3],
      [mebibyte, 65_536, 0],
      [mebibyte + 65_536, 63 * mebibyte - 131_072, 3],
      [64 * mebibyte - 65_536, 65_536, 0],
    ]);
  });

  it('nbdinfo lists dirty bitmaps and maps what was changed', async (context) => {
    need(context);
    device.keep('monday');
    letter();
    const described = await run('nbdinfo', ['--json', uri]);
    const { exports } = JSON.parse(described.stdout) as { exports: Record<string, unknown>[] };
    expect(exports[0]).toMatchObject({ contexts: ['base:allocation', 'qemu:dirty-bitmap:monday'] });
    const { stdout } = await run('nbdinfo', ['--json', '--map=qemu:dirty-bitmap:monday', uri]);
    const extents = JSON.parse(stdout) as { offset: number; length: number; type: number }[];
    expect(extents.map(({ offset, length, type }) => [offset, length, type])).toEqual([
      [0, 65_536, 1],
      [65_536, mebibyte - 65_536, 0],
      [mebibyte, 65_536, 1],
      [mebibyte + 65_536, 63 * mebibyte - 131_072, 0],
      [64 * mebibyte - 65_536, 65_536, 1],
    ]);
  });

  it('nbdsh asks in several contexts at once', async (context) => {
    need(context);
    device.keep('monday');
    device.put(4096, Buffer.alloc(4096, 0x61));
    const { stdout } = await nbdsh(
      uri,
      `
h.shutdown()
h = nbd.NBD()
for context in ["base:allocation", "qemu:dirty-bitmap:monday", "qemu:dirty-bitmap:no"]:
  h.add_meta_context(context)
h.connect_uri(${JSON.stringify(uri)})
assert not h.can_meta_context("qemu:dirty-bitmap:no")
found = {}
def note(context, offset, entries, error):
  found[context] = entries
h.block_status(16384, 0, note)
assert found == {"base:allocation": [4096, 3, 4096, 0, 8192, 3],
                 "qemu:dirty-bitmap:monday": [4096, 0, 4096, 1, 8192, 0]}, found
found.clear()
h.block_status(16384, 4096, note, nbd.CMD_FLAG_REQ_ONE)
assert found == {"base:allocation": [4096, 0], "qemu:dirty-bitmap:monday": [4096, 1]}, found
h.shutdown()
print("well")
`,
    );
    expect(stdout).toBe('well\n');
  });

  it('nbdcopy copies an image in and out, with several connections', async (context) => {
    need(context);
    const image = Buffer.alloc(64 * mebibyte);
    for (let at = 0; at < image.length; at += 3 * mebibyte)
      image.fill(`at ${at}`, at, at + 700_001);
    await writeFile(root.join('in.img'), image);
    await run('nbdcopy', ['--connections=4', '--flush', root.join('in.img'), uri]);
    expect(image.equals(device.raw())).toBe(true);
    expect(device.flushes).toBeGreaterThan(0);
    await run('nbdcopy', ['--connections=4', uri, root.join('out.img')]);
    expect(image.equals(await readFile(root.join('out.img')))).toBe(true);
  });

  it('nbdsh uses every command and flag, and is told errors', async (context) => {
    need(context);
    await nbdsh(
      uri,
      `
import errno
h.pwrite(b"letters" * 1000, 100, nbd.CMD_FLAG_FUA)
assert h.pread_structured(7000, 100, lambda *chunk: 0, nbd.CMD_FLAG_DF) == b"letters" * 1000
h.cache(65536, 0)
h.zero(4096, 0, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.zero(4096, 4096, nbd.CMD_FLAG_FAST_ZERO)
h.trim(65536, 65536, nbd.CMD_FLAG_FUA)
h.flush()
assert h.pread(8192, 0) == bytes(8192)
found = []
h.block_status(16384, 0, lambda context, offset, entries, error: found.append((context, offset, entries)))
assert found == [("base:allocation", 0, [4096, 2, 12288, 3])], found
found.clear()
h.block_status(16384, 0, lambda context, offset, entries, error: found.append(entries), nbd.CMD_FLAG_REQ_ONE)
assert found == [[4096, 2]], found
chunks = []
data = h.pread_structured(131072, 0, lambda part, offset, kind, error: chunks.append((offset, len(part), kind)))
assert data == bytes(131072) and chunks == [(0, 131072, nbd.READ_HOLE)], chunks
h.set_strict_mode(0)
def fails(number, call, *arguments):
  try:
    call(*arguments)
  except nbd.Error as error:
    assert error.errnum == number, (error, call)
    return
  assert False, call
fails(errno.EINVAL, h.pread, 10, 64 * 2**20)
fails(errno.ENOSPC, h.pwrite, b"x" * 10, 64 * 2**20)
fails(errno.ENOSPC, h.zero, 10, 64 * 2**20)
fails(errno.ENOTSUP, h.zero, 10, 5, nbd.CMD_FLAG_FAST_ZERO)
fails(errno.EINVAL, h.flush, 1 << 9)
assert h.pread(1, 64 * 2**20 - 1) == b"\\0"
assert h.pread(0, 0) == b""
h.shutdown()
`,
    );
    expect(device.prefetched).toEqual([{ offset: 0, lengthBytes: 65_536 }]);
  });

  it('many requests at once are answered right', async (context) => {
    need(context);
    await nbdsh(
      uri,
      `
size = 5000
buffers = {}
def drain():
  while h.aio_in_flight() > 0:
    h.poll(-1)
for i in range(500):
  h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i % 256]) * size), i * size)
drain()
for i in range(500):
  buffers[i] = nbd.Buffer(size)
  h.aio_pread(buffers[i], i * size)
drain()
for i, buffer in buffers.items():
  assert buffer.to_bytearray() == bytearray([i % 256]) * size, i
h.shutdown()
`,
    );
    for (let at = 0; at < 500; at += 1) expect(device.raw()[at * 5000]).toBe(at % 256);
  });

  it('an export that is not there is refused with a reason', async (context) => {
    need(context);
    const wrong = uri.replace('/disk', '/none');
    const libnbd = await run('nbdinfo', [wrong], { statuses: [1] });
    expect(libnbd.stderr).toContain('No such file or directory for export: none');
    const qemu = await run('qemu-img', ['info', wrong], { statuses: [1] });
    expect(qemu.stderr).toContain('there is no export none');
  });
});

describe('QEMU', () => {
  it('qemu-img maps, converts and compares', async (context) => {
    need(context);
    letter();
    const { stdout } = await run('qemu-img', ['map', '--output=json', '-f', 'raw', uri]);
    const extents = JSON.parse(stdout) as { start: number; length: number; data: boolean }[];
    const data = extents.filter((extent) => extent.data);
    expect(data.map(({ start, length }) => [start, length])).toEqual([
      [0, 65_536],
      [mebibyte, 65_536],
      [64 * mebibyte - 65_536, 65_536],
    ]);
    const copy = root.join('copy.qcow2');
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', uri, copy]);
    await run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', uri, copy]);
    device.raw().fill(0x55);
    device.mark(0, device.sizeBytes);
    await run('qemu-img', ['convert', '-n', '-f', 'qcow2', '-O', 'raw', copy, uri]);
    await run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', uri, copy]);
  });

  it('qemu-img maps a dirty bitmap: what was changed is no data', async (context) => {
    need(context);
    device.keep('monday');
    letter();
    const image = `driver=nbd,export=disk,server.type=unix,server.path=${root.join('nbd.sock')},x-dirty-bitmap=qemu:dirty-bitmap:monday`;
    const { stdout } = await run('qemu-img', ['map', '--output=json', '--image-opts', image]);
    const extents = JSON.parse(stdout) as { start: number; length: number; data: boolean }[];
    const changed = extents.filter((extent) => !extent.data);
    expect(changed.map(({ start, length }) => [start, length])).toEqual([
      [0, 65_536],
      [mebibyte, 65_536],
      [64 * mebibyte - 65_536, 65_536],
    ]);
  });

  it('qemu-io reads, writes, zeroes, discards and flushes any range', async (context) => {
    need(context);
    const commands = [
      'write -P 0x61 3 100001',
      'write -f -P 0x62 70000 4096',
      'read -P 0x61 3 69997',
      'read -P 0x62 70000 4096',
      'write -z -u 1M 64k',
      'write -z 100 900',
      'read -P 0 100 900',
      'read -P 0x61 1000 1000',
      'discard 0 2M',
      'flush',
      'read -P 0 0 2M',
    ];
    const args = ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri];
    const { stdout } = await run('qemu-io', args);
    expect(stdout).not.toMatch(/failed|error/i);
    expect(device.flushes).toBeGreaterThan(0);
  });
});

describe('fio', () => {
  it('verifies what it wrote, with many requests in flight', async (context) => {
    need(context);
    const { stdout } = await run('fio', [
      '--name=verify',
      '--ioengine=nbd',
      `--uri=${uri}`,
      '--rw=randwrite',
      '--bsrange=512-131072',
      '--iodepth=64',
      '--size=48m',
      '--verify=crc32c',
      '--output-format=terse',
      `--aux-path=${root.path}`,
    ]);
    expect(stdout.split(';')[4]).toBe('0');
  });
});
