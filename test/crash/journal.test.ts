/**
 * The journal's disk fails or changes what it was given, under a real daemon: the volume is read-only
 * and says why, or is not attached; nothing that was flushed is forgotten, and nothing changed is
 * served or uploaded.
 */
import { open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import type { DaemonStatus } from '../../src/host/status.ts';
import { errorNumber } from '../../src/nbd/wire.ts';
import { createVolume, Daemon, directoryStore } from '../support/daemon.ts';
import { HostDisk, missingHostDisk } from '../support/host-disk.ts';
import { ConnectionLost, NbdClient, NbdError } from '../support/nbd-client.ts';
import { accepts, run, Server, TemporaryDirectory } from '../support/programs.ts';
import { missingFileSystem, missingPrograms } from '../support/requirements.ts';
import { blockBytes, decodeBlock, encodeBlock } from './history.ts';

const inputOutputError = new NbdError(errorNumber.EIO);

/** Where the data of a segment begins in its journal file. */
const dataAt = 135_168;

async function write(client: NbdClient, first: number, count: number): Promise<void> {
  const data = new Uint8Array(count * blockBytes);
  for (let at = 0; at < count; at += 1) {
    encodeBlock(data.subarray(at * blockBytes), 1 + first + at, first + at);
  }
  await client.write(first * blockBytes, data);
}

async function expectBlocks(client: NbdClient, first: number, count: number): Promise<void> {
  const data = await client.read(first * blockBytes, count * blockBytes);
  for (let at = 0; at < count; at += 1) {
    expect(decodeBlock(data.subarray(at * blockBytes), first + at)).toBe(1 + first + at);
  }
}

async function failureOf(daemon: Daemon): Promise<string | undefined> {
  return ((await daemon.status()) as DaemonStatus).volumes[0]?.failure;
}

/** The journal of the one volume of a machine. */
async function journalOf(machine: string): Promise<string> {
  const [id = ''] = await readdir(`${machine}/state/volumes`);
  return `${machine}/state/volumes/${id}/journal`;
}

async function flip(path: string, position: number): Promise<void> {
  const file = await open(path, 'r+');
  const byte = new Uint8Array(1);
  await file.read(byte, 0, 1, position);
  await file.write(new Uint8Array([(byte[0] ?? 0) ^ 4]), 0, 1, position);
  await file.close();
}

/** The journal file that holds a block, and where in it. */
async function placeOf(journal: string, block: number): Promise<[path: string, position: number]> {
  const wanted = new Uint8Array(blockBytes);
  encodeBlock(wanted, 1 + block, block);
  for (const name of (await readdir(journal)).sort()) {
    const file = await open(`${journal}/${name}`, 'r');
    const bytes = await file.readFile();
    await file.close();
    const at = bytes.indexOf(wanted, dataAt);
    if (at >= 0) return [`${journal}/${name}`, at + 40];
  }
  throw new Error(`block ${block} is in no journal file`);
}

describe('a journal that the disk has changed', () => {
  it('makes the volume read-only when it is to be uploaded, and is not taken after a crash', async () => {
    await using root = await TemporaryDirectory.make();
    const machine = root.join('one');
    const store = directoryStore(root.join('store'));
    await createVolume(store, 'disk', '64MiB');
    const options = { store, directory: machine, unchecked: true } as const;
    await using daemon = await Daemon.start({ ...options, flags: ['--upload-interval', '1h'] });
    const client = await NbdClient.connect(daemon.socketPath, 'disk');
    await write(client, 0, 16);
    await client.flush();
    const journal = await journalOf(machine);
    const [path, position] = await placeOf(journal, 3);
    await flip(path, position);
    // A full segment goes to the store as soon as the clients rest.
    for (let block = 16; block < 2_064; block += 256) await write(client, block, 256);
    await client.flush();
    const failure = await daemon.until(() => failureOf(daemon));
    expect(failure).toMatch(/Volume disk is read-only since its journal failed: .*\.journal/);
    expect(daemon.log).toContain('volume is read-only from now on');
    await expect(write(client, 9, 1)).rejects.toEqual(inputOutputError);
    await expect(client.flush()).rejects.toEqual(inputOutputError);
    await expectBlocks(client, 1_000, 100);
    client.destroy();
    await daemon.crash();

    await using again = await Daemon.start(options);
    await expect(NbdClient.connect(again.socketPath, 'disk')).rejects.toThrow(ConnectionLost);
    expect(again.log).toMatch(/a client was refused volume=disk code=corrupt .*journal is damaged/);
    // The disk gives back what it had: nothing is lost.
    await flip(path, position);
    const mended = await NbdClient.connect(again.socketPath, 'disk');
    await expectBlocks(mended, 0, 2_064);
    mended.destroy();
    await again.stop();
  });

  it('is kept until somebody moves it away', async () => {
    await using root = await TemporaryDirectory.make();
    const machine = root.join('one');
    const store = directoryStore(root.join('store'));
    await createVolume(store, 'disk', '64MiB');
    const options = { store, directory: machine, flags: ['--upload-interval', '1h'] };
    await using daemon = await Daemon.start(options);
    const client = await NbdClient.connect(daemon.socketPath, 'disk');
    await write(client, 0, 16);
    await client.flush();
    const journal = await journalOf(machine);
    const [path] = await placeOf(journal, 3);
    const file = await open(path, 'r');
    const marked = async (): Promise<true | undefined> => {
      const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 512);
      return buffer.readUInt32LE(0) > 0 ? true : undefined;
    };
    await daemon.until(marked);
    await daemon.crash();
    await file.close();
    await run('truncate', ['--size', '1M', path]);

    await using again = await Daemon.start(options);
    await expect(NbdClient.connect(again.socketPath, 'disk')).rejects.toThrow(ConnectionLost);
    expect(again.log).toMatch(/journal is damaged: volumes\/\w+\/journal\/\d+\.journal was cut/);
    expect(await readdir(journal)).toContain(path.slice(journal.length + 1));
    await rename(journal, root.join('kept'));
    const empty = await NbdClient.connect(again.socketPath, 'disk');
    expect(await empty.read(0, 65_536)).toEqual(new Uint8Array(65_536));
    await write(empty, 20, 4);
    await empty.flush();
    empty.destroy();
    await again.stop();
  });
});

