/** `elasticdrive volume compact` and `volume show`, with a real daemon and its worker threads. */
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore } from '../support/daemon.ts';
import { nbdsh } from '../support/nbdsh.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';

const missing = missingPrograms({ nbdsh: 'python3-libnbd' });
const command = resolve('bin/elasticdrive.js');
const mebibyte = 2 ** 20;

/** Fills 32 MiB with noise, then writes every third block anew, and says what must be read. */
const writing = `
import hashlib, random
r = random.Random(7)
data = bytearray(r.randbytes(32 << 20))
for at in range(0, len(data), 1 << 20): h.pwrite(data[at:at + (1 << 20)], at)
h.flush()
for at in range(0, len(data), 3 * 4096):
  data[at:at + 4096] = r.randbytes(4096)
  h.pwrite(data[at:at + 4096], at)
h.flush()
print(hashlib.sha256(data).hexdigest())
h.shutdown()
`;

const reading = `
import hashlib
sum = hashlib.sha256()
for at in range(0, 32 << 20, 1 << 20): sum.update(h.pread(1 << 20, at))
print(sum.hexdigest())
h.shutdown()
`;

interface Usage {
  readonly usage: {
    readonly storedBytes: number;
    readonly liveBytes: number;
    readonly deadBytes: number;
    readonly unknownBytes: number;
  };
}

it('gives space back, while it is served and while nobody has it', async ({ skip }) => {
  skip(missing !== undefined, missing);
  await using root = await TemporaryDirectory.make();
  const store = directoryStore(root.join('store'));
  await createVolume(store, 'data', '64MiB');
  const flags = ['--upload-interval', '50ms', '--cache-memory', '1MiB', '--cache-disk', '0B'];
  const host = { store, directory: root.join('host'), flags } as const;
  const where = ['--state-dir', root.join('host', 'state'), '--store', root.join('store')];
  const elasticdrive = async (...line: string[]): Promise<string> =>
    (await run(process.execPath, [command, ...line, ...where])).stdout;
  const usage = async (): Promise<Usage['usage']> => {
    const shown = JSON.parse(await elasticdrive('volume', 'show', 'data', '--json')) as Usage;
    return shown.usage;
  };
  let written: string;
  {
    await using daemon = await Daemon.start(host);
    written = (await nbdsh(daemon.uri('data'), writing)).stdout;
    expect(await elasticdrive('volume', 'compact', 'data', '--grace', '0s')).toContain('deleted');
    expect((await nbdsh(daemon.uri('data'), reading)).stdout).toBe(written);
    const { volumes } = (await daemon.status()) as {
      volumes: { space: { movedBytes: number; deletedObjects: number } }[];
    };
    expect(volumes[0]?.space.movedBytes).toBeGreaterThan(mebibyte);
    expect(volumes[0]?.space.deletedObjects).toBeGreaterThan(0);
  }
  const after = await usage();
  expect(after.storedBytes).toBeLessThan(1.35 * 32 * mebibyte);
  expect(after.liveBytes + after.deadBytes).toBe(after.storedBytes);
  expect(after.unknownBytes).toBe(0);
  // Of this machine, without a daemon.
  expect(await elasticdrive('volume', 'compact', 'data', '--grace', '0s')).toContain('of it alive');
  await using again = await Daemon.start(host);
  expect((await nbdsh(again.uri('data'), reading)).stdout).toBe(written);
});
