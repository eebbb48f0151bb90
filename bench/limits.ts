/** The limits that ElasticDrive keeps, measured on the daemon itself. */
import { setTimeout as sleep } from 'node:timers/promises';
import { createFileStore } from '../src/store/file-store.ts';
import { createVolume, Daemon, directoryStore } from '../test/support/daemon.ts';
import { run, type TemporaryDirectory } from '../test/support/programs.ts';
import { putMappedVolume } from '../test/support/synthetic-volume.ts';
import { measure } from './measure.ts';
import { measureRecovery } from './recovery.ts';
import type { Limit } from './report.ts';
import { measureSnapshots } from './snapshots.ts';

const mebibyte = 2 ** 20;
/** Of each load at least: so long that checkpoints are folded and dead blocks compacted under it. */
const loadSeconds = 20;

interface Status {
  readonly residentBytes: number;
  readonly loopDelay: { readonly p999Ms: number; readonly held: { readonly p999Ms: number } };
  readonly volumes: readonly { readonly dirtyBytes: number; readonly mapBytes: number }[];
}

const statusOf = async (daemon: Daemon): Promise<Status> => (await daemon.status()) as Status;

export async function measureLimits(
  root: TemporaryDirectory,
  seconds: number,
  say: (line: string) => void,
): Promise<Limit[]> {
  say('limits: opening 1 TiB, recovery, snapshots, memory, event loop');
  const recovery = await measureRecovery(root, 3);
  const snapshots = await measureSnapshots(root, 15);
  const opened = await opening(root);
  return [
    ...opened,
    ...recovery,
    ...snapshots,
    ...(await underLoad(root, Math.max(seconds, loadSeconds))),
  ];
}

/** A daemon that has just started, and what it takes to open a volume of 1 TiB of mapped data. */
async function opening(root: TemporaryDirectory): Promise<Limit[]> {
  const directory = root.join('mapped-store');
  const files = createFileStore({ directory });
  await putMappedVolume(files, 'mapped', 2 ** 40);
  await files.close();
  await using daemon = await Daemon.start({
    store: directoryStore(directory),
    unchecked: true,
    directory: root.join('mapped-host'),
  });
  await sleep(1000);
  const idle = (await statusOf(daemon)).residentBytes;
  const startedMs = performance.now();
  await run('nbdinfo', ['--size', daemon.uri('mapped')]);
  const openedSeconds = (performance.now() - startedMs) / 1000;
  await sleep(1000);
  const attached = (await statusOf(daemon)).residentBytes;
  return [
    { says: 'resident when idle', value: idle / mebibyte, unit: 'MiB', atMost: 150 },
    { says: 'opening 1 TiB of mapped data', value: openedSeconds, unit: 's', atMost: 2 },
    { says: 'resident with it, idle', value: attached / mebibyte, unit: 'MiB', atMost: 150 },
  ];
}

/** Uploading at full speed, with small settings, so that what is not bounded by them shows. */
async function underLoad(root: TemporaryDirectory, seconds: number): Promise<Limit[]> {
  const store = directoryStore(root.join('load-store'));
  const sizeBytes = 4096 * mebibyte;
  await createVolume(store, 'load', String(sizeBytes));
  const flags = ['--cache-memory=64MiB', '--cache-disk=64MiB', '--journal-size=256MiB'];
  await using daemon = await Daemon.start({
    store,
    directory: root.join('load-host'),
    flags,
    unchecked: true,
  });
  let residentBytes = 0;
  let loopDelay: Status['loopDelay'] | undefined;
  for (const kind of ['write', 'randwrite', 'randread'] as const) {
    const load = measure(
      { uri: daemon.uri('load') },
      {
        name: kind,
        kind,
        blockBytes: kind === 'write' ? 131_072 : 4096,
        depth: 32,
        rangeBytes: sizeBytes,
        limit: { seconds },
      },
    );
    const watched = new AbortController();
    const watching = (async () => {
      while (!watched.signal.aborted) {
        residentBytes = Math.max(residentBytes, (await statusOf(daemon)).residentBytes);
        await sleep(500);
      }
    })();
    await load;
    watched.abort();
    await watching;
    // What follows only reads: the limit is for uploading at full speed.
    if (kind !== 'randread') ({ loopDelay } = await statusOf(daemon));
  }
  const { volumes } = await statusOf(daemon);
  const mapBytes = volumes.reduce((sum, volume) => sum + volume.mapBytes, 0);
  // What the settings say, the map, and what the program is allowed when idle.
  const cacheAndSegments = 64 + 4 * 8;
  const packing = 4 * 8.2;
  // Sixteen buffers each to receive into and to reply from; frames, and four whole objects, fetched.
  const sockets = 16 * 0.25 + 16 * 0.5;
  const fetching = 64 / 16 + 4 + 4 * 8.2;
  // What is alive of other objects as it is put together, and the object that is read, then made, of it.
  const compacting = 8 + 8.2;
  const buffers = cacheAndSegments + packing + sockets + fetching + compacting;
  const bound = buffers + 150 + mapBytes / mebibyte;
  return [
    { says: 'resident under load', value: residentBytes / mebibyte, unit: 'MiB', atMost: bound },
    {
      says: 'event loop held up, 99.9 %',
      value: loopDelay?.held.p999Ms ?? Number.NaN,
      unit: 'ms',
      atMost: 10,
    },
  ];
}
