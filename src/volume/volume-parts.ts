import type { Clock } from '../base/clock.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { LocalDisk } from '../base/local-disk.ts';
import type { StorageError } from '../base/errors.ts';
import type { Random } from '../base/random.ts';
import type { EngineWorkers } from './engine-workers.ts';
import type { Log } from '../base/log.ts';
import type { Durability } from '../format/manifest.ts';
import type { BlockCache } from './block-cache.ts';
import type { BlockMap } from './block-map.ts';
import type { Checkpointer } from './checkpointer.ts';
import type { DiskCache } from './disk-cache.ts';
import type { FrameReader } from './frame-reader.ts';
import type { JournalFiles } from './journal-files.ts';
import type { LiveChanges } from './live-changes.ts';
import type { LogClock } from './log-clock.ts';
import type { Ownership } from './ownership.ts';
import type { StoredPlaces } from './segment-places.ts';
import type { RetentionKeeper } from './retention-keeper.ts';
import type { SegmentMemory } from './segment-memory.ts';
import type { SegmentLog } from './segment-log.ts';
import type { SpaceKeeper } from './space-keeper.ts';
import type { Scrubber } from './scrubber.ts';
import type { Snapshots } from './snapshots.ts';
import type { Uploader } from './uploader.ts';
import type { VolumeReader } from './volume-reader.ts';
import type { VolumeWriter } from './volume-writer.ts';
import type { VolumeSettings } from './settings.ts';

/** What attaching found and took. */
export interface Attachment {
  /** From the first look at the manifest to the first answer; waiting for another's lease is in it. */
  readonly tookMs: number;
  /** Segments after the checkpoint that were found in the store. */
  readonly storedTailSegments: number;
  /** What was found in the journal alone. */
  readonly recoveredSegments: number;
  readonly recoveredBytes: number;
}

/** The parts of an attached volume, wired by `openVolume`. */
export interface VolumeParts {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly times: LogClock;
  readonly log: Log;
  readonly disk: LocalDisk;
  readonly statePath: string;
  readonly ownership: Ownership;
  readonly map: BlockMap;
  readonly memory: SegmentMemory;
  readonly cache: BlockCache;
  readonly diskCache: DiskCache | undefined;
  readonly frames: FrameReader;
  readonly places: StoredPlaces;
  readonly space: SpaceKeeper;
  readonly files: JournalFiles;
  readonly segments: SegmentLog;
  readonly uploader: Uploader;
  readonly checkpointer: Checkpointer;
  readonly snapshots: Snapshots;
  readonly retention: RetentionKeeper;
  readonly scrubber: Scrubber;
  readonly reader: VolumeReader;
  readonly changes: LiveChanges;
  readonly writer: VolumeWriter;
  readonly durability: Durability;
  readonly attachment: Attachment;
  readonly settings: VolumeSettings;
  readonly random: Random;
  readonly workers: EngineWorkers;
  /** Why nothing more is asked of the store; `undefined` while it is. */
  ending(): StorageError | undefined;
}
