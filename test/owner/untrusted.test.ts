/** A store that takes conditions and ignores them: two daemons could write one volume. */
import { expect, test } from 'vitest';
import { PlainS3 } from '../../src/store/testing/plain-s3.ts';
import { createVolume, Daemon, s3Store } from '../support/daemon.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';

const block = new Uint8Array(4096).fill(9);
const eperm = 1;

test('a store that ignores conditions is served read-only, unless the operator says otherwise', async () => {
  await using root = await TemporaryDirectory.make();
  await using server = await PlainS3.start();
  const account = { endpoint: server.endpoint, accessKeyId: 'a', secretAccessKey: 'b' };
  const store = s3Store('s3://bucket/disks', account);
  await createVolume(store, 'data', '1MiB');
  const serve = (host: string, ...flags: string[]): Promise<Daemon> =>
    Daemon.start({ store, directory: root.join(host), flags, unchecked: true });
  {
    await using honest = await serve('honest');
    const client = await NbdClient.connect(honest.socketPath, 'data');
    await client.write(0, block, true);
    client.destroy();
    expect(honest.log).toContain('the store was probed and can be trusted');
  }
  server.ignoresConditions = true;
  {
    await using careful = await serve('careful');
    const client = await NbdClient.connect(careful.socketPath, 'data');
    expect(await client.read(0, 4096)).toEqual(block);
    await expect(client.write(0, block)).rejects.toMatchObject({ number: eperm });
    client.destroy();
    const info = await run('nbdinfo', ['--json', careful.uri('data')]);
    expect(JSON.parse(info.stdout)).toMatchObject({ exports: [{ is_read_only: true }] });
    expect(careful.log).toContain('volume attached for reading only');
    expect((await careful.command('status')).stdout).toContain('read-only: s3://bucket/disks');
  }
  {
    await using daring = await serve('daring', '--unsafe-single-writer');
    const client = await NbdClient.connect(daring.socketPath, 'data');
    await client.write(4096, block, true);
    client.destroy();
  }
});
