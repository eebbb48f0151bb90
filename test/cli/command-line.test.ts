/** The command as a user types it: what it prints, how it exits, what it refuses. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ProgramResult, run, TemporaryDirectory } from '../support/programs.ts';

const command = resolve('bin/elasticdrive.js');
let root: TemporaryDirectory;
beforeAll(async () => {
  root = await TemporaryDirectory.make();
});
afterAll(() => root[Symbol.asyncDispose]());

/** Runs the command in an empty home directory; any exit status is an answer. */
function elasticdrive(...args: string[]): Promise<ProgramResult> {
  const environment = {
    HOME: root.path,
    XDG_CONFIG_HOME: '',
    XDG_STATE_HOME: '',
    STATE_DIRECTORY: '',
  };
  return run(process.execPath, [command, ...args], {
    directory: root.path,
    environment,
    statuses: [0, 1, 2, 10, 11, 12, 13],
  });
}

describe('elasticdrive', () => {
  it('says its version', async () => {
    const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };
    expect(await elasticdrive('--version')).toMatchObject({ status: 0, stdout: `${version}\n` });
    const { stdout } = await elasticdrive('version', '--json');
    expect(JSON.parse(stdout)).toEqual({ version, node: process.version });
  });

  it.each([
    '',
    'serve',
    'proxy',
    'status',
    'volume',
    'volume create',
    'volume clone',
    'volume list',
    'volume show',
    'volume check',
    'volume scrub',
    'volume repair',
    'volume rollback',
    'volume delete',
    'snapshot',
    'snapshot create',
    'snapshot list',
    'snapshot show',
    'snapshot delete',
    'store',
    'store probe',
    'config',
    'config check',
    'config show',
    'systemd',
    'systemd install',
    'version',
  ])('helps with "%s", examples first', async (line) => {
    const words = line.split(' ').filter((word) => word !== '');
    const { status, stdout, stderr } = await elasticdrive(...words, '--help');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^Examples:\n {2}# .*\n {2}elasticdrive /);
    expect(stdout).toContain(`Usage: ${['elasticdrive', ...words].join(' ')} `);
  });

  it('takes no flag for a secret', async () => {
    for (const words of [['serve'], ['volume', 'create'], ['store', 'probe']]) {
      const { stdout } = await elasticdrive(...words, '--help');
      // A file or a program may be named that has one.
      const flags = stdout.replaceAll(/--\S+-(file|command)\b/g, '');
      expect(flags).not.toMatch(/--\S*(secret|password|credential|access-key|token)/i);
    }
  });

  it.each([
    ['versoin', "unknown command 'versoin'; did you mean version?"],
    ['volume creat', "unknown command 'creat'; did you mean create?"],
    ['serve --lisen nbd://127.0.0.1', "unknown option '--lisen'; did you mean --listen?"],
    [
      'volume create v',
      "option '--size <size>' not specified; see \"elasticdrive volume create --h",
    ],
    [
      'volume create --size 1G',
      "missing required argument 'name'; see \"elasticdrive volume create",
    ],
    ['volume create v --size 1GB', '--size expected a size such as 10GiB'],
    ['volume create v --size 1G --codec zip', "argument 'zip' is invalid"],
    ['volume delete v --confirm w', 'repeat its name with --confirm v'],
    ['serve extra', 'too many arguments'],
    ['serve --upload-interval 5', '--upload-interval: "upload.interval" expected a duration'],
    ['serve --listen 127.0.0.1', '--listen: "listen" expected addresses such as "nbd://127.0.0.1'],
    ['config show --config none.toml', 'there is no configuration file none.toml'],
  ])('refuses "%s" with status 2 and says why', async (line, message) => {
    const words = line.split(' ');
    const { status, stdout, stderr } = await elasticdrive(...words);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain(message);
    expect(stderr).toMatch(/^elasticdrive: .*\n$/);
    const json = await elasticdrive(...words, '--json');
    expect(json.status).toBe(2);
    expect(JSON.parse(json.stderr)).toMatchObject({ error: { code: 'usage' } });
  });

  it('shows a noun without a verb what it can do', async () => {
    const { status, stdout, stderr } = await elasticdrive('volume');
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain('Usage: elasticdrive volume <command>');
  });

  it('refuses a password in a URL without repeating it', async () => {
    const { status, stderr } = await elasticdrive('volume', 'list', '--store', 's3://k:hidden@b');
    expect(status).toBe(2);
    expect(stderr).toContain('never with a password');
    expect(stderr).not.toContain('hidden');
  });

  it('finds no daemon where there is none', async () => {
    const { status, stderr } = await elasticdrive('status');
    expect(status).toBe(10);
    expect(stderr).toContain('no daemon answers at');
  });

  it('needs Node 24 and says so to an older one', async () => {
    const launcher = await readFile(command, 'utf8');
    const older = `Object.defineProperty(process.versions, 'node', { value: '20.20.2' });\n`;
    const file = root.join('launcher.mjs');
    await writeFile(file, older + launcher.replace(/^#!.*\n/, ''));
    const { status, stderr } = await run(process.execPath, [file], { statuses: [1] });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^elasticdrive: this is Node 20\.20\.2, and ElasticDrive needs Node 24/);
    expect(stderr.trimEnd()).not.toContain('\n');
  });

  it('is quiet when nobody reads what it prints', async () => {
    const child = spawn(process.execPath, [command, 'config', 'show'], { cwd: root.path });
    let stderr = '';
    child.stderr.on('data', (part: Buffer) => {
      stderr += part.toString();
    });
    child.stdout.destroy();
    await once(child, 'close');
    expect(stderr).toBe('');
  });
});

