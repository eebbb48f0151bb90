import { isStorageError, StorageError } from '../base/errors.ts';
import type { BlockDevice } from '../base/block-device.ts';
import type { Snapshot } from '../format/snapshot.ts';
import type { LeaseWatch, TakeOver } from '../volume/take-over.ts';
import type { CheckReport } from '../volume/check-report.ts';
import type { Resized } from '../volume/resize.ts';
import type { Flattened, FlattenOptions } from '../volume/flattener.ts';
import type { PassOptions, SpaceStatus } from '../volume/space-keeper.ts';
import type { RolledBack } from '../volume/rollback.ts';
import type { SnapshotWish } from '../volume/snapshot-changes.ts';
import type { OperationMetrics } from '../store/with-metrics.ts';
import type { VolumeStatistics } from '../volume/statistics.ts';

/** A store as the daemon sees it: volumes by name, to be attached. */
export interface VolumeSource {
  /** The store's URL, without secrets. */
  readonly url: string;
  list(): Promise<readonly VolumeSummary[]>;
  /** A `StorageError` of code `not-found` when there is none of that name. */
  find(name: string): Promise<VolumeSummary>;
  /** `held` when another writer has it and `options` leave it to him. */
  attach(name: string, options: AttachOptions): Promise<AttachedVolume>;
  /** A version of a volume by the name or id of a snapshot; `not-found` when there is none. */
  findVersion(volume: string, version: string): Promise<VolumeVersion>;
  /** Makes a volume larger that is not attached; `held` when another writer has it. */
  grow(name: string, sizeBytes: number): Promise<Resized>;
  statistics(): StoreStatistics;
  close(): Promise<void>;
}

export interface VolumeSummary {
  readonly id: string;
  readonly name: string;
  readonly sizeBytes: number;
  /** The host of the writer that has it, when that is another than this daemon. */
  readonly holder: string | undefined;
  /** In the order in which they were made. */
  readonly snapshots: readonly SnapshotSummary[];
}

export type SnapshotSummary = Pick<
  Snapshot,
  'name' | 'sizeBytes' | 'createdAt' | 'description' | 'isCompleted'
>;

/** A volume as of some moment, to be read. */
export interface VolumeVersion {
  /** Unique in its store, and never another's. */
  readonly id: string;
  /** As an export: `VOLUME@VERSION`. */
  readonly name: string;
  /** Whether the store has all of it; else it cannot be opened yet. */
  readonly isCompleted: boolean;
  open(): Promise<AttachedVolume>;
}

export interface AttachOptions {
  readonly takeOver: TakeOver;
  /** Told again and again while another's lease is watched. */
  readonly onWatch: (watch: LeaseWatch) => void;
  /** Ends the watching. */
  readonly signal: AbortSignal;
}

export interface AttachedVolume extends BlockDevice {
  readonly name: string;
  /** Whether it answers nothing any more: another host took it. */
  readonly ended: boolean;
  statistics(): VolumeStatistics;
  /** Reads and verifies all of its objects; one that is attached for reading only has none. */
  scrub?(): Promise<CheckReport>;
  /** Gives back the space of what is dead. */
  compact?(options: PassOptions): Promise<SpaceStatus>;
  /** Makes a clone independent of its ancestors, while clients use it. */
  flatten?(options: FlattenOptions): Promise<Flattened>;
  /** Makes it larger, while clients use it. Neither is there where it is attached for reading only. */
  grow?(sizeBytes: number): Promise<Resized>;
  /** Cuts off what is past that size, for good; no client may have it. */
  shrink?(sizeBytes: number): Promise<Resized>;
  /** Makes a snapshot of this moment. Neither is there where it is attached for reading only. */
  createSnapshot?(wish: SnapshotWish): Promise<Snapshot>;
  /** Those that there are. */
  readonly snapshots?: readonly Snapshot[];
  /** Deletes a snapshot by its id; `held` while a clone reads it or somebody holds it. */
  deleteSnapshot?(id: string): Promise<void>;
  /** Resolves when the snapshot of that id outlives this host. */
  whenSnapshotCompleted?(id: string): Promise<Snapshot>;
  /** Has the store all that was answered before a time, for those who read it as it was then. */
  storeThrough?(timeMs: number): Promise<void>;
  /** Makes it what it was at a snapshot, and gives it up; no client may have it. */
  rollback?(snapshot: string): Promise<RolledBack>;
  /** Uploads everything, makes a checkpoint and gives the volume up. */
  close(): Promise<void>;
  /** Leaves at once; what was flushed is in the journal. */
  abandon(): Promise<void>;
}

export interface StoreStatistics {
  /** Requests by what they did: `get`, `put`, `list`, … */
  readonly requests: Readonly<Record<string, number>>;
  /** Failed requests; asking for what is not there is no failure. */
  readonly errors: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly inFlight: number;
  /** By what they did, in more detail. */
  readonly operations: Readonly<Record<string, OperationMetrics>>;
}

/**
 * The one store that has the volume. Every store must answer: with one silent, a volume of the
 * same name there could be the one that is meant.
 */
export async function sourceOf(
  sources: readonly VolumeSource[],
  name: string,
): Promise<VolumeSource> {
  const holders = await Promise.all(
    sources.map(async (source) => ((await has(source, name)) ? [source] : [])),
  );
  const [first, second] = holders.flat();
  if (first === undefined) throw new StorageError('not-found', `there is no volume "${name}"`);
  if (second === undefined) return first;
  throw new StorageError(
    'conflict',
    `two stores have a volume "${name}", ${first.url} and ${second.url}: serve them from two daemons`,
  );
}

async function has(source: VolumeSource, name: string): Promise<boolean> {
  try {
    await source.find(name);
    return true;
  } catch (error) {
    if (isStorageError(error, 'not-found') || isStorageError(error, 'usage')) return false;
    throw error;
  }
}
