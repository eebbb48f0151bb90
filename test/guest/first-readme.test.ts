/**
 * What the first ElasticDrive's README showed, done by a stock Linux kernel: each case writes in one
 * guest through one daemon, then reads in a new guest through a daemon that has only the store.
 */
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createVolume,
  Daemon,
  type DaemonOptions,
  directoryStore,
  type S3Account,
} from '../support/daemon.ts';
import { LinuxGuest, missingGuest } from '../support/linux-guest.ts';
import { TemporaryDirectory } from '../support/programs.ts';
import { missingRgw } from '../support/rgw.ts';
import { sharedS3 } from '../support/shared-s3.ts';

const missing = missingGuest();
let guest: LinuxGuest | undefined;

beforeAll(async () => {
  if (missing === undefined) guest = await LinuxGuest.build();
});

afterAll(() => guest?.[Symbol.asyncDispose]());

/** Runs `script` in a new guest against a daemon of its own; what it printed of the files. */
async function onAnotherMachine(script: string, options: DaemonOptions): Promise<string> {
  if (guest === undefined) throw new Error(missing);
  await using daemon = await Daemon.start(options);
  const said = await guest.run(script, { PORT: daemon.port });
  await daemon.stop();
  const [, files] = /^BEGIN\n(.*)^END\n/ms.exec(said) ?? [];
  if (files === undefined) throw new Error(`no list of files: ${said}`);
  return files;
}

/** The file of the first README, with the place of this test's S3 server. */
function firstConfiguration(account: S3Account, bucket: string): string {
  return `[s3]
AWS_ACCESS_KEY_ID = ${account.accessKeyId}
AWS_SECRET_ACCESS_KEY = ${account.secretAccessKey}
BUCKET=${bucket}
ENDPOINT=${account.endpoint}
#Stripe is the block device stripe size. 65536 is recommended.
#This is NOT the same as the block size
STRIPE=65536
#Volumesize is expressed in bytes, and should be a multiple of STRIPE
VOLUMESIZE=16777216

[server]
#PORT to listen on
port=9999
#Show a ludicrous amount of debug data in the logs?
debug=0
cachesize=1024
cachettl=60
`;
}

describe('a stock Linux kernel', () => {
  it('uses a volume in S3 as network storage and finds its files on another machine', async ({
    skip,
  }) => {
    const lacking = missing ?? missingRgw();
    skip(lacking !== undefined, lacking);
    await using root = await TemporaryDirectory.make();
    const configuration = root.join('config.ini');
    const bucket = `the.name.of.the.bucket.${randomBytes(4).toString('hex')}`;
    await writeFile(configuration, firstConfiguration(await sharedS3(), bucket), { mode: 0o600 });
    const machine = (name: string) => ({ configuration, directory: root.join(name) });
    const written = await onAnotherMachine('storage-write', machine('one'));
    const found = await onAnotherMachine('storage-read', machine('two'));
    expect(written).toMatch(/^[0-9a-f]{64} {2}\.\/a\/b\/c\/sparse$/m);
    expect(found).toBe(written);
  });

  const cases = [
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
    const machine = (name: string) => ({ store, directory: root.join(name) });
    const written = await onAnotherMachine(`${script}-write`, machine('one'));
    const found = await onAnotherMachine(`${script}-read`, machine('two'));
    expect(written).toMatch(file);
    expect(found).toBe(written);
  });
});
