import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { StorageError } from '../../src/base/errors.ts';
import { seededRandom } from '../../src/base/random.ts';
import { DiskContent } from '../support/memory-disk.ts';
import { blockBytes } from './contents.ts';
import { plantedBugs } from './canaries.ts';
import { History } from './history.ts';
import { runSeed } from './run.ts';
import { foundBugs } from './seeds.ts';
import { Stage } from './stage.ts';
import * as engine from './surface.ts';

/** Sizes as they are: `npm run simulate` has the many seeds, and the small sizes. */
const firstSeed = Math.floor(Math.random() * 1e9);

test(`the engine keeps its promises in worlds of full size (seeds from ${firstSeed})`, async () => {
  for (let seed = firstSeed; seed < firstSeed + 8; seed += 1) {
    const { failure } = await runSeed(engine, seed);
    expect(failure, `npm run simulate -- --seed ${seed} --seeds 1 --shape full`).toBeUndefined();
  }
});

test('each bug that a seed has found is planted again, or has a test of its own', () => {
  const names = new Set(plantedBugs.map(({ name }) => name));
  const strangers = foundBugs.filter(
    ({ shownBy }) => !names.has(shownBy) && !/^[\w-]+\.test\.ts/.test(shownBy),
  );
  expect(strangers).toEqual([]);
});

test('each planted bug has its place in the source, once', () => {
  const source = (file: string): string =>
    readFileSync(new URL(`../../src/${file}`, import.meta.url), 'utf8');
  const homeless = plantedBugs.filter(({ patches }) =>
    patches.some(({ file, find }) => source(file).split(find).length !== 2),
  );
  expect(homeless.map(({ name }) => name)).toEqual([]);
});

test('one seed is one trace', async () => {
  // Some of them have their clients on the network.
  for (let seed = firstSeed; seed < firstSeed + 8; seed += 1) {
    const [first, second] = [await runSeed(engine, seed), await runSeed(engine, seed)];
    expect(second).toEqual(first);
  }
  const first = await runSeed(engine, firstSeed);
  expect((await runSeed(engine, firstSeed + 1)).hash).not.toBe(first.hash);
});

test('a journal file that was being made when its maker was killed keeps what is flushed to it', async () => {
  const stage = new Stage(engine, 'local', firstSeed, { writesAnswered: 'memory' });
  const { world, host } = stage;
  await stage.play(() => world.createVolume());
  let unwritten = Math.ceil(engine.journalFileBytes / 2 ** 20);
  host.disk.onCall = (name) => {
    if (name === 'write') unwritten -= 1;
  };
  const requests = [{ kind: 'write', first: 0, count: 1 }, { kind: 'flush' }] as const;
  await stage.play(
    () => stage.perform(requests),
    () => unwritten === 0,
  );
  // All of the file is written, and nothing of it synced.
  stage.kill();
  await stage.play(() => stage.perform(requests));
  stage.losePower(() => false);
  await expect(stage.play(() => stage.comeBack())).resolves.toBeUndefined();
});

describe('the reference model', () => {
  const bytes = (value: number): Uint8Array => new Uint8Array(blockBytes).fill(value);
  const write = (history: History, block: number, value: number, asked: number): void => {
    history.ask(block, bytes(value), asked).answered = asked + 1;
  };
  /** Block 0 is written, then block 1, then block 0 again. */
  const written = (): History => {
    const history = History.empty(2);
    write(history, 0, 1, 10);
    write(history, 1, 2, 20);
    write(history, 0, 3, 30);
    return history;
  };

  test.each([
    [0, 0],
    [1, 0],
    [1, 2],
    [3, 2],
  ])('takes any prefix: %i, %i', (first, second) => {
    const resumed = written().resume([bytes(first), bytes(second)], 40);
    expect(resumed.newest(0).bytes).toEqual(bytes(first));
  });

  test.each([
    [0, 2, 'no prefix'],
    [3, 0, 'no prefix'],
    [7, 2, 'block 0 came back as it never was'],
  ])('refuses what is none: %i, %i', (first, second, message) => {
    expect(() => written().resume([bytes(first), bytes(second)], 40)).toThrow(message);
  });

  test('lets either be there of two writes that were under way at the same time', () => {
    const history = History.empty(2);
    history.ask(0, bytes(1), 10).answered = 30;
    history.ask(1, bytes(2), 20).answered = 40;
    expect(history.resume([bytes(0), bytes(2)], 50).newest(1).bytes).toEqual(bytes(2));
  });

  test('refuses what lacks a write that was flushed, until its disk is lost', () => {
    const history = written();
    history.promiseOnDisk(25, 1);
    expect(() => history.resume([bytes(1), bytes(0)], 40)).toThrow('flushed');
    history.renounce(2);
    expect(() => history.resume([bytes(1), bytes(0)], 40)).toThrow('flushed');
    history.renounce(1);
    expect(history.resume([bytes(1), bytes(0)], 40).newest(1).bytes).toEqual(bytes(0));
  });

  test('never gives up what is in the store', () => {
    const history = written();
    history.promiseInStore(25);
    history.renounce();
    expect(() => history.resume([bytes(1), bytes(0)], 40)).toThrow('block 1 came back');
  });

  test('refuses a flush to the store of what another host has gone on without', () => {
    const history = written();
    history.resume([bytes(1), bytes(0)], 40);
    expect(() => history.promiseInStore(15)).not.toThrow();
    expect(() => history.promiseInStore(50)).toThrow('another host');
  });

  test('allows a read what the block had while it took, and nothing older', () => {
    const history = written();
    expect(history.allows(0, bytes(1), 0, 25, 35)).toBe(true);
    expect(history.allows(0, bytes(3), 0, 25, 35)).toBe(true);
    expect(history.allows(0, bytes(3), 0, 22, 28)).toBe(false);
    expect(history.allows(0, bytes(1), 0, 32, 35)).toBe(false);
  });
});

describe('the disk that loses power', () => {
  const kept = (content: DiskContent): string =>
    Buffer.from(content.require('file').whole()).toString();

  test('keeps what was synced, and of the rest what it likes, by sectors', () => {
    const content = new DiskContent();
    const file = content.create('file');
    file.write(0, Buffer.from('a'.repeat(1024)));
    file.sync();
    file.write(0, Buffer.from('b'.repeat(1024)));
    let sector = 0;
    content.losePower(() => {
      sector += 1;
      return sector === 2;
    });
    expect(kept(content)).toBe('a'.repeat(512) + 'b'.repeat(512));
  });

  test('never brings back what a durable write went over', () => {
    const random = seededRandom(1);
    for (let round = 0; round < 50; round += 1) {
      const content = new DiskContent();
      const file = content.create('file');
      file.write(0, Buffer.from('old'));
      file.write(0, Buffer.from('new')).durable = true;
      content.losePower(() => random.fraction() < 0.5);
      expect(kept(content)).toBe('new');
    }
  });

  test('makes durable what was written when a sync began, and no more', () => {
    const content = new DiskContent();
    const file = content.create('file');
    file.write(0, Buffer.from('one'));
    const last = file.lastUnsynced;
    file.write(3, Buffer.from('two'));
    if (last !== undefined) file.sync(last);
    content.losePower(() => false);
    expect(kept(content)).toBe('one');
    expect(() => content.require('other')).toThrow(StorageError);
  });
});
