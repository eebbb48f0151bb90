import { beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { listAll } from '../../src/base/object-store.ts';
import { systemRandom } from '../../src/base/random.ts';
import { createFileStore } from '../../src/store/file-store.ts';
import { probeStore } from '../../src/store/probe.ts';
import { createS3Store } from '../../src/store/s3-store.ts';
import { withRetry } from '../../src/store/with-retry.ts';
import { TemporaryDirectory } from '../support/programs.ts';
import { missingRgw, startRgw } from '../support/rgw.ts';
import { makeBucket, sharedS3 } from '../support/shared-s3.ts';

const missing = missingRgw();
const options = { clock: systemClock, random: systemRandom };

describe('the probe', () => {
  it('trusts a directory', async () => {
    await using root = await TemporaryDirectory.make();
    const store = createFileStore({ directory: root.path });
    const verdict = await probeStore(store, options);
    expect(verdict.checks.filter(({ ok }) => !ok)).toEqual([]);
    expect(verdict.trustedForWriting).toBe(true);
    expect((await store.list('')).keys).toEqual([]);
  });

  it("trusts Ceph's gateway", async ({ skip }) => {
    skip(missing !== undefined, missing);
    const store = await makeBucket();
    const verdict = await probeStore(store, options);
    expect(verdict.checks.filter(({ ok }) => !ok)).toEqual([]);
    expect(verdict.trustedForWriting).toBe(true);
    expect((await store.list('')).keys).toEqual([]);
    await store.close();
  });
});

describe("Ceph's gateway", () => {
  beforeEach(({ skip }) => skip(missing !== undefined, missing));

  it('is waited for while it does not answer', async () => {
    await using rgw = await startRgw();
    const { endpoint, accessKeyId, secretAccessKey } = rgw;
    const driver = createS3Store({
      bucket: 'bucket',
      endpoint,
      credentials: { accessKeyId, secretAccessKey },
      timeouts: { totalMs: 300 },
    });
    await driver.ensureBucket();
    let retries = 0;
    const onRetry = (): void => {
      retries += 1;
      if (retries === 4) rgw.resume();
    };
    const store = withRetry(driver, { ...options, onRetry });
    const value = new TextEncoder().encode('written while the server slept');
    rgw.pause();
    const [version] = await Promise.all([
      store.swap('register', undefined, value),
      store.put('object', [value]),
    ]);
    expect(retries).toBeGreaterThanOrEqual(4);
    expect(await store.load('register')).toEqual({ value, version });
    expect(await store.get('object')).toEqual(value);
    await store.close();
  });

  it('lists more than one page of keys in order', async () => {
    const store = await makeBucket();
    const keys = Array.from({ length: 1100 }, (_, i) => `many/${String(i).padStart(5, '0')}`);
    for (let from = 0; from < keys.length; from += 32) {
      await Promise.all(keys.slice(from, from + 32).map((key) => store.put(key, [])));
    }
    const listed: string[] = [];
    for await (const { key } of listAll(store, 'many/')) listed.push(key);
    expect(listed).toEqual(keys);
    const page = await store.list('many/', { startAfter: 'many/00009' });
    expect(page.truncated).toBe(true);
    expect(page.keys).toHaveLength(1000);
    await store.close();
  });

  it('says what is wrong with credentials and buckets', async () => {
    const store = await makeBucket();
    const { endpoint, accessKeyId, secretAccessKey } = await sharedS3();
    const bucket = new URL(store.url).host;
    const codeOf = async (
      credentials: { accessKeyId: string; secretAccessKey: string },
      name: string,
    ) => {
      const other = createS3Store({ bucket: name, endpoint, credentials });
      try {
        return await other.load('register').then(
          () => 'ok',
          (error: unknown) => (error as { code: string }).code,
        );
      } finally {
        await other.close();
      }
    };
    expect(await codeOf({ accessKeyId, secretAccessKey }, bucket)).toBe('ok');
    expect(await codeOf({ accessKeyId, secretAccessKey: 'wrong' }, bucket)).toBe('store-denied');
    expect(await codeOf({ accessKeyId: 'NOBODY', secretAccessKey }, bucket)).toBe('store-denied');
    expect(await codeOf({ accessKeyId, secretAccessKey }, 'no-such-bucket')).toBe('not-found');
    await store.close();
  });
});
