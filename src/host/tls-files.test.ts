import { chmod, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '../base/log.ts';
import { parseListenAddress } from './listen-address.ts';
import { TlsFileReader, tlsModeOf } from './tls-files.ts';

let directory: string;
let writes = 0;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'elasticdrive-tls-'));
});
afterEach(() => rm(directory, { recursive: true }));

/** A file that is seen to be another than before, however fast the clock of the disk is. */
async function put(name: string, text: string, mode = 0o600): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, text, { mode });
  writes += 1;
  await utimes(path, writes, writes);
  return path;
}

describe('the files of TLS', () => {
  it('are read again when they have changed', async () => {
    const files = { certificate: await put('cert', 'one'), key: await put('key', 'secret') };
    const reader = new TlsFileReader(files, silentLog);
    expect(await reader.read()).toEqual({ certificate: 'one', key: 'secret' });
    await put('cert', 'two');
    expect(await reader.read()).toEqual({ certificate: 'two', key: 'secret' });
  });

  it('stay in use as they were when they cannot be read', async () => {
    const files = { certificate: await put('cert', 'one'), key: await put('key', 'secret') };
    const reader = new TlsFileReader(files, silentLog);
    const before = await reader.read();
    await rm(files.key);
    expect(await reader.read()).toEqual(before);
    await expect(new TlsFileReader(files, silentLog).read()).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringContaining(files.key) as string,
    });
  });

  it('are refused when everybody can read a key', async () => {
    const path = await put('key', 'secret');
    await chmod(path, 0o644);
    const files = { certificate: path, key: path };
    await expect(new TlsFileReader(files, silentLog).read()).rejects.toThrow(/chmod o= /);
  });

  it('name pre-shared keys, and an error never shows one', async () => {
    const key = '00112233445566778899aabbccddeeff';
    const path = await put('psk', `# keys\nalice:${key}\n\nbob:${key.repeat(2)}\n`);
    const { preSharedKeys } = await new TlsFileReader({ preSharedKeys: path }, silentLog).read();
    expect([...(preSharedKeys ?? [])].map(([name, { length }]) => [name, length])).toEqual([
      ['alice', 16],
      ['bob', 32],
    ]);
    await put('psk', `alice:${key}0\n`);
    const failure = new TlsFileReader({ preSharedKeys: path }, silentLog).read();
    await expect(failure).rejects.toThrow(/psk:1: expected NAME:KEY/);
    await expect(failure).rejects.not.toThrow(new RegExp(key));
  });
});

describe('what a listener does about TLS', () => {
  const files = { certificate: 'c', key: 'k' };
  const modeOf = (address: string, ...rest: [Parameters<typeof tlsModeOf>[1], object?]) =>
    tlsModeOf(parseListenAddress(address)!, ...rest);

  it('depends on who reaches it', () => {
    expect(modeOf('nbd://127.0.0.1', undefined)).toBe('off');
    expect(modeOf('nbd+unix:///s', undefined)).toBe('off');
    expect(modeOf('nbd://127.0.0.1', undefined, files)).toBe('allowed');
    expect(modeOf('nbd://0.0.0.0', undefined, files)).toBe('required');
    expect(() => modeOf('nbd://0.0.0.0', undefined)).toThrow(/reached by other machines/);
  });

  it('is what was said', () => {
    expect(modeOf('nbd://0.0.0.0', 'off')).toBe('off');
    expect(modeOf('nbd://0.0.0.0', 'allowed', files)).toBe('allowed');
    expect(modeOf('nbd://127.0.0.1', 'required', files)).toBe('required');
    expect(modeOf('nbd://0.0.0.0', 'off', files)).toBe('off');
  });
});
