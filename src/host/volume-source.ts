import type { BlockDevice } from '../base/block-device.ts';

/** A store as the daemon sees it: volumes by name, to be attached. */
export interface VolumeSource {
  /** The store's URL, without secrets. */
  readonly url: string;
  list(): Promise<readonly VolumeSummary[]>;
  /** A `StorageError` of code `not-found` when there is none of that name. */
  find(name: string): Promise<VolumeSummary>;
  attach(name: string): Promise<AttachedVolume>;
  statistics(): StoreStatistics;
  close(): Promise<void>;
}

export interface VolumeSummary {
  readonly id: string;
  readonly name: string;
  readonly sizeBytes: number;
}

export interface AttachedVolume extends BlockDevice {
  readonly name: string;
  /** Why the volume serves no more, when it has found that another host took it, say. */
  readonly failure: Error | undefined;
  statistics(): VolumeStatistics;
  /** Uploads everything, makes a checkpoint and gives the volume up. */
  close(): Promise<void>;
  /** Leaves at once; what was flushed is in the journal. */
  abandon(): void;
}

export interface VolumeStatistics {
  /** Written and not yet in the store. */
  readonly dirtyBytes: number;
  /** Age of the oldest of it; `undefined` when there is none. */
  readonly oldestDirtyAgeMs: number | undefined;
  readonly cacheHits: number;
  readonly cacheMisses: number;
}

export interface StoreStatistics {
  /** Requests by what they did: `get`, `put`, `list`, … */
  readonly requests: Readonly<Record<string, number>>;
  readonly errors: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
}
