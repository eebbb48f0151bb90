/** The NBD clients that people use, against the real daemon: libnbd, QEMU and fio. */
import { open, stat } from 'node:fs/promises';
import { describe, expect, it, type TestContext } from 'vitest';
import { createVolume, Daemon } from '../support/daemon.ts';
import { nbdsh } from '../support/nbdsh.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';
import { type StoreKind, storeKinds } from '../support/stores.ts';

const mebibyte = 2 ** 20;
const missingClients = missingPrograms({
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  fio: 'fio',
});

/** One volume `disk` and a daemon that serves it; `elsewhere` moves to a machine without its state. */
class Fixture implements AsyncDisposable {
  readonly root: TemporaryDirectory;
  readonly #start: (machine: string) => Promise<Daemon>;
  #daemon: Daemon;

  private constructor(
    root: TemporaryDirectory,
    start: (machine: string) => Promise<Daemon>,
    daemon: Daemon,
  ) {
    this.root = root;
    this.#start = start;
    this.#daemon = daemon;
  }

  static async make(kind: StoreKind, size: string, { skip }: TestContext): Promise<Fixture> {
    const missing = missingClients ?? kind.missing;
    skip(missing !== undefined, missing);
    const root = await TemporaryDirectory.make();
    try {
      const store = await kind.make(root);
      await createVolume(store, 'disk', size);
      const start = (machine: string) => Daemon.start({ store, directory: root.join(machine) });
      return new Fixture(root, start, await start('one'));
    } catch (error) {
      await root[Symbol.asyncDispose]();
      throw error;
    }
  }

  get uri(): string {
    return this.#daemon.uri('disk');
  }

  async elsewhere(): Promise<void> {
    await this.#daemon.stop();
    this.#daemon = await this.#start('two');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#daemon[Symbol.asyncDispose]();
    } finally {
      await this.root[Symbol.asyncDispose]();
    }
  }
}

/** A file of 1 GiB, mostly holes, whose data begin and end at no round place. */
async function sparseImage(path: string): Promise<void> {
  const noise = new Uint8Array(5 * mebibyte + 1_234);
  for (let at = 0; at < noise.length; at += 65_536) {
    crypto.getRandomValues(noise.subarray(at, Math.min(at + 65_536, noise.length)));
  }
  const file = await open(path, 'w');
  try {
    await file.truncate(1_024 * mebibyte);
    for (const offset of [0, 100 * mebibyte + 777, 511 * mebibyte, 700 * mebibyte + 4_096]) {
      await file.write(noise, 0, noise.length, offset);
    }
    await file.write(noise, 0, 9_999, 1_024 * mebibyte - 9_999);
  } finally {
    await file.close();
  }
}

interface FioJob {
  readonly name: string;
  readonly options: readonly string[];
}

/** Runs fio's NBD engine with a checksum in each block; fio fails when one comes back wrong. */
async function expectFioToVerify(uri: string, directory: string, job: FioJob): Promise<void> {
  await run(
    'fio',
    [
      ...['--output-format=terse', '--ioengine=nbd', `--uri=${uri}`, '--verify=crc32c'],
      ...['--verify_fatal=1', '--verify_state_save=0', '--randrepeat=1', '--thread'],
      ...[`--name=${job.name}`, ...job.options],
    ],
    { directory },
  );
}

