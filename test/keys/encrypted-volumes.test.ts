/** Encrypted volumes that move between hosts, as users move them: with a key, a server of keys, a paper. */
import { readFile, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import {
  createVolume,
  Daemon,
  type DaemonOptions,
  directoryStore,
  elasticdrive,
  type TestStore,
} from '../support/daemon.ts';
import { nbdsh } from '../support/nbdsh.ts';
import { run, TemporaryDirectory } from '../support/programs.ts';
import { missingPrograms } from '../support/requirements.ts';
import { TangServer } from './tang-server.ts';

const missing = missingPrograms({ nbdsh: 'python3-libnbd', nbdinfo: 'libnbd-bin' });
const write = 'h.pwrite(b"of one host, " * 4096, 0); h.flush(); h.shutdown()';
const read = 'assert h.pread(13 * 4096, 0) == b"of one host, " * 4096; h.shutdown()';

/** A host: what it has of keys, and its state; hosts share the store alone. */
class Host {
  readonly store: TestStore;
  readonly #root: TemporaryDirectory;
  readonly #name: string;
  readonly #unlocking: readonly string[];

  constructor(root: TemporaryDirectory, name: string, ...unlocking: readonly string[]) {
    this.#root = root;
    this.#name = name;
    this.#unlocking = ['--keyring', root.join(`${name}.json`), ...unlocking];
    this.store = directoryStore(root.join('store'));
  }

  get state(): string {
    return this.#root.join(this.#name, 'state');
  }

  get flags(): readonly string[] {
    return [...this.#unlocking, '--state-dir', this.state];
  }

  async key(...args: readonly string[]): Promise<string> {
    const { stdout } = await elasticdrive(this.store, ['key', ...args, ...this.flags]);
    return stdout;
  }

  run(args: readonly string[], statuses: readonly number[] = [0]) {
    return elasticdrive(this.store, [...args, '--store', this.store.url, ...this.flags], statuses);
  }

  serve(): Promise<Daemon> {
    // The check after the test has no key.
    const options: DaemonOptions = {
      ...{ store: this.store, directory: this.#root.join(this.#name) },
      ...{ flags: this.#unlocking, unchecked: true },
    };
    return Daemon.start(options);
  }

  /** Serves while the lines of nbdsh use the export. */
  async use(exportName: string, lines: string): Promise<void> {
    await using daemon = await this.serve();
    await nbdsh(daemon.uri(exportName), lines);
    await daemon.stop();
  }

  async audit(): Promise<Record<string, unknown>[]> {
    const text = await readFile(`${this.state}/audit.log`, 'utf8');
    return text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }
}

describe('an encrypted volume', () => {
  it('opens on another host with the key that was exported, and with no other passphrase', async ({
    skip,
  }) => {
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    await writeFile(root.join('password'), 'correct horse\n');
    await writeFile(root.join('wrong'), 'correct house\n');
    const password = ['--password-file', root.join('password')];
    const here = new Host(root, 'here', ...password);
    await here.key('create', 'main');
    await createVolume(here.store, 'data', '16MiB', '--encrypt', ...here.flags);
    await here.use('data', write);
    await here.run(['snapshot', 'create', 'data', 'one']);
    await here.key('export', 'main', '--to', root.join('main.key'));

    const there = new Host(root, 'there', ...password);
    const locked = await there.run(['volume', 'check', 'data'], [12]);
    expect(locked.stderr).toMatch(
      /encrypted with the key "main" \(passphrase\).*not in the keyring/,
    );
    {
      await using daemon = await there.serve();
      const refused = await run('nbdinfo', [daemon.uri('data')], { statuses: [1] });
      expect(refused.stderr).not.toBe('');
      await daemon.until(() => (daemon.log.includes('not in the keyring') ? true : undefined));
    }
    await there.key('import', root.join('main.key'), '--as', 'theirs');
    await there.use('data', read);
    // By a key that is called otherwise here.
    await there.run(['volume', 'clone', 'data@one', 'copy']);
    await there.use('copy', read);
    await here.use('copy', read);
    const mistaken = new Host(root, 'there', '--password-file', root.join('wrong'));
    const wrong = await mistaken.run(['volume', 'check', 'data'], [12]);
    expect(wrong.stderr).toMatch(/the passphrase in .*wrong does not open the key "theirs"/);
    const listed = JSON.parse((await there.run(['key', 'list', '--json'])).stdout) as unknown;
    expect(listed).toMatchObject([
      {
        name: 'theirs',
        dependants: [
          { volume: 'copy', isClone: true },
          { volume: 'data', snapshots: expect.arrayContaining(['one']) as string[] },
        ],
      },
    ]);
    const kept = await there.run(['key', 'delete', 'theirs', '--confirm', 'theirs'], [1]);
    expect(kept.stderr).toContain('the key "theirs" is needed by copy (a clone), data');
    expect(await there.audit()).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          command: 'serve',
          action: 'unwrap',
          volume: 'data',
          result: 'ok',
        }),
        expect.objectContaining({ action: 'unwrap', volume: 'copy', result: 'ok' }),
        expect.objectContaining({ result: expect.stringContaining('does not open') as string }),
      ]),
    );
  });

  it('opens with the recovery key from the paper alone', async ({ skip }) => {
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    await writeFile(root.join('password'), 'correct horse\n');
    const here = new Host(root, 'here', '--password-file', root.join('password'));
    const [paper = ''] =
      /(\w{4}-){13}\w{4}/.exec(await here.key('create', 'main', '--recovery')) ?? [];
    await createVolume(here.store, 'data', '16MiB', '--encrypt', ...here.flags);
    await here.use('data', write);
    await writeFile(root.join('paper'), `${paper.toLowerCase().replaceAll('-', ' ')}\n`);
    const rescue = new Host(root, 'rescue', '--recovery-file', root.join('paper'));
    await rescue.use('data', read);
    expect(await rescue.audit()).toEqual(
      expect.arrayContaining([expect.objectContaining({ provider: 'recovery', result: 'ok' })]),
    );
    await writeFile(root.join('paper'), `${paper.slice(0, -1)}${paper.endsWith('0') ? '1' : '0'}`);
    const misread = await rescue.run(['volume', 'check', 'data'], [12]);
    expect(misread.stderr).toContain('not a recovery key: a letter or digit of it is wrong');
  });

  it('goes on while its key is rotated, and needs the new version then', async ({ skip }) => {
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    await writeFile(root.join('password'), 'correct horse\n');
    await writeFile(root.join('next'), 'battery staple\n');
    const here = new Host(root, 'here', '--password-file', root.join('password'));
    await here.key('create', 'main');
    await createVolume(here.store, 'data', '16MiB', '--encrypt', ...here.flags);
    await here.key('export', 'main', '--to', root.join('first.key'));
    {
      await using daemon = await here.serve();
      await nbdsh(daemon.uri('data'), write);
      const rotated = await here.run(['key', 'rotate', 'main']);
      expect(rotated.stdout).toContain('with its version 2 from now on, and the data keys of data');
      await nbdsh(daemon.uri('data'), `${read.replace('h.shutdown()', '')}${write}`);
      await daemon.stop();
    }
    const shown = JSON.parse((await here.run(['key', 'show', 'main', '--json'])).stdout) as unknown;
    expect(shown).toMatchObject({ version: 2, dependants: [{ volume: 'data', versions: [2] }] });
    await here.run(['key', 'rotate', 'main', '--only-volumes']);
    await here.run(['key', 'rotate', 'main', '--new-password-file', root.join('next')]);
    const late = await here.run(['volume', 'check', 'data'], [12]);
    expect(late.stderr).toContain('does not open the key "main"');
    const now = new Host(root, 'here', '--password-file', root.join('next'));
    await now.use('data', read);
    const behind = new Host(root, 'behind', '--password-file', root.join('password'));
    await behind.key('import', root.join('first.key'));
    const old = await behind.run(['volume', 'check', 'data'], [12]);
    expect(old.stderr).toMatch(/version 2 of the key "main" is needed, and only 1 are known/);
  });

  it('opens on any host that reaches its Tang server, and on none that does not', async ({
    skip,
  }) => {
    skip(TangServer.missing !== undefined, TangServer.missing);
    skip(missing !== undefined, missing);
    await using root = await TemporaryDirectory.make();
    const server = await TangServer.start(root.join('tang'));
    const here = new Host(root, 'here');
    await here.key('create', 'rack', '--tang', server.url);
    await createVolume(here.store, 'data', '16MiB', '--encrypt', ...here.flags);
    await here.use('data', write);
    await here.run(['snapshot', 'create', 'data', 'one']);
    const there = new Host(root, 'there');
    await there.use('data', read);
    await there.run(['volume', 'clone', 'data@one', 'copy']);
    await there.use('copy', read);
    await server[Symbol.asyncDispose]();
    const away = await there.run(['volume', 'check', 'data'], [12]);
    expect(away.stderr).toMatch(
      /"data" is encrypted with the key "rack" \(tang\): the Tang server http:\S+ cannot be reached/,
    );
  });
});
