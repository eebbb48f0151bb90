/**
 * What a clone takes to make, and whether reads notice how many generations they go through.
 * `npm run bench -- --only=clones` prints it.
 */
import { systemClock } from '../src/base/clock.ts';
import { silentLog } from '../src/base/log.ts';
import type { ObjectStore } from '../src/base/object-store.ts';
import { systemRandom } from '../src/base/random.ts';
import { createFileStore } from '../src/store/file-store.ts';
import { createLocalDisk } from '../src/store/local-disk.ts';
import { createVolume, findVolume } from '../src/volume/catalog.ts';
import { snapshotForClone } from '../src/volume/clone-pins.ts';
import { cloneVolume } from '../src/volume/cloning.ts';
import { inlineWorkers } from '../src/volume/engine-workers.ts';
import { openVolume } from '../src/volume/open-volume.ts';
import { defaultVolumeSettings } from '../src/volume/settings.ts';
import { snapshotAtRest } from '../src/volume/snapshot-at-rest.ts';
import type { Volume } from '../src/volume/volume.ts';
import { Daemon, directoryStore } from '../test/support/daemon.ts';
import type { TemporaryDirectory } from '../test/support/programs.ts';
import { putMappedVolume } from '../test/support/synthetic-volume.ts';
import { type Load, measure, median } from './measure.ts';
import type { Limit, Sample, Sheet } from './report.ts';

const mebibyte = 2 ** 20;
const ambient = { clock: systemClock, random: systemRandom };
const generations = 32;
/** Of them those that are read. */
const measured = [0, 1, 8, generations];

export interface CloneSettings {
  readonly rounds: number;
  readonly secondsEach: number;
  readonly workingSetBytes: number;
}

export interface CloneFigures {
  readonly limits: readonly Limit[];
  readonly sheet: Sheet;
}

export async function measureClones(
  root: TemporaryDirectory,
  settings: CloneSettings,
  say: (line: string) => void,
): Promise<CloneFigures> {
  say('clones: making them at 1 GiB and 1 TiB');
  const limits = [
    ...(await makingOf(root, '1 GiB', 2 ** 30)),
    ...(await makingOf(root, '1 TiB', 2 ** 40)),
  ];
  say(`clones: making ${generations} generations`);
  const directory = root.join('family-store');
  const store = createFileStore({ directory });
  const lastSeconds = await makeFamily(root, store, settings.workingSetBytes);
  await store.close();
  const says = `cloning the ${generations - 1}th generation`;
  limits.push({ says, value: lastSeconds, unit: 's', atMost: 1 });
  return { limits, sheet: await readFamily(root, directory, settings, say) };
}

function open(root: TemporaryDirectory, store: ObjectStore, name: string): Promise<Volume> {
  const disk = createLocalDisk(root.join('clone-host'));
  return openVolume({
    ...{ ...ambient, store, disk, workers: inlineWorkers(disk), log: silentLog, name },
    settings: { ...defaultVolumeSettings, diskCacheBytes: 0 },
    ...{ writerId: 'bench', host: 'bench' },
  });
}

/** A clone of a volume as it is, which nobody has; in seconds. */
async function clone(store: ObjectStore, source: string, name: string): Promise<number> {
  const startedMs = performance.now();
  const context = { ...ambient, store };
  const { id } = await findVolume(store, source);
  const snapshot = await snapshotAtRest(context, id, snapshotForClone(name, systemRandom));
  if (snapshot === undefined) throw new Error(`${source} was not given up`);
  await cloneVolume(context, { name, sourceId: id, snapshotId: snapshot.id });
  return (performance.now() - startedMs) / 1000;
}

