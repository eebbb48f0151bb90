import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.ts';
import { openStore, parseStoreUrl } from './open-store.ts';
import { HastyClock } from './testing/hasty-clock.ts';

describe('parseStoreUrl', () => {
  it.each([
    ['s3://bucket', { kind: 's3', bucket: 'bucket', prefix: '' }],
    ['s3://bucket/', { kind: 's3', bucket: 'bucket', prefix: '' }],
    ['s3://my.bucket/a/b/', { kind: 's3', bucket: 'my.bucket', prefix: 'a/b' }],
    ['file:///srv/disks', { kind: 'file', directory: '/srv/disks' }],
    ['file:///srv/with%20space', { kind: 'file', directory: '/srv/with space' }],
    ['/srv/disks', { kind: 'file', directory: '/srv/disks' }],
    ['./disks', { kind: 'file', directory: '/base/disks' }],
    ['disks', { kind: 'file', directory: '/base/disks' }],
  ])('takes %s', (url, location) => {
    expect(parseStoreUrl(url, '/base')).toEqual(location);
  });

  it.each(['', 's3://', 's3:bucket', 'file://host/dir', 'http://bucket', 'azure://x'])(
    'refuses %j',
    (url) => {
      expect(() => parseStoreUrl(url)).toThrow(expect.objectContaining({ code: 'usage' }));
    },
  );
});

describe('openStore', () => {
  const options = { clock: new HastyClock(), random: seededRandom(1) };

  it('opens a directory by its path, measured', async () => {
    const root = await mkdtemp(join(tmpdir(), 'elasticdrive-open-'));
    try {
      const store = await openStore('data', { ...options, baseDirectory: root });
      expect(store.url).toBe(`file://${root}/data`);
      await store.put('object', [new Uint8Array(3)]);
      expect(store.snapshot().operations.put).toMatchObject({ requests: 1, sentBytes: 3 });
      await store.close();
    } finally {
      await rm(root, { recursive: true });
    }
  });

  it('refuses what cannot be a bucket, a prefix or an endpoint', async () => {
    const environment = { AWS_REGION: 'x' };
    const open = (url: string, endpoint?: string) =>
      openStore(url, { ...options, environment, s3: endpoint === undefined ? {} : { endpoint } });
    for (const url of ['s3://a', 's3://under_score!', 's3://bucket/../up', 's3://bucket/a//b']) {
      await expect(open(url), url).rejects.toMatchObject({ code: 'usage' });
    }
    for (const endpoint of ['host', 'ftp://host', 'http://host/path', 'http://user:pw@host']) {
      await expect(open('s3://bucket', endpoint), endpoint).rejects.toMatchObject({
        code: 'usage',
      });
    }
  });
});
