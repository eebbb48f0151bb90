import { describe, expect, it } from 'vitest';
import { looksLikeIni, readIni } from './ini.ts';
import { resolveConfiguration } from './resolve.ts';

/** The file as the first README shows it, with its example keys. */
const first = `[s3]
AWS_ACCESS_KEY_ID = 1234567890ABCDEFGHIK
AWS_SECRET_ACCESS_KEY = RXRXRXRXR123890713287525ABCDEFGGHIJKLzzz
BUCKET=the.name.of.the.bucket.to.create
#Stripe is the block device stripe size. 65536 is recommended.
#This is NOT the same as the block size
STRIPE=65536
#Volumesize is expressed in bytes, and should be a multiple of STRIPE
VOLUMESIZE=16777216

[server]
#PORT to listen on
port=9999
#Show a ludicrous amount of debug data in the logs?
debug=0
#cachesize is the max number of stripe elements to cache. 32 is about #2M here.
cachesize=1024
#The amount of time to store a local cache stripe. 60 is a good default.
cachettl=60
`;

describe('the INI file of the first ElasticDrive', () => {
  it('is the configuration of one drive', () => {
    const { assignments, drive } = readIni(first, 'config.ini', '/etc');
    const { settings, stores, said, problems } = resolveConfiguration(assignments, []);
    expect(problems).toEqual([]);
    expect(drive).toEqual({
      volumeName: 'drive0',
      sizeBytes: 16_777_216,
      credentials: {
        accessKeyId: '1234567890ABCDEFGHIK',
        secretAccessKey: 'RXRXRXRXR123890713287525ABCDEFGGHIJKLzzz',
      },
    });
    expect(stores.map((store) => store.url)).toEqual(['s3://the.name.of.the.bucket.to.create']);
    expect(settings).toMatchObject({
      listen: ['nbd://127.0.0.1:9999'],
      default_volume: 'drive0',
      'cache.memory': 1024 * 65_536,
      'upload.interval': 60_000,
      'log.level': 'info',
    });
    expect(said.get('listen')?.origin).toBe('config.ini:13');
    expect(JSON.stringify([...said])).not.toMatch(/RXRX|1234567890/);
  });

  it('has its small caches rounded up to what a volume needs', () => {
    const { assignments } = readIni(first.replace('cachesize=1024', 'cachesize=8'), 'a.ini', '/');
    const { settings, problems } = resolveConfiguration(assignments, []);
    expect(problems).toEqual([]);
    expect(settings['cache.memory']).toBe(2 ** 20);
  });

  it('knows our additions, other letter case and other spacing', () => {
    const text = '[S3]\nbucket : b\nVolumeSize=8192\nENDPOINT=http://127.0.0.1:1\nRegion = x\n';
    const { assignments, drive } = readIni(`${text}[server]\nDEBUG=1\n`, 'config.ini', '/');
    const { settings, stores } = resolveConfiguration(assignments, []);
    expect(stores[0]?.settings).toMatchObject({
      's3.endpoint': 'http://127.0.0.1:1',
      's3.region': 'x',
    });
    expect(settings).toMatchObject({ listen: ['nbd://127.0.0.1:9999'], 'log.level': 'debug' });
    expect(drive).toMatchObject({ sizeBytes: 8192, credentials: undefined });
  });

  it.each([
    [
      'VOLUMESIZE=16777216',
      'VOLUMESIZE=16777217',
      '9: "VOLUMESIZE" expected bytes, a multiple of 4096',
    ],
    ['VOLUMESIZE=16777216', 'VOLUMESIZE=16M', '9: "VOLUMESIZE" expected a whole number'],
    ['port=9999', 'port=99999', '13: "PORT" expected a whole number'],
    ['cachettl', 'cachetll', '19: unknown key "cachetll" in [server]; did you mean "cachettl"?'],
    ['[server]', '[servers]', '11: unknown section "[servers]"'],
    ['[s3]', '', '2: expected [s3] or [server] before the first key'],
    ['debug=0', 'debug', '15: expected KEY=value'],
    ['BUCKET=the.name.of.the.bucket.to.create', '', ': "BUCKET" expected a value'],
  ])('with %j as %j is refused with its line', (from, to, problem) => {
    const text = first.replace(from, to);
    expect(() => readIni(text, 'config.ini', '/')).toThrow(
      `config.ini${problem.startsWith(':') ? '' : ':'}${problem}`,
    );
    expect(() => readIni(text, 'config.ini', '/')).not.toThrow('RXRX');
  });

  it('is known by its name or its keys', () => {
    expect(looksLikeIni('', 'a/config.ini')).toBe(true);
    expect(looksLikeIni(first, 'config')).toBe(true);
    expect(looksLikeIni('default_volume = "bucket"', 'config')).toBe(false);
    expect(looksLikeIni(first, 'config.toml')).toBe(false);
  });
});