/** Volumes all of whose blocks are mapped. */
async function makingOf(
  root: TemporaryDirectory,
  size: string,
  sizeBytes: number,
): Promise<Limit[]> {
  const store = createFileStore({ directory: root.join(`cloned-${sizeBytes}`) });
  await putMappedVolume(store, 'source', sizeBytes);
  const made: number[] = [];
  const written: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    const startedMs = performance.now();
    made.push(await clone(store, 'source', `clone-${round}`));
    const volume = await open(root, store, `clone-${round}`);
    await volume.write(0, systemRandom.bytes(4096), { fua: true });
    written.push((performance.now() - startedMs) / 1000);
    await volume.abandon();
  }
  await store.close();
  const unit = 's';
  return [
    { says: `cloning ${size} of mapped data`, value: median(made), unit, atMost: 1 },
    { says: 'until its first write is durable', value: median(written), unit, atMost: 2 },
  ];
}

/** Each generation overwrites another part; returns what making the last took, in seconds. */
async function makeFamily(
  root: TemporaryDirectory,
  store: ObjectStore,
  workingSetBytes: number,
): Promise<number> {
  await createVolume(store, { name: 'g0', sizeBytes: 1024 * mebibyte }, ambient);
  let seconds = 0;
  const part = workingSetBytes / generations;
  for (let at = 0; at <= generations; at += 1) {
    if (at > 0) seconds = await clone(store, `g${at - 1}`, `g${at}`);
    const volume = await open(root, store, `g${at}`);
    if (at === 0) await writeRange(volume, 0, workingSetBytes);
    else await writeRange(volume, (at - 1) * part, part);
    await volume.close();
  }
  return seconds;
}

async function writeRange(volume: Volume, from: number, lengthBytes: number): Promise<void> {
  for (let at = 0; at < lengthBytes; at += mebibyte) {
    const bytes = systemRandom.bytes(Math.min(mebibyte, lengthBytes - at));
    await volume.write(from + at, bytes, { fua: false });
  }
}

async function readFamily(
  root: TemporaryDirectory,
  directory: string,
  { rounds, secondsEach, workingSetBytes }: CloneSettings,
  say: (line: string) => void,
): Promise<Sheet> {
  const samples: Sample[] = [];
  const common = { rangeBytes: workingSetBytes };
  const whole: Load = {
    ...{ ...common, name: 'cold 128K sequential read, depth 16', kind: 'read' },
    ...{ blockBytes: 131_072, depth: 16, limit: { bytes: workingSetBytes } },
  };
  const small = (name: string, depth: number): Load => ({
    ...{ ...common, name, kind: 'randread', blockBytes: 4096, depth },
    limit: { seconds: secondsEach },
  });
  const cold: Load = {
    ...small('cold 4K random read, depth 8', 8),
    limit: { bytes: 4 * mebibyte },
  };
  const hot = [1, 32].map((depth) => small(`hot 4K random read, depth ${depth}`, depth));
  for (let round = 0; round < rounds; round += 1) {
    for (const generation of measured) {
      const start = (machine: string): Promise<Daemon> =>
        Daemon.start({
          store: directoryStore(directory),
          directory: root.join(`${machine}-${round}-${generation}`),
          flags: ['--cache-memory=512MiB', '--cache-disk=0'],
          unchecked: true,
        });
      const note = async (daemon: Daemon, load: Load): Promise<void> => {
        const found = await measure({ uri: daemon.uri(`g${generation}`) }, load);
        const isLarge = load.blockBytes > 4096;
        samples.push({
          ...{ row: load.name, unit: isLarge ? 'bytes/s' : 'IOPS', column: columnOf(generation) },
          value: isLarge ? found.bytesPerSecond : found.operationsPerSecond,
        });
      };
      {
        await using daemon = await start('cold');
        await note(daemon, cold);
      }
      await using daemon = await start('hot');
      await note(daemon, whole);
      for (const load of hot) await note(daemon, load);
    }
    say(`clones: read in round ${round + 1}`);
  }
  const title = 'Reads of a volume and its clones, through so many generations, one local disk';
  return { title, ours: columnOf(generations), samples };
}

function columnOf(generation: number): string {
  return generation === 0 ? 'no clone' : `generation ${generation}`;
}
