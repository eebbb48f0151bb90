/**
 * A stock Linux kernel that writes files to ext4 and xfs on a volume when all power goes: QEMU and the
 * daemon are killed at once. The file system is looked at as of that moment on the same disk, and as
 * of moments before it on an empty one: each time the kernel replays its journal, the check finds
 * nothing, and what was synced is there.
 */
import { mkdir } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore, type TestStore } from '../support/daemon.ts';
import { missingHostDisk } from '../support/host-disk.ts';
import { LinuxGuest, missingGuest } from '../support/linux-guest.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';
import { missingFileSystem, missingPrograms } from '../support/requirements.ts';
import { acknowledged, fileSystems, format, look, writers } from './guest-files.ts';
import { powerCutPoints } from './settings.ts';

const missing = missingGuest() ?? missingHostDisk() ?? missingPrograms({ 'mkfs.xfs': 'xfsprogs' });
let guest: LinuxGuest | undefined;

beforeAll(async () => {
  if (missing === undefined) guest = await LinuxGuest.build();
});
afterAll(() => guest?.[Symbol.asyncDispose]());

/**
 * The store as it is now. Objects never change, so a link is a copy; the manifest goes first, for
 * what it names is there before it says so.
 */
async function copyStore(from: string, to: string): Promise<void> {
  await mkdir(to);
  const copy = `cd "$1" && find . -path './volumes/*/manifest.json@*' -type f -print0 |
    cpio -0 -p -d --quiet "$2" && find . -path ./.tmp -prune -o -type f -print0 |
    cpio -0 -p -d -l --quiet "$2" 2>/dev/null`;
  await run('bash', ['-uc', copy, 'copy', from, to]);
}

describe('a power cut of a Linux guest', () => {
  it.for(fileSystems)(
    'leaves $name whole, with all that was synced',
    async (fileSystem, { skip }) => {
      const lacking = missing ?? missingFileSystem(fileSystem.name);
      skip(lacking !== undefined, lacking);
      await using root = await TemporaryDirectory.make();
      const store = directoryStore(root.join('store'));
      await createVolume(store, 'disk', '512MiB', '--durability', 'store');
      const flags = ['--upload-interval', '100ms'];
      await using daemon = await Daemon.start({ store, directory: root.join('machine'), flags });
      await format(fileSystem, daemon, root);

      const moments: { store: TestStore; promised: Map<string, number> }[] = [];
      const variables = { PORT: daemon.port, FILE_SYSTEM: fileSystem.name, WRITERS: writers };
      await using running = await guest!.start('power-cut', variables);
      for (let moment = 1; moment <= powerCutPoints; moment += 1) {
        const count = moment * 8;
        await running.until((output) =>
          (acknowledged(output).get('1') ?? 0 >= count) ? true : undefined,
        );
        const promised = acknowledged(await running.output());
        const path = root.join(`store-${moment}`);
        await copyStore(root.join('store'), path);
        moments.push({ store: directoryStore(path), promised });
      }
      await Promise.all([daemon.crash(), running.cut()]);
      const promised = acknowledged(await running.output());
      const again = await Daemon.start({ store, directory: root.join('machine') });
      await look(fileSystem, again, root.path, promised);
      await again.stop();
      expect(moments).toHaveLength(powerCutPoints);
      for (const [at, moment] of moments.entries()) {
        const directory = root.join(`elsewhere-${at}`);
        const flags = ['--force'];
        await using elsewhere = await Daemon.start({ store: moment.store, directory, flags });
        await look(fileSystem, elsewhere, directory, moment.promised);
        await elsewhere.crash();
      }
    },
  );
});
