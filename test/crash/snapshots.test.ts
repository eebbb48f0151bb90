/**
 * Snapshots of a mounted file system that a stock Linux kernel writes to: each is to it what a power cut
 * would have left. After rolling back to one, and on a clone of one, the kernel replays its journal, the
 * check finds nothing, and what was synced before the snapshot was asked for is there.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore, elasticdrive } from '../support/daemon.ts';
import { missingHostDisk } from '../support/host-disk.ts';
import { LinuxGuest, missingGuest } from '../support/linux-guest.ts';
import { TemporaryDirectory } from '../support/programs.ts';
import { missingFileSystem, missingPrograms } from '../support/requirements.ts';
import { acknowledged, fileSystems, format, look, writers } from './guest-files.ts';

const missing = missingGuest() ?? missingHostDisk() ?? missingPrograms({ 'mkfs.xfs': 'xfsprogs' });
const snapshotCount = 4;
let guest: LinuxGuest | undefined;

beforeAll(async () => {
  if (missing === undefined) guest = await LinuxGuest.build();
});
afterAll(() => guest?.[Symbol.asyncDispose]());

describe('snapshots of a file system that is written', () => {
  it.for(fileSystems)('are whole on $name', async (fileSystem, { skip }) => {
    const lacking = missing ?? missingFileSystem(fileSystem.name);
    skip(lacking !== undefined, lacking);
    await using root = await TemporaryDirectory.make();
    const store = directoryStore(root.join('store'));
    await createVolume(store, 'disk', '512MiB');
    await using daemon = await Daemon.start({ store, directory: root.join('machine') });
    await format(fileSystem, daemon, root);
    const command = (...words: string[]) => daemon.command(...words, '--store', store.url);

    const variables = { PORT: daemon.port, FILE_SYSTEM: fileSystem.name, WRITERS: writers };
    await using running = await guest!.start('power-cut', variables);
    const promised: Map<string, number>[] = [];
    for (let at = 0; at < snapshotCount; at += 1) {
      await running.until((output) =>
        (acknowledged(output).get('1') ?? 0) >= (at + 1) * 8 ? true : undefined,
      );
      promised.push(acknowledged(await running.output()));
      // While the guest writes; only the last is waited for.
      const isLast = at === snapshotCount - 1;
      await command('snapshot', 'create', 'disk', `s${at}`, ...(isLast ? ['--wait'] : []));
    }
    await running.cut();

    for (const [at, files] of promised.entries()) {
      await command('volume', 'rollback', 'disk', `s${at}`, '--confirm', 'disk');
      await look(fileSystem, daemon, root.join(`back-${at}`), files);
    }
    // Replaying a journal wrote to the volume, not to the snapshot.
    await command('volume', 'clone', 'disk@s0', 'copy');
    await look(fileSystem, daemon, root.join('clone'), promised[0] ?? new Map(), 'copy');
    const list = ['snapshot', 'list', 'disk', '--json', '--store', store.url];
    const { stdout } = await elasticdrive(store, list);
    expect(JSON.parse(stdout)).toHaveLength(2 * snapshotCount);
  });
});