describe.for(storeKinds)('a volume in $name', (kind) => {
  it('tells nbdinfo what it is and what it can do', async (context) => {
    await using fixture = await Fixture.make(kind, '1GiB', context);
    const { stdout } = await run('nbdinfo', ['--json', fixture.uri]);
    const { exports } = JSON.parse(stdout) as { exports: Record<string, unknown>[] };
    expect(exports).toEqual([
      expect.objectContaining({
        'export-name': 'disk',
        'export-size': 1_024 * mebibyte,
        is_read_only: false,
        can_cache: true,
        can_df: true,
        can_fast_zero: true,
        can_flush: true,
        can_fua: true,
        can_multi_conn: true,
        can_trim: true,
        can_zero: true,
        contexts: expect.arrayContaining(['base:allocation']) as unknown,
      }),
    ]);
    const { stdout: map } = await run('nbdinfo', ['--map', '--json', fixture.uri]);
    expect(JSON.parse(map)).toEqual([
      { offset: 0, length: 1_024 * mebibyte, type: 3, description: 'hole,zero' },
    ]);
    const { stdout: list } = await run('nbdinfo', ['--list', '--json', fixture.uri]);
    expect(list).toContain('"export-name": "disk"');
  });

  it('takes a sparse image of 1 GiB from nbdcopy and gives it back elsewhere', async (context) => {
    await using fixture = await Fixture.make(kind, '1GiB', context);
    const [image, copy] = [fixture.root.join('image'), fixture.root.join('copy')];
    await sparseImage(image);
    await run('nbdcopy', ['--flush', image, fixture.uri]);
    await run('nbdcopy', [fixture.uri, copy]);
    await run('cmp', [image, copy]);
    await fixture.elsewhere();
    await run('nbdcopy', ['--connections=4', fixture.uri, copy]);
    await run('cmp', [image, copy]);
    expect((await stat(copy)).blocks * 512, 'holes come back as holes').toBeLessThan(64 * mebibyte);
  });

  it('does each request of nbdsh at any offset and length', async (context) => {
    await using fixture = await Fixture.make(kind, '64MiB', context);
    const { stdout } = await nbdsh(fixture.uri, requestsInPython);
    expect(stdout).toBe('every request did what it says\n');
    await fixture.elsewhere();
    const { stdout: again } = await nbdsh(fixture.uri, lookInPython);
    expect(again).toBe('everything is where it was\n');
  });

  it('is converted, compared, mapped and measured by qemu-img', async (context) => {
    await using fixture = await Fixture.make(kind, '1GiB', context);
    const image = fixture.root.join('image');
    await sparseImage(image);
    const raw = ['-f', 'raw'];
    await run('qemu-img', [
      'convert',
      '-n',
      '-W',
      '-m',
      '8',
      ...raw,
      '-O',
      'raw',
      image,
      fixture.uri,
    ]);
    await run('qemu-img', ['compare', ...raw, '-F', 'raw', image, fixture.uri]);
    const { stdout } = await run('qemu-img', ['map', ...raw, '--output=json', fixture.uri]);
    const extents = JSON.parse(stdout) as { length: number; data: boolean }[];
    const data = extents.filter((extent) => extent.data).map(({ length }) => length);
    expect(data.reduce((sum, length) => sum + length, 0)).toBeLessThan(22 * mebibyte);
    expect(data.length).toBeGreaterThanOrEqual(5);
    await fixture.elsewhere();
    await run('qemu-img', ['compare', ...raw, '-F', 'raw', image, fixture.uri]);
    const bench = ['bench', ...raw, '-c', '2000', '-d', '32', '-s', '4096'];
    await run('qemu-img', [...bench, '-w', '--flush-interval=200', fixture.uri]);
    await run('qemu-img', [...bench, fixture.uri]);
  });

  it('does what qemu-io asks, byte for byte', async (context) => {
    await using fixture = await Fixture.make(kind, '256MiB', context);
    const io = async (...commands: string[]) => {
      const args = commands.flatMap((command) => ['-c', command]);
      const { stdout } = await run('qemu-io', ['-f', 'raw', ...args, fixture.uri]);
      expect(stdout).not.toMatch(/failed|error/i);
    };
    await io('write -P 0x11 0 8M', 'write -P 0x22 512 1536', 'write -f -P 0x33 100M 3M', 'flush');
    await io('write -z 1M 64k', 'write -z -u 2M 1M', 'discard 4M 1M', 'aio_write -P 0x44 60M 1M');
    const look = [
      ...['read -P 0x11 0 512', 'read -P 0x22 512 1536', 'read -P 0x11 2k 1022k'],
      ...['read -P 0 1M 64k', 'read -P 0 2M 1M', 'read -P 0 4M 1M', 'read -P 0x11 5M 3M'],
      ...['read -P 0x33 100M 3M', 'read -P 0x44 60M 1M', 'read -P 0 103M 153M'],
    ];
    await io(...look);
    await fixture.elsewhere();
    await io(...look);
  });

  it('keeps what fio wrote at random, with checksums, here and elsewhere', async (context) => {
    await using fixture = await Fixture.make(kind, '512MiB', context);
    const { path } = fixture.root;
    const small = {
      name: 'small',
      options: ['--rw=randwrite', '--bs=4k', '--size=48m', '--iodepth=32'],
    };
    const mixed = {
      name: 'mixed',
      options: ['--rw=randwrite', '--bsrange=512-128k', '--bs_unaligned', '--size=96m'].concat([
        '--offset=128m',
        '--iodepth=16',
        '--fsync=64',
      ]),
    };
    await expectFioToVerify(fixture.uri, path, {
      ...small,
      options: [...small.options, '--do_verify=0'],
    });
    await expectFioToVerify(fixture.uri, path, mixed);
    await expectFioToVerify(fixture.uri, path, {
      ...small,
      options: [...small.options, '--verify_only'],
    });
    await fixture.elsewhere();
    await expectFioToVerify(fixture.uri, path, {
      ...small,
      options: [...small.options, '--verify_only'],
    });
  });

  it('serves several clients at once', async (context) => {
    await using fixture = await Fixture.make(kind, '512MiB', context);
    const { path } = fixture.root;
    const writers = Array.from({ length: 4 }, (_, index) => ({
      name: `client${index}`,
      options: ['--rw=randwrite', '--bs=8k', '--size=24m', '--iodepth=16', '--randrepeat=0'].concat(
        [`--offset=${index * 64}m`, `--randseed=${index + 1}`],
      ),
    }));
    const image = fixture.root.join('part');
    await run('dd', ['if=/dev/urandom', `of=${image}`, 'bs=1M', 'count=32']);
    const copying = run('qemu-io', [
      ...['-f', 'raw', '-c', `write -s ${image} 400M 32M`, '-c', 'flush', fixture.uri],
    ]);
    await Promise.all([
      copying,
      ...writers.map((job) => expectFioToVerify(fixture.uri, path, job)),
    ]);
    const look = writers.map((job) =>
      expectFioToVerify(fixture.uri, path, { ...job, options: [...job.options, '--verify_only'] }),
    );
    await Promise.all(look);
    const back = fixture.root.join('back');
    await fixture.elsewhere();
    await run('qemu-img', [
      ...['dd', '-f', 'raw', '-O', 'raw', 'bs=1M', 'skip=400', 'count=432'],
      ...[`if=${fixture.uri}`, `of=${back}`],
    ]);
    await run('cmp', [image, back]);
  });
});

