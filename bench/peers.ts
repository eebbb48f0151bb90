/** The servers that are measured beside ours, each as its own manual says to run it. */
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { createVolume, Daemon, type TestStore } from '../test/support/daemon.ts';
import { accepts, run, Server, type TemporaryDirectory } from '../test/support/programs.ts';
import type { Target } from './measure.ts';

export const ours = 'elasticdrive';

/** Settings of our daemon under the bench, printed with the results. */
export const daemonFlags = ['--journal-size=4GiB', '--log-level=warn'];

export interface Contender extends AsyncDisposable {
  readonly name: string;
  readonly target: Target;
  readonly pid: number;
  /** Waits until work that it put off is done, so that the next in turn is not disturbed by it. */
  readonly settle: () => Promise<void>;
}

/** Our daemon with one volume `bench`; the journal is on the disk that the peers' files are on. */
export async function elasticDrive(
  store: TestStore,
  directory: string,
  sizeBytes: number,
): Promise<Contender> {
  await createVolume(store, 'bench', String(sizeBytes));
  const daemon = await Daemon.start({
    store,
    directory,
    flags: daemonFlags,
    unchecked: true,
  });
  return {
    name: ours,
    target: { uri: daemon.uri('bench') },
    pid: daemon.pid,
    settle: () => uploaded(daemon),
    [Symbol.asyncDispose]: () => daemon[Symbol.asyncDispose](),
  };
}

interface Status {
  readonly volumes: readonly { readonly dirtyBytes: number }[];
}

/** Waits until the daemon holds nothing that is not in the store. */
async function uploaded(daemon: Daemon): Promise<void> {
  const deadline = performance.now() + 120_000;
  for (;;) {
    const { volumes } = (await daemon.status()) as Status;
    if (volumes.every(({ dirtyBytes }) => dirtyBytes === 0)) return;
    if (performance.now() > deadline) throw new Error('the daemon does not finish its upload');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

export async function nbdPeers(root: TemporaryDirectory, sizeBytes: number): Promise<Contender[]> {
  const file = async (name: string) => {
    const path = root.join(name);
    await run('truncate', [`--size=${sizeBytes}`, path]);
    return path;
  };
  const socket = (name: string) => root.join(`${name}.sock`);
  const qemu = ['--persistent', '--shared=32', '--format=raw', '--discard=unmap'];
  return [
    await nbdPeer('nbdkit memory', 'nbdkit', socket('memory'), [
      ...['--foreground', '--unix', socket('memory'), 'memory', String(sizeBytes)],
    ]),
    await nbdPeer('nbdkit file', 'nbdkit', socket('file'), [
      ...['--foreground', '--unix', socket('file'), 'file', await file('nbdkit.raw')],
    ]),
    await nbdPeer('qemu-nbd raw', 'qemu-nbd', socket('qemu'), [
      ...[...qemu, '--socket', socket('qemu'), await file('qemu.raw')],
    ]),
  ];
}

/** The least that a server in Node can be: for what no server in Node can do without. */
export function nodeFloor(root: TemporaryDirectory, sizeBytes: number): Promise<Contender> {
  const socket = root.join('floor.sock');
  const script = fileURLToPath(new URL('./node-floor.ts', import.meta.url));
  return nbdPeer('Node at least', process.execPath, socket, [script, socket, String(sizeBytes)]);
}

async function nbdPeer(
  name: string,
  program: string,
  socketPath: string,
  args: readonly string[],
): Promise<Contender> {
  const server = new Server(program, args);
  await server.until(() => accepts(socketPath));
  return {
    name,
    target: { uri: `nbd+unix:///?socket=${socketPath}` },
    pid: server.pid,
    settle: async () => {
      await run('sync', []);
    },
    [Symbol.asyncDispose]: async () => {
      await server.stop();
    },
  };
}

export interface S3Place {
  readonly endpoint: string;
  readonly bucket: string;
  readonly accessKey: string;
  readonly secretKey: string;
}

/**
 * s3backer: a file in a FUSE mount, one object for each 4 KiB block. Unmounting it ends when all is
 * in the store.
 */
export async function s3backer(
  place: S3Place,
  root: TemporaryDirectory,
  name: string,
  sizeBytes: number,
  flags: readonly string[],
): Promise<Contender> {
  const [mount, access] = [root.join(`${name}-mount`), root.join(`${name}-access`)];
  await run('mkdir', [mount]);
  await writeFile(access, `${place.accessKey}:${place.secretKey}\n`, { mode: 0o600 });
  const server = new Server('s3backer', [
    ...['-f', `--baseURL=${place.endpoint}/`, `--accessFile=${access}`, `--prefix=${name}/`],
    ...[`--size=${sizeBytes}`, '--noAutoDetect', '--quiet'],
    ...[...flags, place.bucket, mount],
  ]);
  const file = `${mount}/file`;
  await server.until(() =>
    run('stat', [file])
      .then(() => true)
      .catch(() => undefined),
  );
  return {
    name: `s3backer ${name}`,
    target: { file },
    pid: server.pid,
    settle: () => Promise.resolve(),
    [Symbol.asyncDispose]: async () => {
      await run('fusermount', ['-u', mount]);
      await server.ended(600_000);
    },
  };
}
