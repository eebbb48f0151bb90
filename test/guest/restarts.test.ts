/**
 * A stock Linux kernel with a mounted file system under load while the daemon that has its disk is
 * restarted and killed: the kernel talks to a proxy, which is not. Nothing fails, nothing is lost.
 */
import { createServer } from 'node:net';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore } from '../support/daemon.ts';
import { LinuxGuest, missingGuest, type RunningGuest } from '../support/linux-guest.ts';
import { Server, TemporaryDirectory } from '../support/programs.ts';

const missing = missingGuest();
let guest: LinuxGuest | undefined;

beforeAll(async () => {
  if (missing === undefined) guest = await LinuxGuest.build();
});
afterAll(() => guest?.[Symbol.asyncDispose]());

/** How long the daemon is away: 60,000 takes too long for every day. */
const awayMs = Number(process.env['RESTART_AWAY_MS'] ?? 5_000);

function written(output: string): number {
  return Number([...output.matchAll(/^written (\d+)$/gm)].at(-1)?.[1] ?? 0);
}

/** Waits for `count` more files: the file system is alive. */
async function goesOn(running: RunningGuest, count: number): Promise<void> {
  const from = written(await running.output());
  await running.until((output) => (written(output) >= from + count ? true : undefined));
}

async function startProxy(daemon: Daemon): Promise<{ proxy: Server; port: number }> {
  const command = resolve('bin/elasticdrive.js');
  const uri = daemon.uri('disk');
  const proxy = new Server(process.execPath, [
    ...[command, 'proxy', uri, '--at', 'nbd://127.0.0.1:0'],
  ]);
  const port = await proxy.until(() => /nbd:\/\/127\.0\.0\.1:(\d+)/.exec(proxy.log)?.[1]);
  return { proxy, port: Number(port) };
}

describe('a Linux kernel behind a proxy', () => {
  it.for(['ext4', 'xfs'])(
    `has an %s that lives through a restart and a kill, ${awayMs / 1_000} s each`,
    async (fileSystem, { skip }) => {
      skip(missing !== undefined, missing);
      await using root = await TemporaryDirectory.make();
      const store = directoryStore(root.join('store'));
      await createVolume(store, 'disk', '512MiB');
      const start = (): Promise<Daemon> => Daemon.start({ store, directory: root.path });
      let daemon = await start();
      const { proxy, port } = await startProxy(daemon);
      await using _proxy = proxy;
      await using stop = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
      await once(stop, 'listening');
      const { port: stopPort } = stop.address() as { port: number };
      await new Promise((done) => stop.close(done));
      const variables = { PORT: port, FILE_SYSTEM: fileSystem, STOP_PORT: stopPort };
      await using running = await guest!.start('restarts', variables);
      await goesOn(running, 3);
      for (const end of ['stop', 'crash'] as const) {
        await daemon[end]();
        await sleep(awayMs);
        daemon = await start();
        await goesOn(running, 5);
      }
      await using _daemon = daemon;
      stop.listen(stopPort, '127.0.0.1');
      expect(await running.finish()).toMatch(/^whole \d+$/m);
      expect(proxy.log.match(/the server is back/g)).toHaveLength(2);
      expect(await proxy.stop()).toBe(0);
    },
  );
});
