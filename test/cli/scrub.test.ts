/** `elasticdrive volume scrub` asks a real daemon, which says what it found wherever one looks. */
import { readdirSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { parseExposition, valueOf } from '../../src/host/testing/prometheus.ts';
import { createVolume, Daemon, directoryStore } from '../support/daemon.ts';
import { nbdsh } from '../support/nbdsh.ts';
import { type ProgramResult, run, TemporaryDirectory } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';

const missing = missingPrograms({ nbdsh: 'python3-libnbd' });
const command = resolve('bin/elasticdrive.js');

it('scrubs now, names what is damaged, and leaves with 13', async ({ skip }) => {
  skip(missing !== undefined, missing);
  await using root = await TemporaryDirectory.make();
  const directory = root.join('store');
  const store = directoryStore(directory);
  await createVolume(store, 'data', '64MiB');
  const flags = ['--metrics-listen', 'http://127.0.0.1:0', '--upload-interval', '50ms'];
  // What is damaged on purpose is not to be found sound when the test is over.
  const host = { store, directory: root.join('host'), flags, unchecked: true } as const;
  await using daemon = await Daemon.start(host);
  const scrub = (name: string): Promise<ProgramResult> => {
    const line = ['volume', 'scrub', name, '--state-dir', root.join('host', 'state')];
    return run(process.execPath, [command, ...line], { statuses: [0, 10, 13] });
  };
  expect((await scrub('data')).stderr).toContain('is not attached here');
  await nbdsh(daemon.uri('data'), 'h.pwrite(b"x" * 1048576, 0)\nh.flush()\nh.shutdown()');
  const segments = (): string[] => {
    const [id = ''] = readdirSync(join(directory, 'volumes'));
    const path = join(directory, 'volumes', id, 'segments');
    return readdirSync(path).map((name) => join(path, name));
  };
  await expect.poll(() => segments().length, { timeout: 10_000 }).toBeGreaterThan(0);
  const sound = await scrub('data');
  expect(sound.status).toBe(0);
  expect(sound.stdout).toMatch(/\ndata is sound \(\d+ segments? .* all of the data/);
  const [path = ''] = segments();
  const bytes = await readFile(path);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  await writeFile(path, bytes);
  const damaged = await scrub('data');
  expect(damaged.status).toBe(13);
  expect(damaged.stdout).toContain('data is damaged: 1 thing is wrong');
  expect(daemon.log).toMatch(/error the scrub found damage volume=data object=volumes\/\S+/);
  expect(await daemon.status()).toMatchObject({ volumes: [{ scrub: { damageCount: 1 } }] });
  const { metrics } = (await daemon.status()) as { metrics: string };
  const families = parseExposition(await (await fetch(`${metrics}/metrics`)).text());
  expect(valueOf(families, 'elasticdrive_volume_scrub_damaged', { volume: 'data' })).toBe(1);
  expect(valueOf(families, 'elasticdrive_volume_scrub_lost_bytes')).toBeGreaterThan(0);
  expect(valueOf(families, 'elasticdrive_volume_scrub_last_end_timestamp_seconds')).toBeGreaterThan(
    1.7e9,
  );
});
