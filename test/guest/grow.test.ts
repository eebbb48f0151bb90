/**
 * A stock Linux kernel whose mounted file system, under write load, grows with the volume that it is
 * on; the size stays over a kill of the daemon and when the device is connected again.
 */
import { createServer, type Server as Signal } from 'node:net';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createVolume, Daemon, directoryStore } from '../support/daemon.ts';
import { LinuxGuest, missingGuest, type RunningGuest } from '../support/linux-guest.ts';
import { Server, TemporaryDirectory } from '../support/programs.ts';
import { countFrom } from '../support/settings.ts';

const missing = missingGuest();
let guest: LinuxGuest | undefined;

beforeAll(async () => {
  if (missing === undefined) guest = await LinuxGuest.build();
});
afterAll(() => guest?.[Symbol.asyncDispose]());

const mebibyte = 2 ** 20;
/** An interpreted machine that shares its processors takes its time. */
const limitMs = 480_000;
/** Of each kind as small as it may be; what is written after growing did not fit before. */
const sizes = {
  ext4: { before: '96MiB', after: 256 * mebibyte, fillMebibytes: 120 },
  xfs: { before: '320MiB', after: 512 * mebibyte, fillMebibytes: 280 },
} as const;

function written(output: string): number {
  return Number([...output.matchAll(/^written (\d+)$/gm)].at(-1)?.[1] ?? 0);
}

/** Waits for `count` more files: the file system is alive. */
async function goesOn(running: RunningGuest, count: number): Promise<void> {
  const from = written(await running.output());
  await running.until((output) => (written(output) >= from + count ? true : undefined));
}

/** A port that nobody listens on until the guest is to see that something has happened. */
async function makeSignal(): Promise<{ signal: Signal; port: number }> {
  const signal = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  await once(signal, 'listening');
  const { port } = signal.address() as { port: number };
  await new Promise((done) => signal.close(done));
  return { signal, port };
}

async function startProxy(daemon: Daemon): Promise<{ proxy: Server; port: number }> {
  const proxy = new Server(process.execPath, [
    ...[resolve('bin/elasticdrive.js'), 'proxy', daemon.uri('disk')],
    ...['--at', 'nbd://127.0.0.1:0'],
  ]);
  const port = await proxy.until(() => /nbd:\/\/127\.0\.0\.1:(\d+)/.exec(proxy.log)?.[1]);
  return { proxy, port: Number(port) };
}

/** Each takes minutes: the first is for every day, GROW_CASES says how many. */
const cases = (
  [
    ['ext4', 'nbd-client', ''],
    ['xfs', 'nbd-client', ''],
    ['ext4', 'nbd-client -nonetlink', '-nonetlink'],
  ] as const
).slice(0, countFrom('GROW_CASES', 1));

describe('a mounted file system', () => {
  it.for(cases)(
    'of the kind %s grows under load on a device of %s',
    { timeout: limitMs },
    async (test, { skip }) => {
      const [fileSystem, , nbdFlags] = test;
      const { before, after, fillMebibytes } = sizes[fileSystem];
      skip(missing !== undefined, missing);
      await using root = await TemporaryDirectory.make();
      const store = directoryStore(root.join('store'));
      await createVolume(store, 'disk', before);
      const start = (): Promise<Daemon> => Daemon.start({ store, directory: root.path });
      let daemon = await start();
      const { proxy, port } = await startProxy(daemon);
      await using _proxy = proxy;
      const [grown, stop] = [await makeSignal(), await makeSignal()];
      await using running = await guest!.start('grow', {
        ...{ PORT: port, FILE_SYSTEM: fileSystem, NBD_FLAGS: nbdFlags },
        ...{ FILL_MEBIBYTES: fillMebibytes },
        ...{ GROWN_PORT: grown.port, STOP_PORT: stop.port, GROWN_BYTES: after },
      });
      await goesOn(running, 3);
      await daemon.command('volume', 'resize', 'disk', `${after}`);
      grown.signal.listen(grown.port, '127.0.0.1');
      await running.until((output) => (output.includes('\ngrown\n') ? true : undefined));
      await goesOn(running, 3);
      await daemon.crash();
      daemon = await start();
      await using _daemon = daemon;
      await goesOn(running, 3);
      stop.signal.listen(stop.port, '127.0.0.1');
      expect(await running.finish()).toMatch(/^whole \d+$/m);
      grown.signal.close();
      stop.signal.close();
      expect(proxy.log).toContain('the export has grown');
      expect(await proxy.stop()).toBe(0);
    },
  );
});
