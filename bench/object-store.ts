/**
 * On Ceph's S3 gateway: our volume beside s3backer, and beside what our S3 client does alone. A
 * write counts as done when it is in the store: for ours when the daemon has stopped cleanly, for
 * s3backer when it is unmounted. Every read is cold: a new process with empty caches.
 */
import { createS3Store, type S3Store } from '../src/store/s3-store.ts';
import { Daemon, createVolume, s3Store } from '../test/support/daemon.ts';
import { startRgw, type Rgw } from '../test/support/rgw.ts';
import { run, TemporaryDirectory } from '../test/support/programs.ts';
import { type Load, type Measurement, measure, type Target } from './measure.ts';
import { daemonFlags, ours, s3backer } from './peers.ts';
import type { Sample, Sheet, Unit } from './report.ts';

const mebibyte = 2 ** 20;
const gibibyte = 2 ** 30;
const volumeBytes = 2 * gibibyte;
export const rawClient = 'S3 client alone';

export const rows = {
  sequentialWrite: 'sequential write until stored',
  sequentialRead: 'cold sequential read',
  randomRead: [
    { row: 'cold 4K random read, depth 1', depth: 1 },
    { row: 'cold 4K random read, depth 8', depth: 8 },
  ],
  randomWrite: '4K random write until stored',
} as const;

export interface StoreSettings {
  readonly rounds: number;
  readonly secondsEach: number;
  /** Bytes of sequential writes, and the range of cold reads. */
  readonly sequentialBytes: number;
  /** Bytes of random 4K writes, over the whole volume. */
  readonly randomBytes: number;
  /** Bytes of random 4K writes for peers that do a few hundred of them each second. */
  readonly slowRandomBytes: number;
}

/** One contender on one empty disk. */
interface Disk {
  readonly name: string;
  /** Bytes that it writes in order, and then reads; less for those that would take hours. */
  readonly sequentialBytes: number;
  /** Bytes that it writes at random; none for one that is only there for large blocks. */
  readonly randomBytes: number;
  readonly reads: boolean;
  /** Runs `use` with a process with empty caches, which is then stopped, all it wrote stored. */
  open<T>(use: (target: Target) => Promise<T>): Promise<T>;
}

/** How s3backer is run: as strict as our flush, as it comes, and with the blocks that suit it best. */
const s3backerModes = {
  durable: {
    flags: ['--blockSize=4k', '--blockCacheWriteDelay=0', '--blockCacheSync'],
    sequentialShare: 1 / 32,
    random: true,
    reads: false,
  },
  defaults: { flags: ['--blockSize=4k'], sequentialShare: 1 / 32, random: true, reads: true },
  '1M blocks': { flags: ['--blockSize=1m'], sequentialShare: 1 / 2, random: false, reads: true },
} as const;

class StoreBench {
  readonly #rgw: Rgw;
  readonly #settings: StoreSettings;
  readonly #say: (line: string) => void;
  readonly samples: Sample[] = [];
  #round = 0;

  constructor(rgw: Rgw, settings: StoreSettings, say: (line: string) => void) {
    this.#rgw = rgw;
    this.#settings = settings;
    this.#say = say;
  }

  async runRound(round: number): Promise<void> {
    this.#round = round;
    await using bucket = await this.#bucket();
    await this.#rawClient(bucket.store);
    for (const disk of await this.#disks(bucket)) {
      await this.#sequentialWrites(disk);
      if (disk.reads) await this.#reads(disk);
      if (disk.randomBytes > 0) await this.#randomWrites(disk);
      this.#say(`measured ${disk.name}, round ${round + 1}`);
    }
  }

