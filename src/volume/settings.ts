import type { Durability } from '../format/manifest.ts';
import { defaultSpaceSettings, type SpaceSettings } from './space-settings.ts';

/**
 * What has a write when it is answered. `memory`: it is lost with this process. `journal`: the
 * journal's file has it, so it outlives the process. `disk`: it is durable, as after a flush.
 */
export type WritesAnswered = 'memory' | 'journal' | 'disk';

/** The limits and choices of an attached volume. Bytes and milliseconds, as the names say. */
export interface VolumeSettings {
  /** RAM for blocks that were read or written lately. */
  readonly cacheBytes: number;
  /** Segments whose data is in RAM, 8 MiB each: the open one and those before it. */
  readonly segmentBuffers: number;
  /** Local disk for frames that were fetched from the store; 0 for none. */
  readonly diskCacheBytes: number;
  /** Local disk for what is not in the store yet. Writes wait when it is full. */
  readonly journalBytes: number;
  /** How long data may stay in an open segment before it is uploaded. */
  readonly uploadIntervalMs: number;
  /** Segments that are packed and uploaded at once. */
  readonly putConcurrency: number;
  /** Entry tables of segments that are read at once while the volume is opened. */
  readonly getConcurrency: number;
  /** How far ahead of a sequential reader the store is read; 0 for not at all. */
  readonly readaheadBytes: number;
  /** How long data may wait before it goes to the journal file, where no flush or write asks. */
  readonly journalDelayMs: number;
  /** Bytes that go to the journal file without waiting for that. */
  readonly journalBatchBytes: number;
  /** Segments in the store after which a checkpoint is worth its cost. */
  readonly checkpointSegments: number;
  /** Segments after which there is a checkpoint whatever it costs; bounds the work of opening. */
  readonly checkpointSegmentsMaximum: number;
  /** How long after the last upload an idle volume makes a checkpoint. */
  readonly checkpointIdleMs: number;
  /** How long others must see the writer's lease unchanged before they may call it dead. */
  readonly leaseMs: number;
  /** How often all of the volume's objects are read and verified; never when not given. */
  readonly scrubIntervalMs: number | undefined;
  readonly scrubBytesPerSecond: number;
  /** How space in the store comes back. */
  readonly space: SpaceSettings;
  /** How long a failed upload waits before it is tried again, at first and at most. */
  readonly retryMinimumMs: number;
  readonly retryMaximumMs: number;
  /** Overrides what the manifest says. */
  readonly durability: Durability | undefined;
  readonly writesAnswered: WritesAnswered;
}

const mebibyte = 2 ** 20;

export const defaultVolumeSettings: VolumeSettings = {
  cacheBytes: 256 * mebibyte,
  segmentBuffers: 4,
  diskCacheBytes: 1024 * mebibyte,
  journalBytes: 1024 * mebibyte,
  uploadIntervalMs: 5000,
  putConcurrency: 4,
  getConcurrency: 16,
  readaheadBytes: 32 * mebibyte,
  journalDelayMs: 2,
  journalBatchBytes: 512 * 1024,
  checkpointSegments: 32,
  checkpointSegmentsMaximum: 512,
  checkpointIdleMs: 30_000,
  leaseMs: 120_000,
  scrubIntervalMs: undefined,
  scrubBytesPerSecond: 16 * mebibyte,
  space: defaultSpaceSettings,
  retryMinimumMs: 200,
  retryMaximumMs: 10_000,
  durability: undefined,
  writesAnswered: 'journal',
};
