import type { BlockDevice } from '../base/block-device.ts';
import type { DeviceStatistics } from './metered-device.ts';
import type { AttachedVolume } from './volume-source.ts';

/** A volume that a client may ask for. */
export interface OfferedVolume {
  readonly name: string;
  readonly description: string;
}

/** A volume that a client uses; `close` says that it does no more. */
export interface OpenVolume extends OfferedVolume {
  readonly device: BlockDevice;
  close(): Promise<void>;
}

export interface VolumeState {
  readonly name: string;
  readonly store: string;
  readonly volume: AttachedVolume;
  readonly clients: number;
  readonly requests: DeviceStatistics;
}
