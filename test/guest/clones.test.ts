/** A stock Linux kernel with a mounted, busy XFS of which a clone is made and mounted beside it. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore } from '../support/daemon.ts';
import { LinuxGuest, missingGuest } from '../support/linux-guest.ts';
import { TemporaryDirectory } from '../support/programs.ts';

const missing = missingGuest();
let guest: LinuxGuest | undefined;

beforeAll(async () => {
  if (missing === undefined) guest = await LinuxGuest.build();
});
afterAll(() => guest?.[Symbol.asyncDispose]());

it('mounts an xfs and its clone side by side, with nouuid, and either is its own', async ({
  skip,
}) => {
  skip(missing !== undefined, missing);
  await using root = await TemporaryDirectory.make();
  const store = directoryStore(root.join('store'));
  await createVolume(store, 'disk', '512MiB');
  await using daemon = await Daemon.start({ store, directory: root.path });
  await using cloned = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  await once(cloned, 'listening');
  const { port: clonedPort } = cloned.address() as { port: number };
  await new Promise((done) => cloned.close(done));
  await using running = await guest!.start('clones', {
    PORT: daemon.port,
    CLONED_PORT: clonedPort,
  });
  await running.until((output) => (output.includes('ready') ? true : undefined));
  await daemon.command('volume', 'clone', 'disk', 'copy', '--store', store.url);
  cloned.listen(clonedPort, '127.0.0.1');
  expect(await running.finish()).toMatch(/^independent$/m);
});
