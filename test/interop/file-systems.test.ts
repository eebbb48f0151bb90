/**
 * File systems of this host's kernel on a volume, by way of nbdfuse and a loop device: a copy of
 * /usr/share, unmounted, is found whole through a daemon that has only the store.
 */
import { describe, expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore, type TestStore } from '../support/daemon.ts';
import { HostDisk, missingHostDisk } from '../support/host-disk.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';
import { missingFileSystem, missingPrograms } from '../support/requirements.ts';

const tar = 'tar --sort=name --format=gnu --numeric-owner';

/** Runs `use` with the volume as a block device of this host. */
async function withDisk<T>(
  store: TestStore,
  root: TemporaryDirectory,
  machine: string,
  use: (disk: HostDisk) => Promise<T>,
): Promise<T> {
  await using daemon = await Daemon.start({ store, directory: root.join(machine) });
  await using disk = await HostDisk.attach(daemon.uri('disk'), root.join(`${machine}-fuse`));
  const result = await use(disk);
  await disk.detach();
  await daemon.stop();
  return result;
}

describe('a file system on a volume', () => {
  const fileSystems = [
    { name: 'ext4', make: ['mkfs.ext4', '-q'], check: ['e2fsck', '-fn'], debian: 'e2fsprogs' },
    { name: 'xfs', make: ['mkfs.xfs', '-q'], check: ['xfs_repair', '-n'], debian: 'xfsprogs' },
    {
      name: 'btrfs',
      make: ['mkfs.btrfs', '-q'],
      check: ['btrfs', 'check', '--readonly'],
      debian: 'btrfs-progs',
    },
  ];

  it.for(fileSystems)(
    '$name holds a copy of /usr/share that another machine finds whole',
    async ({ name, make, check, debian }, { skip }) => {
      const [makeProgram = '', ...makeArguments] = make;
      const [checkProgram = '', ...checkArguments] = check;
      const missing =
        missingHostDisk() ??
        missingFileSystem(name) ??
        missingPrograms({ [makeProgram]: debian, [checkProgram]: debian });
      skip(missing !== undefined, missing);
      await using root = await TemporaryDirectory.make();
      const store = directoryStore(root.join('store'));
      await createVolume(store, 'disk', '4GiB');

      const copied = await withDisk(store, root, 'one', async (disk) => {
        await run(makeProgram, [...makeArguments, disk.device]);
        const mount = root.join('mount-one');
        await disk.mount(mount, 'discard');
        // The sum of the very stream that is unpacked: /usr/share may change meanwhile.
        const pipe = root.join('pipe');
        const copy =
          `mkdir ${mount}/copy && mkfifo ${pipe} && { sha256sum <${pipe} & } && ` +
          `${tar} -C /usr/share -cf - . | tee ${pipe} | tar -C ${mount}/copy -xpf - && wait`;
        return (await run('bash', ['-euo', 'pipefail', '-c', copy])).stdout;
      });
      const found = await withDisk(store, root, 'two', async (disk) => {
        await run(checkProgram, [...checkArguments, disk.device]);
        const mount = root.join('mount-two');
        await disk.mount(mount, 'ro');
        const look = `${tar} -C ${mount}/copy -cf - . | sha256sum`;
        return (await run('bash', ['-euo', 'pipefail', '-c', look])).stdout;
      });
      expect(copied).toMatch(/^[0-9a-f]{64} /);
      expect(found).toBe(copied);
    },
  );
});
