import type { VolumeStatistics } from '../volume/statistics.ts';
import type { LoopDelay } from './loop-delay.ts';
import type { DeviceStatistics } from './metered-device.ts';
import type { StoreStatistics } from './volume-source.ts';

/** What `GET /status` on the control socket answers. */
export interface DaemonStatus {
  readonly version: string;
  readonly pid: number;
  readonly startedAt: string;
  readonly uptimeMs: number;
  readonly stopping: boolean;
  readonly residentBytes: number;
  readonly loopDelay: LoopDelay;
  readonly stateDirectory: string;
  /** URLs that clients connect to. */
  readonly listening: readonly string[];
  /** Where metrics are served, if they are. */
  readonly metrics: string | undefined;
  /** The attached volumes. */
  readonly volumes: readonly VolumeStatus[];
  /** The snapshots that are read, or were a while ago. */
  readonly snapshots: readonly SnapshotStatus[];
  readonly clients: readonly ClientStatus[];
  readonly stores: readonly StoreStatus[];
}

export interface VolumeStatus extends VolumeStatistics {
  readonly name: string;
  readonly store: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly clients: number;
  /** What its clients asked of it. */
  readonly requests: DeviceStatistics;
}

export interface SnapshotStatus extends Pick<VolumeStatistics, 'cacheHits' | 'cacheMisses'> {
  /** As an export: `VOLUME@SNAPSHOT`. */
  readonly name: string;
  readonly store: string;
  readonly sizeBytes: number;
  readonly clients: number;
  readonly requests: DeviceStatistics;
}

export interface ClientStatus {
  /** The client's address, or the Unix socket that it came through. */
  readonly peer: string;
  /** The volume that it uses; `undefined` until it has chosen one. */
  readonly volume: string | undefined;
}

export interface StoreStatus extends StoreStatistics {
  readonly url: string;
}
