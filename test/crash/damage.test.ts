/**
 * Objects of a volume are flipped, cut short, deleted. Exactly the blocks that they held fail, each
 * with a line in the log that says which volume, which object and which blocks; all others are
 * right; nothing reads as what it is not. What a volume cannot be opened without is said too.
 */
import { cp, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { errorNumber } from '../../src/nbd/wire.ts';
import {
  createVolume,
  Daemon,
  directoryStore,
  elasticdrive,
  type TestStore,
} from '../support/daemon.ts';
import { ConnectionLost, NbdClient, NbdError } from '../support/nbd-client.ts';
import { TemporaryDirectory } from '../support/programs.ts';
import { blockBytes, decodeBlock, encodeBlock } from './history.ts';

/** Two pages of the map; a segment's worth of blocks in the first, half of one in the second. */
const volumeBytes = 128 * 2 ** 20;
const pageBlocks = 16_384;
const written = [
  { first: 0, count: 2_048 },
  { first: pageBlocks, count: 1_024 },
] as const;
const frameBlocks = 16;

let root: TemporaryDirectory;
let copies = 0;

beforeAll(async () => {
  root = await TemporaryDirectory.make();
  const store = directoryStore(root.join('store'));
  await createVolume(store, 'disk', String(volumeBytes));
  await createVolume(store, 'other', '1MiB');
  await using daemon = await Daemon.start({ store, directory: root.join('writer') });
  const client = await NbdClient.connect(daemon.socketPath, 'disk');
  for (const { first, count } of written) {
    for (let block = first; block < first + count; block += 256) {
      const data = new Uint8Array(256 * blockBytes);
      for (let at = 0; at < 256; at += 1) {
        encodeBlock(data.subarray(at * blockBytes), 1 + block + at, block + at);
      }
      await client.write(block * blockBytes, data);
    }
    await client.flush();
  }
  client.destroy();
  await daemon.stop();
});
afterAll(() => root[Symbol.asyncDispose]());

/** A copy of the store, and the files of one kind of object in it. */
async function damaged(kind: string): Promise<{ store: TestStore; files: string[] }> {
  copies += 1;
  const path = root.join(`store-${copies}`);
  await cp(root.join('store'), path, { recursive: true });
  const { id } = JSON.parse(await registerValue(`${path}/names/disk@`)) as { id: string };
  const directory = `${path}/volumes/${id}/${kind}`;
  const files = (await readdir(directory)).sort().map((name) => `${directory}/${name}`);
  return { store: directoryStore(path), files };
}

/** The newest value of a register of a directory store. */
async function registerValue(path: string): Promise<string> {
  const [incarnation = ''] = await readdir(path);
  const versions = (await readdir(`${path}/${incarnation}`)).sort();
  return readFile(`${path}/${incarnation}/${versions.at(-1)}`, 'utf8');
}

/** A machine that has nothing of the volume but the store. */
function start(store: TestStore): Promise<Daemon> {
  const flags = ['--cache-disk', '0', '--read-ahead', '0'];
  return Daemon.start({ store, directory: root.join(`reader-${copies}`), flags, unchecked: true });
}

/** Reads all that was written block by block; the blocks that failed. Wrong bytes fail the test. */
async function failedBlocks(client: NbdClient): Promise<number[]> {
  const read = async (block: number): Promise<number[]> => {
    try {
      const bytes = await client.read(block * blockBytes, blockBytes);
      expect(decodeBlock(bytes, block), `block ${block}`).toBe(1 + block);
      return [];
    } catch (error) {
      expect(error).toEqual(new NbdError(errorNumber.EIO));
      return [block];
    }
  };
  const failed: number[] = [];
  for (const { first, count } of written) {
    for (let block = first; block < first + count; block += 64) {
      failed.push(...(await Promise.all(blocks(block, 64).map(read))).flat());
    }
  }
  return failed;
}

function blocks(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, at) => first + at);
}

async function flip(path: string, fromEnd: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[bytes.length - fromEnd] = (bytes[bytes.length - fromEnd] ?? 0) ^ 0x10;
  await writeFile(path, bytes);
}

interface Case {
  readonly name: string;
  readonly kind: 'segments' | 'pages';
  readonly harm: (path: string) => Promise<void>;
  readonly lost: readonly number[];
  readonly says: RegExp;
}

