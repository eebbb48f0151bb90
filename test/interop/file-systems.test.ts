/**
 * File systems of this host's kernel on a volume, by way of nbdfuse and a loop device: a copy of
 * /usr/share, unmounted, is found whole through a daemon that has only the store.
 */
import { mkdir } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore, type TestStore } from '../support/daemon.ts';
import { run, Server, TemporaryDirectory } from '../support/programs.ts';
import {
  missingFileSystem,
  missingKernelFeature,
  missingPrograms,
  missingRoot,
} from '../support/requirements.ts';

const tar = 'tar --sort=name --format=gnu --numeric-owner';

/** Runs `use` with the volume as a block device of this host: daemon, nbdfuse, loop device. */
async function withBlockDevice<T>(
  store: TestStore,
  root: TemporaryDirectory,
  machine: string,
  use: (device: string) => Promise<T>,
): Promise<T> {
  await using daemon = await Daemon.start({ store, directory: root.join(machine) });
  const fuse = root.join(`${machine}-fuse`);
  await mkdir(fuse);
  const file = `${fuse}/disk`;
  await using server = new Server('nbdfuse', [file, daemon.uri('disk')]);
  await server.until(() =>
    run('stat', [file])
      .then(() => true)
      .catch(() => undefined),
  );
  let result: T;
  try {
    const { stdout } = await run('losetup', ['--find', '--show', file]);
    const device = stdout.trim();
    try {
      result = await use(device);
    } finally {
      await run('losetup', ['--detach', device]);
    }
  } finally {
    await run('fusermount3', ['-u', fuse]);
    await server.ended();
  }
  await daemon.stop();
  return result;
}

async function withMount<T>(
  device: string,
  directory: string,
  options: string,
  use: () => Promise<T>,
): Promise<T> {
  await mkdir(directory);
  await run('mount', ['-o', options, device, directory]);
  try {
    return await use();
  } finally {
    await run('umount', [directory]);
  }
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
        missingRoot() ??
        missingKernelFeature('fuse') ??
        missingKernelFeature('loop') ??
        missingFileSystem(name) ??
        missingPrograms({
          nbdfuse: 'libnbd-bin',
          fusermount3: 'fuse3',
          [makeProgram]: debian,
          [checkProgram]: debian,
        });
      skip(missing !== undefined, missing);
      await using root = await TemporaryDirectory.make();
      const store = directoryStore(root.join('store'));
      await createVolume(store, 'disk', '4GiB');

      const copied = await withBlockDevice(store, root, 'one', async (device) => {
        await run(makeProgram, [...makeArguments, device]);
        const mount = root.join('mount-one');
        return withMount(device, mount, 'discard', async () => {
          // The sum of the very stream that is unpacked: /usr/share may change meanwhile.
          const pipe = root.join('pipe');
          const copy =
            `mkdir ${mount}/copy && mkfifo ${pipe} && { sha256sum <${pipe} & } && ` +
            `${tar} -C /usr/share -cf - . | tee ${pipe} | tar -C ${mount}/copy -xpf - && wait`;
          return (await run('bash', ['-euo', 'pipefail', '-c', copy])).stdout;
        });
      });
      const found = await withBlockDevice(store, root, 'two', async (device) => {
        await run(checkProgram, [...checkArguments, device]);
        const mount = root.join('mount-two');
        return withMount(device, mount, 'ro', async () => {
          const look = `${tar} -C ${mount}/copy -cf - . | sha256sum`;
          return (await run('bash', ['-euo', 'pipefail', '-c', look])).stdout;
        });
      });
      expect(copied).toMatch(/^[0-9a-f]{64} /);
      expect(found).toBe(copied);
    },
  );
});
