import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type PassphraseSources, passphraseFrom } from './passphrase.ts';
import { runProgram } from './run-program.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'elasticdrive-passphrase-'));
});
afterEach(() => rm(directory, { recursive: true }));

const path = { PATH: process.env['PATH'] };

async function asked(sources: Partial<PassphraseSources>, keyName = 'main'): Promise<string> {
  const nothing = { environment: path, readStandardInput: () => Promise.reject(new Error('none')) };
  const { bytes, from } = await passphraseFrom({ ...nothing, ...sources })(keyName);
  return `${Buffer.from(bytes).toString()} ${from}`;
}

it('is read from a file, without the end of its line', async () => {
  const file = join(directory, 'password');
  for (const [content, expected] of [
    ['secret', 'secret'],
    ['secret\n', 'secret'],
    ['secret\r\n', 'secret'],
    [' two words \n\n', ' two words \n'],
    ['secret\r', 'secret\r'],
  ] as const) {
    await writeFile(file, content);
    expect(await asked({ file })).toBe(`${expected} in ${file}`);
  }
  await writeFile(file, '\n');
  await expect(asked({ file })).rejects.toThrow(/is empty/);
  await writeFile(file, 'x'.repeat(4097));
  await expect(asked({ file })).rejects.toThrow(/longer than 4096/);
  const missing = asked({ file: join(directory, 'missing') });
  await expect(missing).rejects.toMatchObject({ code: 'wrong-key' });
});

it('is read from standard input once, however often it is needed', async () => {
  let times = 0;
  const readStandardInput = (): Promise<Uint8Array> => {
    times += 1;
    return Promise.resolve(Buffer.from('secret\n'));
  };
  const ask = passphraseFrom({ file: '-', environment: {}, readStandardInput });
  const first = await ask('a');
  first.bytes.fill(0);
  expect(Buffer.from((await ask('b')).bytes).toString()).toBe('secret');
  expect(times).toBe(1);
});

it('is what a command prints, which is told of the key', async () => {
  const command = 'printf "%s-secret" "$ELASTICDRIVE_KEY"';
  expect(await asked({ command }, 'vault7')).toBe(`vault7-secret of "${command}"`);
  const failing = 'echo hidden; echo no token >&2; exit 3';
  const error: unknown = await asked({ command: failing }).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: 'wrong-key' });
  expect(String(error)).toContain('ended with status 3 (no token)');
  expect(String(error).replace(failing, '')).not.toContain('hidden');
});

it('is found among the credentials of a service, that of the key first', async () => {
  await mkdir(join(directory, 'credentials'));
  const environment = { CREDENTIALS_DIRECTORY: join(directory, 'credentials') };
  await expect(asked({ environment })).rejects.toThrow(/password_file or password_command/);
  await writeFile(join(directory, 'credentials/elasticdrive.password'), 'for all');
  await writeFile(join(directory, 'credentials/elasticdrive.main'), 'its own\n');
  expect(await asked({ environment })).toBe('its own in the credential elasticdrive.main');
  expect(await asked({ environment }, 'other')).toBe(
    'for all in the credential elasticdrive.password',
  );
});

it('ends a program that takes too long with all that it started, and one that writes too much', async () => {
  const marker = join(directory, 'still-there');
  const run = (line: string, timeLimitMs: number): Promise<Uint8Array> =>
    runProgram({
      name: 'it',
      command: ['/bin/sh', '-c', line],
      stdin: new Uint8Array(0),
      environment: path,
      timeLimitMs,
    });
  const slow = run(`(sleep 30; touch ${marker}) & sleep 30`, 200);
  await expect(slow).rejects.toThrow(/longer than 0.2 s/);
  await expect(run('yes', 20_000)).rejects.toThrow(/wrote too much/);
  await expect(run('kill -TERM $$', 20_000)).rejects.toThrow(/ended by SIGTERM/);
  const missing = runProgram({
    ...{ name: 'it', command: ['/nowhere/at/all'], stdin: new Uint8Array(0) },
    ...{ environment: path, timeLimitMs: 1000 },
  });
  await expect(missing).rejects.toThrow(/cannot run it \(ENOENT\)/);
});
