import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { KeyName } from './keys.ts';
import { type Configuration, loadConfiguration, requireSound } from './load.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'elasticdrive-configuration-'));
});
afterEach(() => rm(directory, { recursive: true }));

interface Given {
  readonly toml?: string;
  readonly environment?: Record<string, string>;
  readonly flags?: Partial<Record<KeyName, string[]>>;
}

async function load({ toml, environment = {}, flags = {} }: Given): Promise<Configuration> {
  if (toml !== undefined) await writeFile(join(directory, 'a.toml'), toml);
  return loadConfiguration({
    configFile: toml === undefined ? undefined : 'a.toml',
    flags: new Map(Object.entries(flags) as [KeyName, string[]][]),
    environment,
    workingDirectory: directory,
  });
}

const everything = `
state_dir = "state"
default_volume = "a"
listen = ["nbd://127.0.0.1", "nbd+unix:///run/ed.sock"]
control_socket = "/run/control.sock"
durability = "store"

[[store]]
url = "s3://bucket/prefix/"
endpoint = "http://127.0.0.1:7480"
region = "eu-1"
path_style = true
storage_class = "GLACIER_IR"
ca_file = "ca.pem"

[[store]]
url = "disks"

[cache]
memory = "64MiB"
disk = 0

[journal]
size = "2G"

[upload]
interval = "250ms"
concurrency = 8

[volume.scratch]
durability = "local"
cache.memory = "1GiB"

[volume."vol.2".upload]
interval = "1h"

[log]
level = "debug"
`;

describe('a configuration file', () => {
  it('sets every key', async () => {
    const configuration = requireSound(await load({ toml: everything }));
    expect(configuration.settings).toMatchObject({
      state_dir: join(directory, 'state'),
      default_volume: 'a',
      listen: ['nbd://127.0.0.1:10809', 'nbd+unix:///run/ed.sock'],
      control_socket: '/run/control.sock',
      durability: 'store',
      'cache.memory': 64 * 2 ** 20,
      'cache.disk': 0,
      'journal.size': 2 * 2 ** 30,
      'upload.interval': 250,
      'upload.concurrency': 8,
      'log.level': 'debug',
    });
    expect(configuration.stores.map((store) => store.url)).toEqual([
      's3://bucket/prefix',
      `file://${directory}/disks`,
    ]);
    expect(configuration.stores[0]?.settings).toMatchObject({
      's3.endpoint': 'http://127.0.0.1:7480',
      's3.region': 'eu-1',
      's3.path_style': true,
      's3.storage_class': 'GLACIER_IR',
      's3.ca_file': join(directory, 'ca.pem'),
    });
    expect(configuration.stores[1]?.settings['s3.endpoint']).toBeUndefined();
  });

  it('sets keys of one volume alone', async () => {
    const { settingsOfVolume } = await load({ toml: everything });
    expect(settingsOfVolume('scratch')).toMatchObject({
      durability: 'local',
      'cache.memory': 2 ** 30,
      'upload.interval': 250,
    });
    expect(settingsOfVolume('vol.2')['upload.interval']).toBe(3_600_000);
    expect(settingsOfVolume('other')).toMatchObject({
      durability: 'store',
      'upload.interval': 250,
    });
  });

  it.each<[string, string]>([
    ['listen = "nbd://127.0.0.1"', '1: "listen" expected addresses such as "nbd://127'],
    ['a = 1', '1: unknown key "a"'],
    ['\n\nstate_dri = "x"', '3: unknown key "state_dri"; did you mean "state_dir"?'],
    ['[cache]\nmemroy = "1G"', '2: unknown key "cache.memroy"; did you mean "cache.memory"?'],
    ['[cach]\n', '1: unknown table "cach"; did you mean "cache"?'],
    [
      'cache = "1G"',
      '1: "cache" is a table with the keys cache.memory, cache.disk, cache.snapshots',
    ],
    ['[cache]\nmemory = "1GB"', '2: "cache.memory" expected a size such as 10GiB'],
    ['[cache]\nmemory = 4', '2: "cache.memory" expected a size such as 10GiB'],
    ['[cache]\nmemory = true', '2: "cache.memory" expected a size such as 10GiB'],
    ['[upload]\ninterval = 5', '2: "upload.interval" expected a duration such as 5s'],
    ['[upload]\ninterval = "5MiB"', '2: "upload.interval" expected a duration such as 5s'],
    ['upload.concurrency = "4"', '1: "upload.concurrency" expected a whole number, from 1 to 64'],
    ['upload.concurrency = 0', '1: "upload.concurrency" expected a whole number, from 1 to 64'],
    ['durability = "maybe"', '1: "durability" expected one of "local", "store"'],
    ['[[store]]\nurl = "s3://b"\npath_style = "true"', '3: "store[0].path_style" expected true or'],
    [
      '[[store]]\nurl = "s3://b"\nregoin = "a"',
      '3: unknown key "regoin" of a store; did you mean "re',
    ],
    ['[[store]]\nregion = "a"', '1: this store has no "url"'],
    ['[store]\nurl = "s3://b"', '1: write [[store]], with two brackets'],
    ['[[store]]\nurl = "s3://key:secret@bucket"', '2: "store[0].url" expected store URLs'],
    ['[volume.a]\nlisten = ["nbd://127.0.0.1"]', '2: unknown key "listen" of a volume'],
    ['[volume.a.cach]\nmemory = 5', '1: unknown table "volume.a.cach"; did you mean "volume"?'],
    ['x = = 1', '1: this is no valid TOML'],
    ['durability = "local"\ndurability = "local"', '2: this is no valid TOML'],
  ])('is refused with its line: %j', async (toml, problem) => {
    const configuration = await load({ toml });
    expect(configuration.problems[0]).toContain(`a.toml:${problem}`);
    expect(configuration.problems.join()).not.toContain('secret');
    expect(() => requireSound(configuration)).toThrow('a.toml:');
  });

  it('reports all its problems', async () => {
    const { problems } = await load({ toml: 'a = 1\n[upload]\ninterval = 5\n' });
    expect(problems).toHaveLength(2);
  });

  it('that is named must exist', async () => {
    const sources = { flags: new Map(), environment: {}, workingDirectory: directory };
    const loading = loadConfiguration({ ...sources, configFile: 'b.toml' });
    await expect(loading).rejects.toMatchObject({ code: 'usage' });
  });

  it('is looked for here, then in the home directory', async () => {
    const environment = { HOME: directory };
    await mkdir(join(directory, '.config', 'elasticdrive'), { recursive: true });
    const personal = join(directory, '.config', 'elasticdrive', 'config.toml');
    await writeFile(personal, 'default_volume = "home"');
    expect((await load({ environment })).settings.default_volume).toBe('home');
    const local = join(directory, 'elasticdrive.toml');
    await writeFile(local, 'default_volume = "here"');
    expect(await load({ environment })).toMatchObject({
      file: local,
      settings: { default_volume: 'here' },
    });
  });
});

