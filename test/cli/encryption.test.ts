/** Encrypted volumes as users make and serve them: what lies anywhere tells nothing of them. */
import { globSync } from 'node:fs';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore, elasticdrive } from '../support/daemon.ts';
import { nbdsh } from '../support/nbdsh.ts';
import { TemporaryDirectory } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';

const missing = missingPrograms({ nbdsh: 'python3-libnbd' });
const text = 'the minutes of the meeting that nobody is to read; ';
const passphrase = 'correct horse battery staple';

/** Every 16 bytes that stand one after the other in what was written, or are secret. */
function telling(): Buffer[] {
  const windows = (bytes: Buffer, count: number): Buffer[] =>
    Array.from({ length: count }, (_, at) => bytes.subarray(at, at + 16));
  const repeated = Buffer.from(text.repeat(2));
  const secret = Buffer.from(passphrase);
  return [...windows(repeated, text.length), ...windows(secret, secret.length - 15)];
}

async function requireSilent(files: readonly string[], log: string): Promise<number> {
  const parts = telling();
  let searched = 0;
  for (const path of files) {
    if (!(await stat(path)).isFile()) continue;
    const bytes = await readFile(path);
    searched += 1;
    const told = parts.find((part) => bytes.includes(part));
    expect(told?.toString(), path).toBeUndefined();
  }
  expect(parts.find((part) => log.includes(part.toString()))?.toString()).toBeUndefined();
  return searched;
}

it('are served, crash and come back, and nothing that lies anywhere tells of them', async ({
  skip,
}) => {
  skip(missing !== undefined, missing);
  await using root = await TemporaryDirectory.make();
  const store = directoryStore(root.join('store'));
  const [file, bad] = [root.join('password'), root.join('bad')];
  await writeFile(file, `${passphrase}\n`, { mode: 0o600 });
  await writeFile(bad, 'another one\n', { mode: 0o600 });
  const state = ['--state-dir', root.join('state')];
  const ring = ['--keyring', root.join('keys.json')];
  const keys = [...ring, '--password-file', file];
  await elasticdrive(store, ['key', 'create', 'main', ...keys, ...state]);
  const made = await createVolume(store, 'data', '64MiB', '--encrypt', ...keys, ...state);
  expect(made.stdout).toContain('created data, 64MiB, encrypted');
  const flags = [...keys, '--upload-interval', '300ms', '--cache-disk', '16MiB'];
  // The check after the test has no key.
  const host = { store, directory: root.join('host'), flags, unchecked: true } as const;
  const everywhere = (): string[] =>
    globSync([root.join('store/**'), root.join('host/state/**'), root.join('state/**')]);
  const busy = `
t = b"${text}"
for i in range(0, 20):
    h.pwrite((t * 25000)[:1048576], i * 1048576)
    h.pwrite((t * 90)[:4096], 50 * 1048576 + i * 8192)
    if i % 8 == 0: h.flush()
h.flush()
h.shutdown()`;
  const compare = `
t = b"${text}"
for i in range(0, 20):
    assert h.pread(1048576, i * 1048576) == (t * 25000)[:1048576], i
    assert h.pread(4096, 50 * 1048576 + i * 8192) == (t * 90)[:4096], i
h.shutdown()`;
  {
    await using daemon = await Daemon.start(host);
    await nbdsh(daemon.uri('data'), busy);
    await daemon.command('snapshot', 'create', 'data', 'one', '--store', store.url);
    await nbdsh(daemon.uri('data'), busy);
    expect(await requireSilent(everywhere(), daemon.log)).toBeGreaterThan(8);
    await daemon.crash();
  }
  await using daemon = await Daemon.start(host);
  await nbdsh(daemon.uri('data'), compare);
  await nbdsh(daemon.uri('data@one'), compare);
  await daemon.stop();
  await requireSilent(everywhere(), daemon.log);

  const check = ['volume', 'check', 'data', '--read-data', '--store', store.url, ...ring, ...state];
  const sound = await elasticdrive(store, [...check, '--password-file', file]);
  expect(sound.stdout).toContain('data is sound');
  const wrong = await elasticdrive(store, [...check, '--password-file', bad], [12]);
  expect(wrong.stderr).toMatch(/"data" is encrypted with the key "main".*does not open the key/s);
  const listed = await elasticdrive(store, ['volume', 'list', '--store', store.url, '--json']);
  expect(JSON.parse(listed.stdout)).toMatchObject([
    { name: 'data', encryption: { cipher: 'aes-256-gcm', keys: [{ keyName: 'main' }] } },
  ]);
});
