/**
 * Recovery after a crash with a full journal, beside reading the same bytes from the same files and
 * doing nothing with them. `node bench/recovery.ts` prints it; `npm run bench` has it among the limits.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '../src/base/clock.ts';
import { silentLog } from '../src/base/log.ts';
import { systemRandom } from '../src/base/random.ts';
import { createLocalDisk } from '../src/store/local-disk.ts';
import { createMemoryStore } from '../src/store/memory-store.ts';
import { type FaultPlan, withFaults } from '../src/store/with-faults.ts';
import { createVolume } from '../src/volume/catalog.ts';
import { inlineWorkers } from '../src/volume/engine-workers.ts';
import { openVolume } from '../src/volume/open-volume.ts';
import { defaultVolumeSettings } from '../src/volume/settings.ts';
import type { Volume } from '../src/volume/volume.ts';
import { run, TemporaryDirectory } from '../test/support/programs.ts';
import type { Limit } from './report.ts';

const mebibyte = 2 ** 20;
const sizeBytes = 4096 * mebibyte;
const journalBytes = 1024 * mebibyte;

interface Recovery {
  readonly bytes: number;
  readonly recoverySeconds: number;
  readonly readSeconds: number;
}

/** A volume whose store takes nothing, so that its journal stays full. */
class CrashedVolume {
  private readonly directory: string;
  private readonly open: () => Promise<Volume>;

  private constructor(directory: string, open: () => Promise<Volume>) {
    this.directory = directory;
    this.open = open;
  }

  static async make(directory: string, writeBytes: number): Promise<CrashedVolume> {
    const plan: FaultPlan = { only: (operation) => operation === 'put', errorBefore: 1 };
    const ambient = { clock: systemClock, random: systemRandom };
    const store = withFaults(createMemoryStore(), { ...ambient, plan });
    await createVolume(store, { name: 'v', sizeBytes }, ambient);
    const disk = createLocalDisk(directory);
    const open = (): Promise<Volume> =>
      openVolume({
        ...{ ...ambient, store, disk, workers: inlineWorkers(disk), log: silentLog, name: 'v' },
        settings: { ...defaultVolumeSettings, journalBytes, diskCacheBytes: 0 },
        ...{ writerId: 'bench', host: 'bench' },
      });
    const volume = await open();
    await fill(volume, writeBytes);
    await volume.abandon();
    return new CrashedVolume(directory, open);
  }

  /** Reads the journal's files one after the other, and recovers; what the kernel cached is dropped. */
  async measure(): Promise<Recovery> {
    const paths = await this.journalPaths();
    const files = paths.map((path) => join(this.directory, path));
    await dropCached(files);
    const readSeconds = await this.readFiles(paths);
    await dropCached(files);
    const volume = await this.open();
    const { tookMs, recoveredBytes } = volume.statistics().attachment;
    await volume.abandon();
    return { bytes: recoveredBytes, recoverySeconds: tookMs / 1000, readSeconds };
  }

  private async journalPaths(): Promise<string[]> {
    const names = await readdir(this.directory, { recursive: true });
    return names.filter((name) => name.endsWith('.journal'));
  }

  private async readFiles(paths: readonly string[]): Promise<number> {
    const disk = createLocalDisk(this.directory);
    const startMs = performance.now();
    for (const path of paths) {
      const file = await disk.open(path, { create: false });
      await file.read(new Uint8Array(await file.sizeBytes()), 0);
      await file.close();
    }
    return (performance.now() - startMs) / 1000;
  }
}

/** Writes until the journal has only two files left. */
async function fill(volume: Volume, writeBytes: number): Promise<void> {
  const data = systemRandom.bytes(writeBytes);
  const places = sizeBytes / writeBytes;
  for (let written = 0; ; written += writeBytes) {
    if (written % (8 * mebibyte) === 0) {
      const { journalFiles, journalFilesMaximum } = volume.statistics();
      if (journalFiles >= journalFilesMaximum - 2) break;
      data.set(systemRandom.bytes(64));
    }
    const offset = Math.floor(systemRandom.fraction() * places) * writeBytes;
    await volume.write(offset, data, { fua: false });
  }
  await volume.flush();
}

/** As coreutils documents it: the kernel forgets a file's pages. */
async function dropCached(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    const flags = ['oflag=nocache', 'conv=notrunc,fdatasync', 'count=0', 'status=none'];
    await run('dd', ['if=/dev/null', `of=${path}`, ...flags]);
  }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

async function measureWrites(
  root: TemporaryDirectory,
  writeBytes: number,
  rounds: number,
): Promise<Recovery> {
  const crashed = await CrashedVolume.make(root.join(`recovery-${writeBytes}`), writeBytes);
  const all: Recovery[] = [];
  for (let round = 0; round < rounds; round += 1) all.push(await crashed.measure());
  return {
    bytes: all[0]?.bytes ?? 0,
    recoverySeconds: median(all.map(({ recoverySeconds }) => recoverySeconds)),
    readSeconds: median(all.map(({ readSeconds }) => readSeconds)),
  };
}

/** Two seconds, and what the journal held at 500 MiB/s. */
export async function measureRecovery(root: TemporaryDirectory, rounds: number): Promise<Limit[]> {
  const limits: Limit[] = [];
  for (const writeBytes of [4096, 131_072]) {
    const { bytes, recoverySeconds, readSeconds } = await measureWrites(root, writeBytes, rounds);
    const what = `${Math.round(bytes / mebibyte)} MiB of journal, writes of ${writeBytes / 1024}K`;
    limits.push(
      {
        says: `recovering ${what}`,
        value: recoverySeconds,
        unit: 's',
        atMost: 2 + bytes / (500 * mebibyte),
      },
      {
        says: 'as many times as long as reading it',
        value: recoverySeconds / readSeconds,
        unit: '',
        atMost: 3,
      },
    );
  }
  return limits;
}

if (import.meta.main) {
  await using root = await TemporaryDirectory.make();
  for (const { says, value, unit, atMost } of await measureRecovery(root, 3)) {
    process.stdout.write(`${says}: ${value.toFixed(2)} ${unit} (at most ${atMost.toFixed(2)})\n`);
  }
}
