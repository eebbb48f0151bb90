/**
 * Snapshots of a volume on which PostgreSQL commits: a clone of each is to the database what a power cut
 * would have left. It recovers, pg_amcheck finds nothing, pgbench's sums agree, and what was committed
 * before the snapshot was asked for is there.
 */
import { chmod } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore } from '../support/daemon.ts';
import { HostDisk, missingHostDisk } from '../support/host-disk.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';
import { missingFileSystem, missingPrograms } from '../support/requirements.ts';
import { missingPostgres, Postgres } from './postgres.ts';

const missing =
  missingHostDisk() ??
  missingFileSystem('ext4') ??
  missingPrograms({ 'mkfs.ext4': 'e2fsprogs', e2fsck: 'e2fsprogs' }) ??
  missingPostgres();

const clients = 3;
const snapshotCount = 3;

it('PostgreSQL recovers on a clone of each snapshot, with all that was committed', async ({
  skip,
}) => {
  skip(missing !== undefined, missing);
  await using root = await TemporaryDirectory.make();
  await chmod(root.path, 0o755);
  const store = directoryStore(root.join('store'));
  await createVolume(store, 'disk', '1GiB');
  await using daemon = await Daemon.start({ store, directory: root.join('machine') });
  const command = (...words: string[]) => daemon.command(...words, '--store', store.url);
  const mount = root.join('mount');
  const data = `${mount}/data`;
  const acknowledged: number[][] = [];
  {
    await using disk = await HostDisk.attach(daemon.uri('disk'), root.join('fuse'));
    await run('mkfs.ext4', ['-q', disk.device]);
    await disk.mount(mount, 'discard');
    await Postgres.initialize(data);
    await using postgres = await Postgres.start(data, root.join('socket'));
    await postgres.prepare();
    await using load = await postgres.load(root.join('load'), clients);
    for (let at = 0; at < snapshotCount; at += 1) {
      await load.progress(30);
      acknowledged.push(load.acknowledged());
      await command('snapshot', 'create', 'disk', `s${at}`, '--wait');
    }
    await postgres.end();
    await load.ended();
    await disk.unmount();
    await disk.detach();
  }
  for (const [at, committed] of acknowledged.entries()) {
    await command('volume', 'clone', `disk@s${at}`, `copy${at}`);
    await using disk = await HostDisk.attach(daemon.uri(`copy${at}`), root.join(`fuse-${at}`));
    await disk.mount(mount, 'discard');
    {
      await using postgres = await Postgres.start(data, root.join('socket'));
      expect(postgres.log).toContain('was not properly shut down');
      await postgres.check();
      const ledger = await postgres.ledger();
      for (const [client, number] of committed.entries())
        expect(ledger.get(client), `client ${client}`).toBeGreaterThanOrEqual(number);
      await postgres.end();
    }
    await disk.unmount();
    await run('e2fsck', ['-fn', disk.device]);
    await disk.detach();
  }
});