describe('flags, environment and file', () => {
  const toml = 'upload.interval = "1s"\n[volume.a.upload]\ninterval = "2s"\n';
  const environment = { ELASTICDRIVE_UPLOAD_INTERVAL: '3s' };
  const flags = { 'upload.interval': ['4s'] };

  it('win in that order, and say where a value is from', async () => {
    const cases: [Given, number, string][] = [
      [{ toml }, 1000, 'a.toml:1'],
      [{ toml, environment }, 3000, 'ELASTICDRIVE_UPLOAD_INTERVAL'],
      [{ toml, environment, flags }, 4000, '--upload-interval'],
    ];
    for (const [given, interval, origin] of cases) {
      const { settings, said } = await load(given);
      expect(settings['upload.interval']).toBe(interval);
      expect(said.get('upload.interval')).toMatchObject({ value: interval, origin });
    }
  });

  it('win over what the file says of one volume', async () => {
    expect((await load({ toml })).settingsOfVolume('a')['upload.interval']).toBe(2000);
    const flagged = await load({ toml, flags });
    expect(flagged.settingsOfVolume('a')['upload.interval']).toBe(4000);
  });

  it('name stores, of which the file may know more', async () => {
    const store = '[[store]]\nurl = "s3://a"\nregion = "x"\n[[store]]\nurl = "s3://b"\n';
    const { stores } = await load({ toml: store, flags: { store: ['s3://a', './c'] } });
    expect(stores.map(({ url, settings }) => [url, settings['s3.region']])).toEqual([
      ['s3://a', 'x'],
      [`file://${directory}/c`, undefined],
    ]);
  });

  it('split lists in the environment at spaces', async () => {
    const { settings } = await load({
      environment: { ELASTICDRIVE_LISTEN: 'nbd://127.0.0.1:1  nbd://127.0.0.1:2' },
    });
    expect(settings.listen).toEqual(['nbd://127.0.0.1:1', 'nbd://127.0.0.1:2']);
  });

  it('name the flag or variable that is wrong', async () => {
    const { problems } = await load({
      environment: { ELASTICDRIVE_CACHE_MEMORY: 'lots' },
      flags: { listen: ['tcp:80'] },
    });
    expect(problems).toEqual([
      expect.stringMatching(/^ELASTICDRIVE_CACHE_MEMORY: "cache.memory" expected a size/),
      expect.stringMatching(/^--listen: "listen" expected addresses/),
    ]);
  });

  it('warn of a misspelt variable and leave those of Kubernetes alone', async () => {
    const { warnings, problems } = await load({
      environment: {
        ELASTICDRIVE_CACHE_MEMROY: '1G',
        ELASTICDRIVE_PORT_10809_TCP_PROTO: 'tcp',
        ELASTICDRIVE_LISTEN: '',
      },
    });
    expect(warnings).toEqual([expect.stringContaining('did you mean "ELASTICDRIVE_CACHE_MEMORY"')]);
    expect(problems).toEqual([]);
  });
});
