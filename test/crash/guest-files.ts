/**
 * A stock Linux kernel that writes files to ext4 and xfs on a volume (test/guest/power-cut.sh), and what
 * must be found of them on a volume as of some moment of that.
 */
import { readdir, readFile } from 'node:fs/promises';
import { expect } from 'vitest';
import type { Daemon } from '../support/daemon.ts';
import { HostDisk } from '../support/host-disk.ts';
import { run, type TemporaryDirectory } from '../support/programs.ts';

export const writers = 4;
/** Files of each writer that are not deleted yet when a later one is done. */
const keptFiles = 12;

/** For each writer the last file that it was told is on the disk. */
export function acknowledged(output: string): Map<string, number> {
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

export interface FileSystem {
  readonly name: string;
  readonly make: readonly string[];
  readonly check: readonly string[];
}

/** Mounts, which replays the file system's journal; looks at the files; checks all of it. */
export async function look(
  { name, check }: FileSystem,
  daemon: Daemon,
  directory: string,
  promised: ReadonlyMap<string, number>,
  volume = 'disk',
): Promise<void> {
  await using disk = await HostDisk.attach(daemon.uri(volume), `${directory}/fuse`);
  await disk.mount(`${directory}/mount`, name === 'xfs' ? 'nouuid' : 'defaults');
  await expectFiles(`${directory}/mount`, promised);
  await disk.unmount();
  await run(check[0] ?? '', [...check.slice(1), disk.device]);
  await disk.detach();
}

export const fileSystems: readonly FileSystem[] = [
  { name: 'ext4', make: ['mkfs.ext4', '-q'], check: ['e2fsck', '-fn'] },
  { name: 'xfs', make: ['mkfs.xfs', '-q', '-s', 'size=4096'], check: ['xfs_repair', '-n'] },
];

export async function format(
  { make }: FileSystem,
  daemon: Daemon,
  root: TemporaryDirectory,
): Promise<void> {
  await using disk = await HostDisk.attach(daemon.uri('disk'), root.join('format'));
  await run(make[0] ?? '', [...make.slice(1), disk.device]);
  await disk.detach();
}
