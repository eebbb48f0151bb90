/** A supervised daemon: its units, the sockets that it is passed, and what it tells its supervisor. */
import { readdir, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createVolume, directoryStore } from '../support/daemon.ts';
import { nbdsh } from '../support/nbdsh.ts';
import { type ProgramResult, run, Server, TemporaryDirectory } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';

const command = resolve('bin/elasticdrive.js');
const missing = missingPrograms({
  'systemd-analyze': 'systemd',
  'systemd-notify': 'systemd',
  nbdsh: 'python3-libnbd',
});

async function install(
  root: TemporaryDirectory,
  configuration: string,
  ...flags: string[]
): Promise<ProgramResult> {
  const file = root.join('config.toml');
  await writeFile(file, configuration);
  const where = ['--config', file, '--directory', root.path];
  const args = [command, 'systemd', 'install', ...where, ...flags];
  return run(process.execPath, args, { statuses: [0, 1, 2] });
}

const configuration = `listen = ["nbd://127.0.0.1", "nbd+unix:///run/elasticdrive/nbd.sock"]
store = ["s3://bucket/prefix"]
`;

describe('elasticdrive systemd install', () => {
  it('writes units that systemd finds right and well enclosed', async ({ skip }) => {
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    const { status, stdout } = await install(root, configuration);
    expect(status).toBe(0);
    expect(stdout).toContain('systemctl daemon-reload');
    const units = (await readdir(root.path)).filter((name) => name !== 'config.toml').sort();
    expect(units).toEqual([
      'elasticdrive-proxy@.service',
      'elasticdrive.service',
      'elasticdrive.socket',
    ]);
    const paths = units.map((name) => root.join(name));
    // It complains of other units of this machine, too; of ours it must say nothing.
    const verified = await run('systemd-analyze', ['verify', ...paths], { statuses: [0, 1] });
    expect(verified.stderr.split('\n').filter((line) => line.includes('elasticdrive'))).toEqual([]);
    const exposure = ['--offline=yes', '--threshold=25', 'security'];
    for (const path of paths.slice(0, 2)) await run('systemd-analyze', [...exposure, path]);
  });

  it('shows them without writing, refuses what could not work, and says what to do', async () => {
    await using root = await TemporaryDirectory.make();
    const shown = await install(root, configuration, '--print');
    expect(shown.stdout).toContain('\nListenStream=127.0.0.1:10809\n');
    expect(shown.stdout).toContain('\nListenStream=/run/elasticdrive/nbd.sock\n');
    expect(shown.stdout).toContain('\nLimitCORE=0\n');
    expect(await readdir(root.path)).toEqual(['config.toml']);
    const directoryStored = 'store = ["file:///srv/disks"]\n';
    const refused = await install(root, directoryStored);
    expect(refused).toMatchObject({ status: 2, stdout: '' });
    expect(refused.stderr).toContain('--user');
    const owned = await install(root, directoryStored, '--print', '--user', 'disks');
    expect(owned.stdout).toMatch(/^User=disks$/m);
    expect(owned.stdout).toMatch(/^ReadWritePaths=\/srv\/disks$/m);
  });
});

describe('a supervised daemon', () => {
  it('lets clients wait on its socket while it is away, and gives signs of life', async ({
    skip,
  }) => {
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    const store = directoryStore(root.join('store'));
    await createVolume(store, 'disk', '64MiB');
    const socket = root.join('nbd.sock');
    const serve = [command, 'serve', '--store', store.url, '--state-dir', root.join('state')];
    await using supervisor = new Server('/usr/bin/python3', [
      ...[resolve('test/support/supervisor.py'), socket, '1', process.execPath, ...serve],
    ]);
    const heard = (pattern: RegExp, count = 1): Promise<string> =>
      supervisor.until(() => [...supervisor.log.matchAll(pattern)][count - 1]?.[1]);
    await heard(/^said (READY=1)$/gm);
    expect(supervisor.log).toContain(`nbd+unix:///disk?socket=${socket}`);
    await heard(/^said (WATCHDOG=1)$/gm, 3);
    const uri = `nbd+unix:///disk?socket=${socket}`;
    await nbdsh(uri, 'h.pwrite(b"a" * 4096, 0)');
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      const pids = [...supervisor.log.matchAll(/^started (\d+)$/gm)];
      process.kill(Number(pids.at(-1)?.[1]), signal);
      await heard(/^(ended) /gm, pids.length);
      // Nobody serves; connecting waits, and nothing has to be tried twice.
      const { stdout } = await nbdsh(uri, 'print(h.pread(4096, 0) == b"a" * 4096)');
      expect(stdout).toBe('True\n');
      await heard(/^(started) /gm, pids.length + 1);
    }
    await heard(/^said (READY=1)$/gm, 3);
    expect(await supervisor.stop()).toBe(0);
    expect(supervisor.log).toMatch(/^said STOPPING=1$/m);
    expect(supervisor.log).toMatch(/^ended 0$/m);
  });
});
