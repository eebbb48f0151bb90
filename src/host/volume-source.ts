import type { BlockDevice } from '../base/block-device.ts';
import type { LeaseWatch, TakeOver } from '../volume/take-over.ts';
import type { CheckReport } from '../volume/check-report.ts';
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
  statistics(): StoreStatistics;
  close(): Promise<void>;
}

export interface VolumeSummary {
  readonly id: string;
  readonly name: string;
  readonly sizeBytes: number;
  /** The host of the writer that has it, when that is another than this daemon. */
  readonly holder: string | undefined;
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
