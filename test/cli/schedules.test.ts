/** Snapshots that a daemon makes by itself, as its configuration says. */
import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore, elasticdrive } from '../support/daemon.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';

const command = resolve('bin/elasticdrive.js');

it('makes the snapshots of an attached volume that the configuration wants', async () => {
  await using root = await TemporaryDirectory.make();
  const store = directoryStore(root.join('store'));
  await createVolume(store, 'data', '1GiB');
  await createVolume(store, 'other', '1GiB');
  const configuration = root.join('elasticdrive.toml');
  await writeFile(
    configuration,
    `[[store]]\nurl = "${store.url}"\n[volume.data]\nsnapshots.schedule = ["every 2h keep 3", "daily keep 7"]\n`,
  );
  await using daemon = await Daemon.start({ store, configuration, directory: root.join('here') });
  const client = await NbdClient.connect(daemon.socketPath, 'data');
  const other = await NbdClient.connect(daemon.socketPath, 'other');
  await client.write(0, Buffer.alloc(4096, 'x'));
  await daemon.until(
    () => daemon.log.split('snapshot made by its schedule').length > 2 || undefined,
  );
  const listed = await elasticdrive(store, ['snapshot', 'list', '--json', '--store', store.url]);
  const found = JSON.parse(listed.stdout) as { volume: string; name: string; tags: unknown }[];
  expect(found.map(({ volume, tags }) => [volume, tags])).toEqual([
    ['data', { schedule: 'every 2h' }],
    ['data', { schedule: 'daily' }],
  ]);
  const name = `data@${found[0]?.name}`;
  const held = await elasticdrive(store, ['snapshot', 'hold', name, 'audit', '--store', store.url]);
  expect(held.stdout).toBe(`${name} is held for audit\n`);
  const refused = await run(
    process.execPath,
    [command, 'snapshot', 'delete', name, '--store', store.url],
    { statuses: [0, 1, 11] },
  );
  expect([refused.status, refused.stderr]).toEqual([11, expect.stringContaining('held for audit')]);
  client.destroy();
  other.destroy();
});

it('refuses a schedule that is none, and says where it stands', async () => {
  await using root = await TemporaryDirectory.make();
  const configuration = root.join('elasticdrive.toml');
  await writeFile(
    configuration,
    '[snapshots]\nschedule = ["hourly keep 24", "sometimes keep 7"]\n',
  );
  const checked = await run(
    process.execPath,
    [command, 'config', 'check', '--config', configuration],
    {
      statuses: [0, 1, 2],
    },
  );
  expect(checked.status).toBe(2);
  expect(checked.stdout + checked.stderr).toMatch(/elasticdrive\.toml:2: .*"daily keep 7"/);
});
