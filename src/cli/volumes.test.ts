import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestMachine } from './testing/run-program.ts';

let directory: string;
let machine: TestMachine;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'elasticdrive-cli-'));
  machine = new TestMachine(directory, { HOME: directory });
});
afterEach(() => rm(directory, { recursive: true }));

/** What the last command printed with `--json`. */
function answer(): unknown {
  return JSON.parse(machine.stdout.text);
}

describe('elasticdrive volume', () => {
  it('creates, lists, shows and deletes', async () => {
    const create = ['volume', 'create', 'data', '--size', '4T', '--codec', 'lz4'];
    expect(await machine.run(...create, '--durability', 'store')).toBe(0);
    const store = `file://${directory}/elasticdrive-data/store`;
    expect(machine.stdout.text).toBe(`created data, 4TiB, in ${store}\n`);
    expect(await machine.run('volume', 'list', '--json')).toBe(0);
    const volume = {
      name: 'data',
      store,
      sizeBytes: 4 * 2 ** 40,
      codec: 'lz4',
      durability: 'store',
      writer: null,
      headSegment: null,
    };
    expect(answer()).toMatchObject([volume]);
    expect(await machine.run('volume', 'show', 'data', '--json')).toBe(0);
    expect(answer()).toMatchObject({ ...volume, usage: { objects: 1 } });
    expect(await machine.run('volume', 'show', 'data')).toBe(0);
    expect(machine.stdout.text).toMatch(/^size +4TiB \(4398046511104 bytes\)$/m);
    expect(await machine.run('volume', 'list')).toBe(0);
    expect(machine.stdout.text).toMatch(/^NAME .*\ndata +4TiB +lz4 +store .* file:/);
    expect(await machine.run('volume', 'delete', 'data', '--confirm', 'data')).toBe(0);
    expect(await machine.run('volume', 'list')).toBe(0);
    expect(machine.stdout.text).toBe(`no volume in ${store}\n`);
  });

  it('keeps what is written for a while, when told so', async () => {
    expect(await machine.run('volume', 'create', 'data', '--size', '1G', '--retain', '24h')).toBe(
      0,
    );
    expect(await machine.run('volume', 'show', 'data', '--json')).toBe(0);
    expect(answer()).toMatchObject({ retention: { retainMs: 86_400_000 } });
    expect(await machine.run('volume', 'set', 'data', '--retain', '2h')).toBe(0);
    expect(machine.stdout.text).toMatch(/^data keeps what is written for 2h; .* as of \d{4}-/);
    expect(await machine.run('volume', 'show', 'data')).toBe(0);
    expect(machine.stdout.text).toMatch(/^keeps +2h$/m);
    expect(await machine.run('volume', 'set', 'data', '--retain', '0')).toBe(0);
    expect(await machine.run('volume', 'show', 'data', '--json')).toBe(0);
    expect(answer()).toMatchObject({ retention: { retainMs: 0, from: null, through: null } });
    expect(await machine.run('volume', 'set', 'data', '--retain', 'soon')).toBe(2);
    expect(machine.stderr.text).toContain('--retain expected a duration');
  });

  it.each([
    [['volume', 'show', 'gone'], 10, 'there is no volume "gone"'],
    [['volume', 'delete', 'gone', '--confirm', 'gone'], 10, 'there is no volume "gone"'],
    [['volume', 'delete', 'v', '--confirm', 'w'], 2, 'repeat its name with --confirm v'],
    [['volume', 'create', 'v', '--size', '1M'], 1, 'a volume v in'],
    [['volume', 'create', 'w', '--size', '1000'], 2, 'multiple of 4096'],
    [['volume', 'create', '-v', '--size', '1M'], 2, "unknown option '-v'"],
    [['volume', 'create', 'a/b', '--size', '1M'], 2, '"a/b" cannot name a volume'],
  ])('exits with the status of what went wrong: %j', async (argv, status, reason) => {
    expect(await machine.run('volume', 'create', 'v', '--size', '1M')).toBe(0);
    expect(await machine.run(...argv)).toBe(status);
    expect(machine.stderr.text).toContain(reason);
  });

  it('works on several stores, but not where it would have to choose', async () => {
    await writeFile(
      join(directory, 'elasticdrive.toml'),
      '[[store]]\nurl = "s3://a"\nregion = "x"\n[[store]]\nurl = "s3://b"\n',
    );
    expect(await machine.run('volume', 'create', 'v', '--size', '1M')).toBe(2);
    expect(machine.stderr.text).toContain('choose one with --store');
    for (const store of ['s3://a', 's3://b']) {
      expect(await machine.run('volume', 'create', 'v', '--size', '1M', '--store', store)).toBe(0);
    }
    expect(machine.requests.at(-2)).toMatchObject({
      url: 's3://a',
      settings: { 's3.region': 'x' },
    });
    expect(await machine.run('volume', 'list', '--json')).toBe(0);
    expect(answer()).toMatchObject([{ store: 's3://a' }, { store: 's3://b' }]);
    expect(await machine.run('volume', 'delete', 'v', '--confirm', 'v')).toBe(1);
    expect(machine.stderr.text).toContain('choose with --store');
  });
});

describe('elasticdrive store probe', () => {
  it('says what a store can be trusted with', async () => {
    expect(await machine.run('store', 'probe', 's3://bucket', '--s3-region', 'x')).toBe(0);
    expect(machine.stdout.text).toMatch(/^compare-and-swap +ok /m);
    expect(machine.stdout.text).toContain('s3://bucket can be trusted with volumes');
    expect(machine.requests[0]).toMatchObject({ settings: { 's3.region': 'x' } });
    expect(await machine.run('store', 'probe', 'there', '--json')).toBe(0);
    expect(answer()).toMatchObject({ url: `file://${directory}/there`, trustedForWriting: true });
  });

  it('takes the store as the configuration knows it', async () => {
    const file = join(directory, 'elasticdrive.toml');
    await writeFile(file, '[[store]]\nurl = "s3://a"\nregion = "x"\n');
    expect(await machine.run('store', 'probe', 's3://a')).toBe(0);
    expect(machine.requests[0]).toMatchObject({ settings: { 's3.region': 'x' } });
    expect(await machine.run('store', 'probe', 's3://b')).toBe(0);
    expect(machine.requests[1]?.settings['s3.region']).toBeUndefined();
  });

  it('refuses what names no store', async () => {
    expect(await machine.run('store', 'probe', 'ftp://a')).toBe(2);
    expect(machine.stderr.text).toContain('s3://bucket/prefix');
  });
});
