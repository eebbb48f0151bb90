import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { pasteLines } from './announcement.ts';
import { TestMachine } from './testing/run-program.ts';

let directory: string;
let machine: TestMachine;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'elasticdrive-serving-'));
  machine = new TestMachine(directory, { HOME: directory });
});
afterEach(() => rm(directory, { recursive: true }));

/** Serves until everything is said, then stops as SIGTERM does. */
async function serveAndStop(...argv: string[]): Promise<number> {
  const ended = machine.run('serve', ...argv);
  await machine.stdout.written;
  machine.signals.emit('SIGTERM', 'SIGTERM');
  return ended;
}

describe('elasticdrive serve', () => {
  it('makes a disk, says how to use it, and stops in order', async () => {
    expect(await serveAndStop('--listen', 'nbd://127.0.0.1:10809')).toBe(0);
    const store = `file://${directory}/elasticdrive-data/store`;
    expect(machine.stdout.text).toContain(`nbd://127.0.0.1:10809/drive0  (10GiB in ${store})`);
    expect(machine.stdout.text).toContain('  nbdinfo nbd://127.0.0.1:10809/drive0\n');
    expect(machine.stderr.text).toMatch(/volume created .*\n.* stopping: .* signal=SIGTERM\n/);
    await serveAndStop();
    expect(machine.stderr.text).not.toContain('volume created');
  });

  it('makes nothing in a store that was named', async () => {
    expect(await serveAndStop('--store', 's3://bucket')).toBe(0);
    expect(machine.stdout.text).toContain('no volume yet: make one with "elasticdrive volume');
    expect(machine.requests[0]).toMatchObject({ url: 's3://bucket', createBucket: false });
  });

  it('answers in JSON', async () => {
    expect(await serveAndStop('--json')).toBe(0);
    expect(JSON.parse(machine.stdout.text)).toMatchObject({
      version: '1.2.3',
      pid: process.pid,
      stateDirectory: join(directory, 'elasticdrive-data', 'state'),
      listening: ['nbd://127.0.0.1:10809'],
      volumes: [{ name: 'drive0', uris: ['nbd://127.0.0.1:10809/drive0'] }],
    });
  });

  it('wants TLS on an address that the network reaches, and warns where it is switched off', async () => {
    expect(await machine.run('serve', '--listen', 'nbd://0.0.0.0:10809')).toBe(2);
    expect(machine.stderr.text).toMatch(/reached by other machines: set tls.certificate .*off/);
    await serveAndStop('--listen', 'nbd://0.0.0.0:10809', '--tls-mode', 'off');
    expect(machine.stderr.text).toContain('warning: nbd://0.0.0.0:10809 is open to the network');
    await serveAndStop('--listen', 'nbd+unix:///run/s');
    expect(machine.stderr.text).not.toContain('open to the network');
  });

  it('leaves at once on a second signal', async () => {
    const ended = machine.run('serve');
    await machine.stdout.written;
    machine.signals.emit('SIGINT', 'SIGINT');
    expect(() => machine.signals.emit('SIGINT', 'SIGINT')).toThrow('would be gone');
    expect(machine.exits).toEqual([1]);
    expect(machine.stderr.text).toContain('leaving at once');
    expect(await ended).toBe(0);
  });

  it('keeps the size of a drive that the INI file would have otherwise', async () => {
    const ini = (bytes: number): Promise<void> =>
      writeFile(
        join(directory, 'config.ini'),
        `[s3]\nAWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=b\nBUCKET=c\nVOLUMESIZE=${bytes}\n`,
      );
    await ini(65_536);
    expect(await serveAndStop('--config', 'config.ini')).toBe(0);
    expect(machine.requests[0]).toMatchObject({
      url: 's3://c',
      createBucket: true,
      credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    });
    expect(machine.stdout.text).toContain('nbd://127.0.0.1:9999/drive0  (64KiB in s3://c)');
    await ini(131_072);
    expect(await serveAndStop('--config', 'config.ini')).toBe(0);
    expect(machine.stderr.text).toContain('the volume keeps its size');
    expect(machine.stdout.text).toContain('(64KiB in s3://c)');
  });

  it('quotes what a shell would take apart', () => {
    const lines = pasteLines({ kind: 'unix', path: '/run/s' }, 'drive0');
    expect(lines).toContain("  nbdinfo 'nbd+unix:///drive0?socket=/run/s'\n");
    expect(lines).toContain('nbd-client -unix /run/s /dev/nbd0 -N drive0 -b 4096');
  });
});

describe('elasticdrive status', () => {
  it('tells what the daemon does, in a table', async () => {
    const ended = machine.run('serve');
    await machine.stdout.written;
    const other = new TestMachine(directory, { HOME: directory });
    expect(await other.run('status')).toBe(0);
    expect(other.stdout.text).toMatch(/^elasticdrive 1\.2\.3, process \d+, up /);
    expect(other.stdout.text).toContain('no volume is attached');
    expect(other.stdout.text).toMatch(/^STORE +SENT +RECEIVED +ERRORS +REQUESTS$/m);
    expect(other.stdout.text).toContain('no client is connected');
    machine.signals.emit('SIGTERM', 'SIGTERM');
    expect(await ended).toBe(0);
    expect(await other.run('status')).toBe(10);
  });
});
