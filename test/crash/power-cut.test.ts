/**
 * A stock Linux kernel that writes files to ext4 and xfs on a volume when all power goes: QEMU and the
 * daemon are killed at once. The file system is looked at as of that moment on the same disk, and as
 * of moments before it on an empty one: each time the kernel replays its journal, the check finds
 * nothing, and what was synced is there.
 */
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore, type TestStore } from '../support/daemon.ts';
import { HostDisk, missingHostDisk } from '../support/host-disk.ts';
import { LinuxGuest, missingGuest } from '../support/linux-guest.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';
import { missingFileSystem, missingPrograms } from '../support/requirements.ts';
import { powerCutPoints } from './settings.ts';

const missing = missingGuest() ?? missingHostDisk() ?? missingPrograms({ 'mkfs.xfs': 'xfsprogs' });
let guest: LinuxGuest | undefined;

beforeAll(async () => {
  if (missing === undefined) guest = await LinuxGuest.build();
});
afterAll(() => guest?.[Symbol.asyncDispose]());

const writers = 4;
/** Files of each writer that are not deleted yet when a later one is done. */
const keptFiles = 12;

/** For each writer the last file that it was told is on the disk. */
function acknowledged(output: string): Map<string, number> {
  const last = new Map<string, number>();
  for (const [, writer = '', number] of output.matchAll(/^done (\d+) (\d+)$/gm)) {
    last.set(writer, Number(number));
  }
  return last;
}

/** Whether `text` is all that file `number` of a writer ought to hold. */
function isWhole(text: string, writer: string, number: number): boolean {
  const lengthBytes = ((number * 7919) % 90_000) + 1;
  const line = `${writer} ${number}\n`;
  return text === line.repeat(Math.ceil(lengthBytes / line.length)).slice(0, lengthBytes);
}

/** All files that are there under their names are whole, and those that were `promised` are there. */
async function expectFiles(mount: string, promised: ReadonlyMap<string, number>): Promise<void> {
  for (let name = 1; name <= writers; name += 1) {
    const writer = String(name);
    const names = await readdir(`${mount}/${writer}`).catch(() => []);
    const numbers = names.filter((each) => each !== 'new').map(Number);
    for (const number of numbers) {
      const text = await readFile(`${mount}/${writer}/${number}`, 'latin1');
      expect(isWhole(text, writer, number), `file ${number} of writer ${writer}`).toBe(true);
    }
    const last = promised.get(writer) ?? 0;
    expect(Math.max(0, ...numbers), `writer ${writer}`).toBeGreaterThanOrEqual(last);
    const first = Math.max(1, Math.max(0, ...numbers) - keptFiles + 1);
    for (let number = first; number <= last; number += 1) expect(numbers).toContain(number);
  }
}

interface FileSystem {
  readonly name: string;
  readonly make: readonly string[];
  readonly check: readonly string[];
}

/** Mounts, which replays the file system's journal; looks at the files; checks all of it. */
async function look(
  { name, check }: FileSystem,
  daemon: Daemon,
  directory: string,
  promised: ReadonlyMap<string, number>,
): Promise<void> {
  await using disk = await HostDisk.attach(daemon.uri('disk'), `${directory}/fuse`);
  await disk.mount(`${directory}/mount`, name === 'xfs' ? 'nouuid' : 'defaults');
  await expectFiles(`${directory}/mount`, promised);
  await disk.unmount();
  await run(check[0] ?? '', [...check.slice(1), disk.device]);
  await disk.detach();
}

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
  const fileSystems: FileSystem[] = [
    { name: 'ext4', make: ['mkfs.ext4', '-q'], check: ['e2fsck', '-fn'] },
    { name: 'xfs', make: ['mkfs.xfs', '-q', '-s', 'size=4096'], check: ['xfs_repair', '-n'] },
  ];

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

async function format(
  { make }: FileSystem,
  daemon: Daemon,
  root: TemporaryDirectory,
): Promise<void> {
  await using disk = await HostDisk.attach(daemon.uri('disk'), root.join('format'));
  await run(make[0] ?? '', [...make.slice(1), disk.device]);
  await disk.detach();
}