const repair = 'Bring it back from a replica or an earlier version';
const cases: readonly Case[] = [
  {
    name: 'a bit of a segment is flipped',
    kind: 'segments',
    harm: (path) => flip(path, 100),
    lost: blocks(2_048 - frameBlocks, frameBlocks),
    says: /Volume disk: block 2032 cannot be read\. Object volumes\/\w+\/segments\/0+1-0+1 is damaged/,
  },
  {
    name: 'a segment is cut short',
    kind: 'segments',
    harm: (path) => truncate(path, 2 ** 20),
    lost: blocks(0, 2_048),
    says: /Volume disk: block 0 cannot be read\. Object volumes\/\w+\/segments\/0+1-0+1 is damaged/,
  },
  {
    name: 'a segment is deleted',
    kind: 'segments',
    harm: (path) => rm(path),
    lost: blocks(0, 2_048),
    says: /Volume disk: block 0 cannot be read\. Object volumes\/\w+\/segments\/0+1-0+1 is damaged/,
  },
  {
    name: 'a page of the map is flipped',
    kind: 'pages',
    harm: (path) => flip(path, 1),
    lost: blocks(pageBlocks, 1_024),
    says: /Volume disk: blocks 16384 to 32767 cannot be read\. Object volumes\/\w+\/pages\/\S+ is damaged/,
  },
  {
    name: 'the pages of the map are deleted',
    kind: 'pages',
    harm: (path) => rm(path),
    lost: [...blocks(0, 2_048), ...blocks(pageBlocks, 1_024)],
    says: /Volume disk: blocks 0 to 16383 cannot be read\. Object volumes\/\w+\/pages\/\S+ is damaged/,
  },
];

describe('an object is damaged', () => {
  it.for(cases)('$name: its blocks fail, and come back with it', async (one) => {
    const { store, files } = await damaged(one.kind);
    const [path = ''] = files;
    await cp(path, `${path}.kept`);
    await rename(`${path}.kept`, root.join('kept'));
    await one.harm(path);
    await using daemon = await start(store);
    const client = await NbdClient.connect(daemon.socketPath, 'disk');
    expect(await failedBlocks(client)).toEqual(one.lost);
    expect(daemon.log).toMatch(one.says);
    expect(daemon.log).toContain(repair);
    // What is overwritten is well again, with the object as it is.
    const [block = 0] = one.lost;
    const data = new Uint8Array(blockBytes);
    encodeBlock(data, 1 + block, block);
    if (one.kind === 'segments') {
      await client.write(block * blockBytes, data);
      expect(await failedBlocks(client)).toEqual(one.lost.slice(1));
    }
    await rename(root.join('kept'), path);
    expect(await failedBlocks(client)).toEqual([]);
    client.destroy();
    await daemon.stop();
  });
});

describe('what a volume cannot be opened without is damaged', () => {
  const volumes: {
    name: string;
    kind: string;
    harm: (path: string) => Promise<void>;
    command: string[];
    says: RegExp;
  }[] = [
    {
      name: 'the checkpoint is flipped',
      kind: 'checkpoints',
      harm: (path) => flip(path, 1),
      command: ['volume', 'check', 'disk'],
      says: /Object volumes\/\w+\/checkpoints\/\S+ is damaged/,
    },
    {
      name: 'the checkpoint is deleted',
      kind: 'checkpoints',
      harm: (path) => rm(path),
      command: ['volume', 'check', 'disk'],
      says: /Object volumes\/\w+\/checkpoints\/\S+ is damaged/,
    },
    {
      name: 'the manifest is deleted',
      kind: '.',
      harm: (path) => rm(path.replace(/[^/]*$/, 'manifest.json@'), { recursive: true }),
      command: ['volume', 'list'],
      says: /The manifest of volume \w+ is missing from file:.*never taken for an empty volume/,
    },
  ];

  it.for(volumes)(
    '$name: clients are refused, and the log says why',
    async ({ kind, harm, command, says }) => {
      const { store, files } = await damaged(kind);
      await harm(files.at(-1) ?? '');
      await using daemon = await start(store);
      await expect(NbdClient.connect(daemon.socketPath, 'disk')).rejects.toThrow(ConnectionLost);
      expect(daemon.log).toMatch(says);
      const other = await NbdClient.connect(daemon.socketPath, 'other');
      expect(await other.read(0, 512)).toEqual(new Uint8Array(512));
      other.destroy();
      const said = await elasticdrive(store, [...command, '--store', store.url], [13]);
      expect(said.stdout + said.stderr).toMatch(says);
    },
  );
});