  async #bucket(): Promise<{ store: S3Store; name: string } & AsyncDisposable> {
    const name = `round-${this.#round}`;
    const { endpoint, accessKeyId, secretAccessKey } = this.#rgw;
    const store = createS3Store({
      endpoint,
      bucket: name,
      credentials: { accessKeyId, secretAccessKey },
    });
    await store.ensureBucket();
    return { store, name, [Symbol.asyncDispose]: () => store.close() };
  }

  async #disks(bucket: { name: string }): Promise<Disk[]> {
    const place = {
      endpoint: this.#rgw.endpoint,
      bucket: bucket.name,
      accessKey: this.#rgw.accessKeyId,
      secretKey: this.#rgw.secretAccessKey,
    };
    const { sequentialBytes, slowRandomBytes } = this.#settings;
    const peers = Object.entries(s3backerModes).map(
      ([mode, { flags, sequentialShare, random, reads }]): Disk => ({
        name: `s3backer ${mode}`,
        sequentialBytes: sequentialBytes * sequentialShare,
        randomBytes: random ? slowRandomBytes : 0,
        reads,
        open: async (use) => {
          await using machine = await TemporaryDirectory.make();
          const prefix = mode.replace(' ', '-');
          await using mounted = await s3backer(place, machine, prefix, volumeBytes, flags);
          return await use(mounted.target);
        },
      }),
    );
    return [await this.#ownDisk(bucket.name), ...peers];
  }

  async #ownDisk(bucketName: string): Promise<Disk> {
    const store = s3Store(`s3://${bucketName}/elasticdrive`, this.#rgw);
    await createVolume(store, 'bench', String(volumeBytes));
    return {
      name: ours,
      sequentialBytes: this.#settings.sequentialBytes,
      randomBytes: this.#settings.randomBytes,
      reads: true,
      open: async (use) => {
        await using machine = await TemporaryDirectory.make();
        const directory = machine.path;
        await using daemon = await Daemon.start({
          store,
          directory,
          flags: daemonFlags,
          unchecked: true,
        });
        const result = await use({ uri: daemon.uri('bench') });
        await daemon.stop();
        return result;
      },
    };
  }

  #add(row: string, unit: Unit, column: string, value: number): void {
    this.samples.push({ row, unit, column, value });
  }

  async #rawClient(store: S3Store): Promise<void> {
    const { sequentialBytes } = this.#settings;
    const objectBytes = 8 * mebibyte;
    const count = Math.ceil(sequentialBytes / objectBytes);
    const body = crypto.getRandomValues(new Uint8Array(65_536));
    const parts = Array.from({ length: objectBytes / body.length }, () => body);
    const speed = async (each: (index: number) => Promise<unknown>): Promise<number> => {
      const started = performance.now();
      let next = 0;
      const worker = async (): Promise<void> => {
        for (let index = next++; index < count; index = next++) await each(index);
      };
      await Promise.all(Array.from({ length: 4 }, worker));
      return (count * objectBytes) / ((performance.now() - started) / 1_000);
    };
    const put = await speed((index) => store.put(`raw/${index}`, parts));
    this.#add(rows.sequentialWrite, 'bytes/s', rawClient, put);
    const get = await speed((index) => store.get(`raw/${index}`));
    this.#add(rows.sequentialRead, 'bytes/s', rawClient, get);
    this.#say(`measured the S3 client, round ${this.#round + 1}`);
  }

  async #sequentialWrites(disk: Disk): Promise<void> {
    await this.#writing(disk, rows.sequentialWrite, 'bytes/s', {
      name: rows.sequentialWrite,
      kind: 'write',
      blockBytes: 131_072,
      depth: 16,
      rangeBytes: disk.sequentialBytes,
      limit: { bytes: disk.sequentialBytes },
    });
  }

  /** Reads what was written in order. */
  async #reads(disk: Disk): Promise<void> {
    const rangeBytes = disk.sequentialBytes;
    const sequential = await disk.open((target) =>
      measure(target, {
        name: rows.sequentialRead,
        kind: 'read',
        blockBytes: 131_072,
        depth: 16,
        rangeBytes,
        limit: { bytes: rangeBytes },
      }),
    );
    this.#add(rows.sequentialRead, 'bytes/s', disk.name, sequential.bytesPerSecond);
    // A large block makes its neighbours' reads no cold ones.
    const randomReads = disk.randomBytes > 0 ? rows.randomRead : [];
    for (const { row, depth } of randomReads) {
      const random = await disk.open((target) =>
        measure(target, {
          name: row,
          kind: 'randread',
          blockBytes: 4_096,
          rangeBytes,
          // Each block once at most, so that every read is a cold one.
          limit: { seconds: this.#settings.secondsEach, once: true },
          // A mount is read by so many clients; an export by so many requests of one.
          ...('uri' in target ? { depth } : { depth: 1, jobs: depth }),
        }),
      );
      this.#add(row, 'IOPS', disk.name, random.operationsPerSecond);
    }
  }

  async #randomWrites(disk: Disk): Promise<void> {
    await this.#writing(disk, rows.randomWrite, 'IOPS', {
      name: rows.randomWrite,
      kind: 'randwrite',
      blockBytes: 4_096,
      depth: 32,
      rangeBytes: volumeBytes,
      limit: { bytes: disk.randomBytes },
    });
  }

  /** Runs a load that ends when all of it is in the store, and counts what that took. */
  async #writing(disk: Disk, row: string, unit: 'IOPS' | 'bytes/s', load: Load): Promise<void> {
    const bytes = 'bytes' in load.limit ? load.limit.bytes : 0;
    let started = 0;
    let measured: Measurement | undefined;
    // What it takes to open the disk, the store's first probing too, is not counted as writing.
    let before = await this.#rgw.traffic();
    await disk.open(async (target) => {
      if ('uri' in target) await run('nbdinfo', ['--size', target.uri]);
      before = await this.#rgw.traffic();
      started = performance.now();
      const spread = 'file' in target ? { depth: 1, jobs: 8, limit: { bytes: bytes / 8 } } : {};
      measured = await measure(target, { ...load, ...(load.kind === 'randwrite' ? spread : {}) });
    });
    const seconds = (performance.now() - started) / 1_000;
    const after = await this.#rgw.traffic();
    if (measured === undefined) throw new Error(`${row}: nothing was measured`);
    const stored = bytes / seconds;
    this.#add(row, unit, disk.name, unit === 'IOPS' ? stored / load.blockBytes : stored);
    const puts = ((after.puts - before.puts) / bytes) * gibibyte;
    const requests = ((after.requests - before.requests) / bytes) * gibibyte;
    this.#add(`${row}: PUTs`, 'requests/GiB', disk.name, puts);
    this.#add(`${row}: all requests`, 'requests/GiB', disk.name, requests);
    const sent = (after.putBytes - before.putBytes) / bytes;
    this.#add(`${row}: sent`, 'bytes/byte', disk.name, sent);
  }
}

export async function measureObjectStore(
  settings: StoreSettings,
  say: (line: string) => void,
): Promise<Sheet> {
  await using rgw = await startRgw();
  const bench = new StoreBench(rgw, settings, say);
  for (let round = 0; round < settings.rounds; round += 1) await bench.runRound(round);
  return { title: 'An S3 store: Ceph RGW on this machine', ours, samples: bench.samples };
}