describe('a local disk that fails', () => {
  const missing =
    missingHostDisk() ??
    missingFileSystem('ext4') ??
    missingPrograms({ nbdkit: 'nbdkit', 'mkfs.ext4': 'e2fsprogs' });

  it('makes the volume read-only, and has all that was flushed when it is back', async ({
    skip,
  }) => {
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    const broken = root.join('broken');
    const socket = root.join('nbdkit');
    await using nbdkit = new Server('nbdkit', [
      ...['--foreground', '--unix', socket, '--filter=error', 'memory', '256M'],
      ...['error-pwrite=EIO', 'error-pwrite-rate=100%', `error-pwrite-file=${broken}`],
    ]);
    await nbdkit.until(() => accepts(socket));
    const state = root.join('one', 'state');
    const uri = `nbd+unix:///?socket=${socket}`;
    const disk = await HostDisk.attach(uri, root.join('fuse'));
    const store = directoryStore(root.join('store'));
    await createVolume(store, 'disk', '64MiB');
    const options = { store, directory: root.join('one'), unchecked: true } as const;
    const flags = ['--upload-interval', '1h', '--cache-disk', '0'];
    try {
      await run('mkfs.ext4', ['-q', '-O', '^has_journal', disk.device]);
      await disk.mount(state, 'errors=continue');
      const daemon = await Daemon.start({ ...options, flags });
      await using _ = daemon;
      const client = await NbdClient.connect(daemon.socketPath, 'disk');
      await write(client, 0, 64);
      await client.flush();
      await writeFile(broken, '');
      const failing = (async () => {
        for (let block = 64; ; block += 1) {
          await write(client, block, 1);
          await client.flush();
        }
      })();
      await expect(failing).rejects.toEqual(inputOutputError);
      expect(await failureOf(daemon)).toMatch(/read-only since its journal failed: .*local disk/);
      expect(daemon.log).toContain('volume is read-only from now on');
      await expectBlocks(client, 0, 64);
      client.destroy();
      await daemon.crash();
      await rm(broken);
      await disk.unmount();
      await run('e2fsck', ['-fy', disk.device], { statuses: [0, 1] });
      await disk.mount(state, 'defaults');
      const again = await Daemon.start(options);
      await using __ = again;
      const mended = await NbdClient.connect(again.socketPath, 'disk');
      await expectBlocks(mended, 0, 64);
      mended.destroy();
      await again.stop();
    } finally {
      await disk.detach();
    }
  });
});
