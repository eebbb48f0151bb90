/**
 * What a stranger does first. `smoke.ts checkout`: `npm start` in an empty copy of the checkout;
 * `smoke.ts package`: the packed tarball, installed in an empty directory with Node beside it.
 * Either way: write through NBD, stop by pid, start with another state directory, find every byte.
 */
import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { run, Server, TemporaryDirectory } from '../test/support/programs.ts';

type Start = (environment: Readonly<Record<string, string>>) => Server;

const sampleBytes = 24 * 2 ** 20;

/** Starts, lets `use` work on the drive's URI, and stops the daemon itself, which must exit with 0. */
async function withDaemon(
  server: Server,
  program: string,
  use: (uri: string) => Promise<void>,
): Promise<void> {
  await using running = server;
  const address = await running.until(() => /nbd:\/\/127\.0\.0\.1:\d+/.exec(running.log)?.[0]);
  await use(`${address}/drive0`);
  const pid = descendants(running.pid).findLast((candidate) =>
    commandLine(candidate).includes(program),
  );
  if (pid === undefined) throw new Error(`no process runs ${program}`);
  process.kill(pid, 'SIGTERM');
  const status = await running.ended();
  if (status !== 0) throw new Error(`exit status ${status} after SIGTERM\n${running.log}`);
}

/** A process and all below it, parents first. */
function descendants(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  const below = children === '' ? [] : children.split(' ').map(Number);
  return [pid, ...below.flatMap(descendants)];
}

function commandLine(pid: number): string {
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
}

async function writeThenReadElsewhere(start: Start, root: TemporaryDirectory): Promise<void> {
  const program = 'elasticdrive';
  const [sample, copy] = [root.join('sample'), root.join('copy')];
  await run('dd', ['if=/dev/urandom', `of=${sample}`, 'bs=1M', `count=${sampleBytes / 2 ** 20}`]);
  const listen = {
    ELASTICDRIVE_LISTEN: 'nbd://127.0.0.1:0',
    NODE_COMPILE_CACHE: root.join('compile-cache'),
  };
  await withDaemon(start(listen), program, async (uri) => {
    const { stdout } = await run('nbdinfo', ['--size', uri]);
    if (Number(stdout) !== 10 * 2 ** 30) throw new Error(`drive0 has ${stdout} bytes, not 10 GiB`);
    await run('nbdcopy', [sample, uri]);
  });
  const elsewhere = { ...listen, ELASTICDRIVE_STATE_DIR: root.join('other-state') };
  await withDaemon(start(elsewhere), program, async (uri) => {
    await run('qemu-img', [
      ...['dd', '-f', 'raw', '-O', 'raw', 'bs=1M', `count=${sampleBytes / 2 ** 20}`],
      ...[`if=${uri}`, `of=${copy}`],
    ]);
  });
  await run('cmp', [sample, copy]);
}

async function smokeCheckout(root: TemporaryDirectory): Promise<void> {
  const directory = root.join('checkout');
  const left = new Set(['node_modules', '.git', 'dist', 'coverage', 'elasticdrive-data']);
  cpSync('.', directory, { recursive: true, filter: (path) => !left.has(path) });
  symlinkSync(resolve('node_modules'), join(directory, 'node_modules'));
  const start: Start = (environment) => new Server('npm', ['start'], { directory, environment });
  await writeThenReadElsewhere(start, root);
}

async function smokePackage(root: TemporaryDirectory): Promise<void> {
  const directory = root.join('installed');
  const { stdout } = await run('npm', [
    'pack',
    '--json',
    '--silent',
    '--pack-destination',
    root.path,
  ]);
  const [packed] = JSON.parse(stdout.slice(stdout.indexOf('['))) as { filename: string }[];
  if (packed === undefined) throw new Error('npm pack made nothing');
  await run('mkdir', [directory]);
  writeFileSync(
    join(directory, 'package.json'),
    '{ "private": true, "allowScripts": { "node": true } }\n',
  );
  const tarball = root.join(packed.filename);
  await run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', tarball, 'node@24'], {
    directory,
    timeoutMs: 300_000,
  });
  const binaries = join(directory, 'node_modules/.bin');
  const path = { PATH: `${binaries}:${process.env['PATH'] ?? ''}` };
  const start: Start = (environment) =>
    new Server(join(binaries, 'elasticdrive'), ['serve'], {
      directory,
      environment: { ...environment, ...path },
    });
  await writeThenReadElsewhere(start, root);
}

await using root = await TemporaryDirectory.make();
const kinds = { checkout: smokeCheckout, package: smokePackage };
const kind = process.argv[2] ?? 'checkout';
if (kind !== 'checkout' && kind !== 'package') throw new Error('say "checkout" or "package"');
await kinds[kind](root);
console.log(`${kind}: written through one daemon, found through another`);