describe('elasticdrive config', () => {
  it('names file and line of all that is wrong', async () => {
    const file = root.join('wrong.toml');
    await writeFile(file, '[cache]\nmemroy = "1GiB"\n\n[upload]\ninterval = 5\n');
    const { status, stdout } = await elasticdrive('config', 'check', '--config', file);
    expect(status).toBe(2);
    expect(stdout.split('\n')).toEqual([
      `${file}:2: unknown key "cache.memroy"; did you mean "cache.memory"?`,
      expect.stringMatching(/wrong\.toml:5: "upload\.interval" expected a duration such as 5s/),
      '',
    ]);
    const json = await elasticdrive('config', 'check', '--config', file, '--json');
    const answer = JSON.parse(json.stdout) as { ok: boolean; problems: string[] };
    expect(answer.ok).toBe(false);
    expect(answer.problems).toHaveLength(2);
    const serve = await elasticdrive('serve', '--config', file);
    expect(serve.status).toBe(2);
    expect(serve.stderr).toContain(`${file}:2: unknown key "cache.memroy"`);
  });

  it('shows every value with its origin', async () => {
    const file = root.join('right.toml');
    await writeFile(file, 'default_volume = "a"\n[[store]]\nurl = "s3://b"\nregion = "x"\n');
    const { status, stdout } = await elasticdrive(
      ...['config', 'show', '--json', '--config', file, '--cache-memory', '2G'],
    );
    expect(status).toBe(0);
    const { keys } = JSON.parse(stdout) as { keys: unknown[] };
    expect(keys).toEqual(
      expect.arrayContaining([
        { key: 'default_volume', value: 'a', origin: `${file}:1` },
        { key: 'cache.memory', value: 2 * 2 ** 30, origin: '--cache-memory' },
        { key: 'upload.interval', value: 5000, origin: 'default' },
        { key: 'store[0].region', value: 'x', origin: `${file}:4` },
      ]),
    );
    const text = await elasticdrive('config', 'show', '--config', file);
    expect(text.stdout).toMatch(/^KEY +VALUE +FROM\n/);
    expect(text.stdout).toMatch(/^upload\.interval +5s +default$/m);
  });

  it('hides the secrets of an INI file', async () => {
    const file = root.join('config.ini');
    const secrets = 'AWS_ACCESS_KEY_ID = 1234567890\nAWS_SECRET_ACCESS_KEY = RXRXRXRX\n';
    await writeFile(file, `[s3]\n${secrets}BUCKET=b\nVOLUMESIZE=16777216\n[server]\nport=9999\n`);
    for (const flags of [[], ['--json']]) {
      const { status, stdout } = await elasticdrive('config', 'show', '--config', file, ...flags);
      expect(status).toBe(0);
      expect(stdout).toContain('nbd://127.0.0.1:9999');
      expect(stdout).toContain('(hidden)');
      expect(stdout).not.toMatch(/1234567890|RXRX/);
    }
  });
});
