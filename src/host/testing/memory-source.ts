import { nothingKept } from '../../volume/space-keeper.ts';
import { DurationHistogram } from '../../base/histogram.ts';
import { StorageError } from '../../base/errors.ts';
import { neverScrubbed } from '../../volume/scrubber.ts';
import type { Resized } from '../../volume/resize.ts';
import type { TakeOver } from '../../volume/take-over.ts';
import type {
  AttachedVolume,
  AttachOptions,
  SnapshotSummary,
  VolumeSource,
  VolumeSummary,
  VolumeVersion,
} from '../volume-source.ts';

/** A volume in memory whose calls a test can see. */
export class MemoryVolume implements AttachedVolume {
  readonly name: string;
  bytes: Uint8Array;
  readonly readOnly = false;
  readonly preferredBlockBytes = 4096;
  ended = false;
  end: 'closed' | 'abandoned' | undefined;
  closeError: Error | undefined;
  shrinkError: Error | undefined;
  /** The times for which the store was to have everything. */
  readonly storedThroughMs: number[] = [];

  constructor(name: string, sizeBytes: number) {
    this.name = name;
    this.bytes = new Uint8Array(sizeBytes);
  }
  get sizeBytes(): number {
    return this.bytes.length;
  }
  read(offset: number, into: Uint8Array): undefined {
    into.set(this.bytes.subarray(offset, offset + into.length));
  }
  write(offset: number, from: Uint8Array): undefined {
    this.bytes.set(from, offset);
  }
  zero(offset: number, lengthBytes: number): undefined {
    this.bytes.fill(0, offset, offset + lengthBytes);
  }
  trim(offset: number, lengthBytes: number): undefined {
    this.zero(offset, lengthBytes);
  }
  flush(): undefined {}
  prefetch(): undefined {}
  status(
    _offset: number,
    lengthBytes: number,
  ): { lengthBytes: number; hole: false; zero: false }[] {
    return [{ lengthBytes, hole: false, zero: false }];
  }
  grow(sizeBytes: number): Promise<Resized> {
    return Promise.resolve(this.#resize(sizeBytes));
  }
  shrink(sizeBytes: number): Promise<Resized> {
    if (this.shrinkError !== undefined) return Promise.reject(this.shrinkError);
    return Promise.resolve(this.#resize(sizeBytes));
  }
  #resize(sizeBytes: number): Resized {
    const before = this.bytes;
    this.bytes = new Uint8Array(sizeBytes);
    this.bytes.set(before.subarray(0, sizeBytes));
    return { beforeBytes: before.length, sizeBytes };
  }
  storeThrough(timeMs: number): Promise<void> {
    this.storedThroughMs.push(timeMs);
    return Promise.resolve();
  }
  statistics(): ReturnType<AttachedVolume['statistics']> {
    return {
      epoch: 1,
      durability: 'local',
      dirtyBytes: 8192,
      dirtyAgeMs: 1500,
      journalFiles: 1,
      journalFilesMaximum: 8,
      cacheBytes: 0,
      cacheHits: 3,
      cacheMisses: 1,
      diskCacheHits: 0,
      diskCacheMisses: 0,
      journalFileBytes: 4096,
      checkpointBytes: 0,
      uploadsWaiting: 0,
      space: { ...nothingKept, storedBytes: 12_288, liveBytes: 8192, deadBytes: 4096 },
      uploadsUnderWay: 0,
      storeReads: 1,
      mapBytes: 0,
      uploadedSegments: 0,
      uploadedBytes: 0,
      checkpoints: 0,
      snapshots: 3,
      pendingSnapshots: 1,
      syncs: 0,
      syncTimes: new DurationHistogram().read(),
      writtenBytes: 0,
      leaseMs: 120_000,
      attachment: {
        tookMs: 0,
        storedTailSegments: 0,
        recoveredSegments: 0,
        recoveredBytes: 0,
      },
      scrub: neverScrubbed,
      held: true,
      leaseRemainingMs: 100_000,
      failure: undefined,
    };
  }
  close(): Promise<void> {
    if (this.closeError !== undefined) return Promise.reject(this.closeError);
    this.end = 'closed';
    return Promise.resolve();
  }
  abandon(): Promise<void> {
    this.end = 'abandoned';
    return Promise.resolve();
  }
}

/** A store in memory with volumes of 1 MiB. */
export class MemorySource implements VolumeSource {
  readonly url: string;
  readonly names: string[];
  readonly attachments: MemoryVolume[] = [];
  readonly takeOvers: TakeOver[] = [];
  /** By volume: the host of another writer that has it. */
  readonly holders = new Map<string, string>();
  /** When set, every call fails with it. */
  failure: StorageError | undefined;
  closed = false;
  shrinkError: Error | undefined;

  constructor(url: string, names: string[]) {
    this.url = url;
    this.names = names;
  }
  list(): Promise<VolumeSummary[]> {
    return this.#answer(() => this.names.map((name) => this.#summary(name)));
  }
  find(name: string): Promise<VolumeSummary> {
    return this.#answer(() => {
      if (!this.names.includes(name)) throw new StorageError('not-found', `no volume "${name}"`);
      return this.#summary(name);
    });
  }
  attach(name: string, options: AttachOptions): Promise<MemoryVolume> {
    this.takeOvers.push(options.takeOver);
    return this.#answer(async () => {
      await this.beforeAttach(name, options);
      const volume = new MemoryVolume(name, 2 ** 20);
      volume.shrinkError = this.shrinkError;
      this.attachments.push(volume);
      return volume;
    });
  }
  /** By volume: its snapshots, which hold nothing. */
  readonly snapshots = new Map<string, SnapshotSummary[]>();
  /** The versions that were opened. */
  readonly versions: MemoryVolume[] = [];
  findVersion(volume: string, version: string): Promise<VolumeVersion> {
    return this.#answer(() => {
      const snapshot = this.snapshots.get(volume)?.find(({ name }) => name === version);
      if (snapshot === undefined) throw new StorageError('not-found', `no snapshot "${version}"`);
      const name = `${volume}@${version}`;
      const open = (): Promise<MemoryVolume> =>
        this.#answer(() => {
          const opened = new MemoryVolume(name, snapshot.sizeBytes);
          this.versions.push(opened);
          return opened;
        });
      return { id: `id-of-${name}`, name, isCompleted: snapshot.isCompleted, open };
    });
  }
  /** What a test does while a volume is attached. */
  beforeAttach: (name: string, options: AttachOptions) => Promise<void> = () => Promise.resolve();
  /** What volumes that are not attached were grown to. */
  readonly grown = new Map<string, number>();
  grow(name: string, sizeBytes: number): Promise<Resized> {
    return this.#answer(() => {
      const host = this.holders.get(name);
      if (host !== undefined) throw new StorageError('held', `attached on ${host}`);
      this.grown.set(name, sizeBytes);
      return { beforeBytes: 2 ** 20, sizeBytes };
    });
  }
  statistics(): ReturnType<VolumeSource['statistics']> {
    return {
      requests: { get: 7 },
      errors: 1,
      bytesSent: 0,
      bytesReceived: 42,
      inFlight: 0,
      operations: {},
    };
  }
  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }
  #summary(name: string): VolumeSummary {
    const snapshots = this.snapshots.get(name) ?? [];
    const holder = this.holders.get(name);
    return { id: `id-of-${name}`, name, sizeBytes: 2 ** 20, holder, snapshots };
  }
  #answer<T>(give: () => T | Promise<T>): Promise<T> {
    return Promise.resolve().then(() => {
      if (this.failure !== undefined) throw this.failure;
      return give();
    });
  }
}