const requestsInPython = `
import os
zeroes = bytearray
def extents(offset, length):
    found = []
    h.block_status(length, offset, lambda context, at, entries, error: found.extend(entries))
    return list(zip(found[0::2], found[1::2]))

assert h.get_size() == 64 << 20
noise = os.urandom(1 << 20)
for offset, length in ((1, 1), (4095, 2), (8191, 8194), (12_345, 65_537), (1_000_001, 999_999)):
    h.pwrite(noise[:length], offset)
    assert h.pread(length, offset) == noise[:length], (offset, length)
h.pwrite(noise, 8 << 20, nbd.CMD_FLAG_FUA)
h.zero(3 << 12, (8 << 20) + 4096)
assert h.pread(3 << 12, (8 << 20) + 4096) == zeroes(3 << 12)
h.zero(100, (8 << 20) + 30_000)
assert h.pread(102, (8 << 20) + 29_999) == noise[29_999:30_000] + zeroes(100) + noise[30_100:30_101]
h.zero(1 << 16, (8 << 20) + (1 << 17), nbd.CMD_FLAG_NO_HOLE)
assert all(not flags & 1 for length, flags in extents((8 << 20) + (1 << 17), 1 << 16))
h.trim(1 << 18, (8 << 20) + (1 << 19))
length, flags = extents((8 << 20) + (1 << 19), 1 << 18)[0]
assert length >= 1 << 18 and flags == 3, (length, flags)
assert h.pread(1 << 18, (8 << 20) + (1 << 19)) == zeroes(1 << 18)
assert extents(40 << 20, 1 << 20)[0][1] == 3
h.cache(1 << 20, 8 << 20)
h.flush()

seen = bytearray(2 << 20)
kinds = set()
def chunk(data, offset, status, error):
    kinds.add(status)
    seen[offset - (8 << 20):offset - (8 << 20) + len(data)] = data
assert h.pread_structured(2 << 20, 8 << 20, chunk) == h.pread(2 << 20, 8 << 20) == seen
assert kinds == {nbd.READ_DATA, nbd.READ_HOLE}, kinds
kinds.clear()
whole = []
h.pread_structured(2 << 20, 8 << 20, lambda data, at, status, error: whole.append(status), nbd.CMD_FLAG_DF)
assert whole == [nbd.READ_DATA], whole

h.set_strict_mode(0)
for refused in (lambda: h.pread(1, 64 << 20), lambda: h.pwrite(b"x" * 9, (64 << 20) - 8)):
    try:
        refused()
        raise SystemExit("a request past the end was done")
    except nbd.Error as error:
        assert error.errno in ("EINVAL", "ENOSPC"), error
assert h.pread(1, 1) == noise[:1]
h.pwrite(noise[:999], (64 << 20) - 999)
h.pwrite(bytes(range(256)), 50_000_001)
h.flush()
h.shutdown()
print("every request did what it says")
`;

const lookInPython = `
assert h.pread(256, 50_000_001) == bytes(range(256))
assert h.pread(1 << 18, (8 << 20) + (1 << 19)) == bytearray(1 << 18)
assert h.pread(100, (8 << 20) + 30_000) == bytearray(100)
assert h.pread(999, (64 << 20) - 999) == h.pread(999, 8 << 20)
h.shutdown()
print("everything is where it was")
`;
