/**
 * What the daemon needs goes away while clients write: the store, the room for the journal, the
 * journal's disk. Nothing that was answered may be missing afterwards.
 */
import { mkdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import type { DaemonStatus, VolumeStatus } from '../../src/host/status.ts';
import { createVolume, Daemon, directoryStore, type TestStore } from '../support/daemon.ts';
import { NbdClient, NbdError } from '../support/nbd-client.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';
import { missingRoot } from '../support/requirements.ts';
import { missingRgw, startRgw } from '../support/rgw.ts';
import { requireSoundAt } from '../support/sound-stores.ts';
import { bucketOn } from '../support/stores.ts';
import { errorNumber } from '../../src/nbd/wire.ts';
import { blockBytes, encodeBlock, History } from './history.ts';
import { Load, type LoadCounts } from './load.ts';
import { crashSeed, outageSeconds } from './settings.ts';

/** Each file of the journal is written in full before it is used. */
const slowDiskMs = 150_000;

const volumeBytes = 64 * 2 ** 20;
const shape = { clients: 3, depth: 8, flushShare: 0.02, maximumBlocks: 64 };

async function volumeStatus(daemon: Daemon): Promise<VolumeStatus> {
  const { volumes } = (await daemon.status()) as DaemonStatus;
  const volume = volumes.find(({ name }) => name === 'disk');
  if (volume === undefined) throw new Error('no volume is attached');
  return volume;
}

async function journalFull(daemon: Daemon, counts: LoadCounts): Promise<void> {
  let last: unknown;
  try {
    await daemon.until(async () => {
      const status = await volumeStatus(daemon);
      last = status;
      return status.journalFiles === status.journalFilesMaximum ? true : undefined;
    }, slowDiskMs);
  } catch (error) {
    throw new Error(`${JSON.stringify(counts)} ${JSON.stringify(last)}`, { cause: error });
  }
}

async function verifyAll(daemon: Daemon, history: History): Promise<void> {
  const client = await NbdClient.connect(daemon.socketPath, 'disk');
  history.verify(await client.readAll(), 'all');
  client.destroy();
}

/** Everything that was answered is there, from this daemon and from a machine that has the store alone. */
async function verifyEverywhere(
  daemon: Daemon,
  store: TestStore,
  directory: string,
  history: History,
): Promise<void> {
  await verifyAll(daemon, history);
  await daemon.stop();
  await using elsewhere = await Daemon.start({ store, directory });
  await verifyAll(elsewhere, history);
  await elsewhere.stop();
  await requireSoundAt(store);
}

/** A client of a volume that this daemon has open and nothing of in any cache: its blocks are all 7. */
async function coldVolume(store: TestStore, daemon: Daemon, directory: string): Promise<NbdClient> {
  await createVolume(store, 'cold', '1MiB');
  await using writer = await Daemon.start({ store, directory });
  const client = await NbdClient.connect(writer.socketPath, 'cold');
  await client.write(0, new Uint8Array(2 ** 20).fill(7));
  client.destroy();
  await writer.stop();
  const cold = await NbdClient.connect(daemon.socketPath, 'cold');
  return cold;
}

/** Mounts a file system in memory of so many bytes where a daemon's state directory will be. */
async function withSmallDisk<T>(
  directory: string,
  size: string,
  use: (resize: (size: string) => Promise<unknown>) => Promise<T>,
): Promise<T> {
  const state = `${directory}/state`;
  await mkdir(state, { recursive: true });
  await run('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=0700`, 'tmpfs', state]);
  try {
    return await use((wanted) => run('mount', ['-o', `remount,size=${wanted}`, state]));
  } finally {
    await run('umount', [state]);
  }
}

describe('a store that goes away under load', () => {
  it('lets writes go on, then wait for room, and fails none', {
    timeout: 300_000 + outageSeconds * 2_000,
  }, async ({ skip }) => {
    const missing = missingRgw();
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    await using rgw = await startRgw();
    const store = await bucketOn(rgw);
    await createVolume(store, 'disk', String(volumeBytes));
    const flags = ['--journal-size', '64MiB', '--upload-interval', '200ms'];
    await using daemon = await Daemon.start({ store, directory: root.join('one'), flags });
    const cold = await coldVolume(store, daemon, root.join('three'));
    const history = new History(volumeBytes / blockBytes);
    const load = new Load(history, seededRandom(crashSeed), shape);
    const { counts } = load;
    const loading = load.run(daemon.socketPath, 'disk');
    const answered = (count: number): Promise<true> =>
      daemon.until(() => (counts.answered >= count ? true : undefined), slowDiskMs);
    const outages = [
      [() => rgw.pause(), () => rgw.resume()],
      [() => rgw.stopGateway(), () => rgw.startGateway()],
    ] as const;
    await answered(300);
    const waiting: Promise<PromiseSettledResult<Uint8Array>[]>[] = [];
    for (const [end, begin] of outages) {
      const before = counts.answered;
      await end();
      try {
        // It takes what the journal has room for, and no more; nobody is told of a failure.
        await answered(before + 100);
        await journalFull(daemon, counts);
        const reading = Promise.allSettled([cold.read(0, blockBytes)]);
        await sleep(1_000);
        const full = counts.answered;
        await sleep(outageSeconds * 1_000);
        expect(counts.answered).toBe(full);
        expect(await volumeStatus(daemon)).not.toHaveProperty('failure');
        const client = await NbdClient.connect(daemon.socketPath, 'disk');
        expect(await client.read(0, 512)).toHaveLength(512);
        client.destroy();
        // What only the store has is waited for, up to its deadline.
        if (outageSeconds > 90) {
          const reason = new NbdError(errorNumber.EIO);
          expect(await reading).toEqual([{ status: 'rejected', reason }]);
        } else if (outageSeconds < 45) waiting.push(reading);
      } finally {
        await begin();
      }
      await answered(counts.answered + 300);
    }
    load.stop();
    await loading;
    for (const [reading] of await Promise.all(waiting)) {
      expect(reading).toEqual({ status: 'fulfilled', value: new Uint8Array(blockBytes).fill(7) });
    }
    expect(await cold.read(0, blockBytes)).toEqual(new Uint8Array(blockBytes).fill(7));
    cold.destroy();
    await verifyEverywhere(daemon, store, root.join('two'), history);
  });
});

describe('a local disk that is full', () => {
  it('is no failure while a journal file is in use that will be free', async ({ skip }) => {
    const missing = missingRoot();
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    const store = directoryStore(root.join('store'));
    await createVolume(store, 'disk', String(volumeBytes));
    await withSmallDisk(root.join('one'), '20m', async () => {
      // Two journal files fit, where seven may be made.
      const flags = ['--journal-size', '64MiB', '--cache-disk', '0'];
      await using daemon = await Daemon.start({ store, directory: root.join('one'), flags });
      const history = new History(volumeBytes / blockBytes);
      const load = new Load(history, seededRandom(crashSeed + 1), shape);
      const loading = load.run(daemon.socketPath, 'disk');
      await daemon.until(() => (load.counts.answered >= 2_000 ? true : undefined));
      load.stop();
      await loading;
      expect((await volumeStatus(daemon)).journalFiles).toBeLessThanOrEqual(2);
      await verifyEverywhere(daemon, store, root.join('two'), history);
    });
  });

  it('refuses writes with ENOSPC where not one file fits, until there is room', async ({
    skip,
  }) => {
    const missing = missingRoot();
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    const store = directoryStore(root.join('store'));
    await createVolume(store, 'disk', String(volumeBytes));
    const history = new History(volumeBytes / blockBytes);
    const write = async (daemon: Daemon, firstBlock: number): Promise<void> => {
      const client = await NbdClient.connect(daemon.socketPath, 'disk');
      try {
        const sent = history.send(firstBlock, 1);
        const block = new Uint8Array(blockBytes);
        encodeBlock(block, sent.sequence, firstBlock);
        await client.write(firstBlock * blockBytes, block);
        history.answer(sent);
        await client.flush();
      } finally {
        client.destroy();
      }
    };
    await using before = await Daemon.start({ store, directory: root.join('before') });
    await write(before, 7);
    await before.stop();
    await withSmallDisk(root.join('one'), '4m', async (resize) => {
      const flags = ['--cache-disk', '0'];
      await using daemon = await Daemon.start({ store, directory: root.join('one'), flags });
      await verifyAll(daemon, history);
      await expect(write(daemon, 8)).rejects.toEqual(new NbdError(errorNumber.ENOSPC));
      expect(daemon.log).toMatch(/local disk is full: volumes\/.*\.journal .*free some space/);
      await resize('64m');
      await write(daemon, 9);
      await verifyEverywhere(daemon, store, root.join('two'), history);
    });
  });
});
