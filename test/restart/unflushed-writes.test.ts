/**
 * Clients that live through a restart of the daemon believe that what was answered is there: in the
 * server's write cache, to be made durable by their next flush. So an answered write must outlive
 * the process that answered it, flushed or not.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore } from '../support/daemon.ts';
import { nbdsh } from '../support/nbdsh.ts';
import { Server, TemporaryDirectory } from '../support/programs.ts';

const blocks = 65_536;

/** Says "begun", then writes numbered blocks without a flush, until the server is gone. */
const write = (uri: string, from: number): string => `
import nbd
h = nbd.NBD()
h.connect_uri(${JSON.stringify(uri)})
number = ${from}
try:
    while True:
        h.pwrite(number.to_bytes(8, "big") * 512, number % ${blocks} * 4096)
        number += 1
        if number == ${from} + 200:
            print("begun", flush=True)
except nbd.Error:
    print("answered", number)
`;

/** How many of the blocks that were answered hold something else. */
const verify = (from: number, to: number): string => `
wrong = 0
for number in range(max(${from}, ${to} - ${blocks}), ${to}):
    if bytes(h.pread(4096, number % ${blocks} * 4096)) != number.to_bytes(8, "big") * 512:
        wrong += 1
print("wrong", wrong)
`;

it('keeps every answered write when the daemon is killed before a flush', async () => {
  await using root = await TemporaryDirectory.make();
  const store = directoryStore(root.join('store'));
  await createVolume(store, 'drive', '256MiB');
  const start = () => Daemon.start({ store, directory: root.path });
  let from = 1;
  for (let round = 0; round < 5; round += 1) {
    const daemon = await start();
    const code = write(daemon.uri('drive'), from);
    await using writer = new Server('/usr/bin/python3', ['-c', code]);
    await writer.until(() => /begun/.exec(writer.log)?.[0]);
    await sleep(37 * round);
    await daemon.crash();
    expect(await writer.ended(), writer.log).toBe(0);
    const answered = Number(/answered (\d+)/.exec(writer.log)?.[1]);
    expect(answered).toBeGreaterThan(from);
    await using after = await start();
    const { stdout } = await nbdsh(after.uri('drive'), verify(from, answered));
    expect(stdout).toBe('wrong 0\n');
    await after.crash();
    from = answered + 1;
  }
});
