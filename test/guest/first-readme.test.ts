/**
 * What the first ElasticDrive's README showed, done by a stock Linux kernel: each case writes in one
 * guest through one daemon, then reads in a new guest through a daemon that has only the store.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore, type TestStore } from '../support/daemon.ts';
import { LinuxGuest, missingGuest } from '../support/linux-guest.ts';
import { TemporaryDirectory } from '../support/programs.ts';

const missing = missingGuest();
let guest: LinuxGuest | undefined;

beforeAll(async () => {
  if (missing === undefined) guest = await LinuxGuest.build();
});

afterAll(() => guest?.[Symbol.asyncDispose]());

/** Runs `script` in a new guest against a daemon of its own; what it printed of the files. */
async function onAnotherMachine(
  script: string,
  store: TestStore,
  directory: string,
): Promise<string> {
  if (guest === undefined) throw new Error(missing);
  await using daemon = await Daemon.start({ store, directory });
  const said = await guest.run(script, { PORT: daemon.port });
  await daemon.stop();
  const [, files] = /^BEGIN\n(.*)^END\n/ms.exec(said) ?? [];
  if (files === undefined) throw new Error(`no list of files: ${said}`);
  return files;
}

describe('a stock Linux kernel', () => {
  const cases = [
    {
      name: 'uses a volume as network storage and finds its files on another machine',
      script: 'storage',
      file: /^[0-9a-f]{64} {2}\.\/a\/b\/c\/sparse$/m,
    },
    {
      name: 'copies a disk onto a volume and back with its times and hard links',
      script: 'tape',
      // Three names, and the times that were set.
      file: /^\.\/d\/one \d+ 3 3276800 -rw-r--r-- 1180701296 1142298123$/m,
    },
    {
      name: 'mirrors a local disk and assembles the mirror from the volume alone',
      script: 'mirror',
      file: /^[0-9a-f]{64} {2}\.\/d\/100$/m,
    },
  ];
  it.for(cases)('$name', async ({ script, file }, { skip }) => {
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    const store = directoryStore(root.join('store'));
    await createVolume(store, 'drive', '64MiB');
    const written = await onAnotherMachine(`${script}-write`, store, root.join('one'));
    const found = await onAnotherMachine(`${script}-read`, store, root.join('two'));
    expect(written).toMatch(file);
    expect(found).toBe(written);
  });
});
