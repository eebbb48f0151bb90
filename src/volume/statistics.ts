import { fileBytesOf } from './journal-recovery.ts';
import { type DurationCounts, DurationHistogram } from '../base/histogram.ts';
import type { Durability } from '../format/manifest.ts';
import { pendingSnapshots } from './snapshot-changes.ts';
import { neverScrubbed, type ScrubStatus } from './scrubber.ts';
import { nothingKept, type SpaceStatus } from './space-keeper.ts';
import type { Attachment, VolumeParts } from './volume-parts.ts';

/** What an attached volume says of itself. Bytes and milliseconds. */
export interface VolumeStatistics {
  readonly epoch: number;
  readonly durability: Durability;
  /** Written and not yet in the store. */
  readonly dirtyBytes: number;
  /** Age of the oldest of that; 0 when nothing is dirty. */
  readonly dirtyAgeMs: number;
  readonly journalFiles: number;
  readonly journalFilesMaximum: number;
  readonly journalFileBytes: number;
  readonly cacheBytes: number;
  readonly cacheHits: number;
  readonly cacheMisses: number;
  readonly diskCacheHits: number;
  readonly diskCacheMisses: number;
  readonly storeReads: number;
  readonly mapBytes: number;
  /** Segments that wait for their upload, and those whose upload is under way. */
  readonly uploadsWaiting: number;
  readonly uploadsUnderWay: number;
  readonly uploadedSegments: number;
  readonly uploadedBytes: number;
  readonly checkpoints: number;
  /** Of the volume; and of them those that the store does not have all of yet. */
  readonly snapshots: number;
  readonly pendingSnapshots: number;
  /** Put into the store by checkpoints, with the pages of the map. */
  readonly checkpointBytes: number;
  readonly syncs: number;
  /** How long the local disk took for each of them. */
  readonly syncTimes: DurationCounts;
  /** Ever written since it was attached. */
  readonly writtenBytes: number;
  /** For how long, as far as is known now, nobody else can have the volume; and how long at most. */
  readonly leaseRemainingMs: number;
  readonly leaseMs: number;
  readonly attachment: Attachment;
  readonly scrub: ScrubStatus;
  readonly space: SpaceStatus;
  /** Whether it still answers: no other host has taken it. */
  readonly held: boolean;
  /** Why the volume is no longer written, if it is not. */
  readonly failure: string | undefined;
}

/**
 * Bytes put into the store, of any kind, for each byte that clients wrote; 0 before the first. Below
 * one where what they write compresses well.
 */
export function writeAmplification(
  of: Pick<VolumeStatistics, 'writtenBytes' | 'uploadedBytes' | 'checkpointBytes' | 'space'>,
): number {
  const put = of.uploadedBytes + of.checkpointBytes + of.space.movedBytes;
  return of.writtenBytes === 0 ? 0 : put / of.writtenBytes;
}

/** Of a volume that is attached for reading only. */
export const nothingWritten = {
  dirtyBytes: 0,
  dirtyAgeMs: 0,
  journalFiles: 0,
  journalFilesMaximum: 0,
  journalFileBytes: fileBytesOf(false),
  diskCacheHits: 0,
  diskCacheMisses: 0,
  uploadsWaiting: 0,
  uploadsUnderWay: 0,
  uploadedSegments: 0,
  uploadedBytes: 0,
  checkpoints: 0,
  snapshots: 0,
  pendingSnapshots: 0,
  checkpointBytes: 0,
  syncs: 0,
  syncTimes: new DurationHistogram().read(),
  writtenBytes: 0,
  leaseRemainingMs: 0,
  leaseMs: 0,
  scrub: neverScrubbed,
  space: nothingKept,
  held: true,
} as const;

export function statisticsOf(
  parts: VolumeParts,
  { held, failure }: Pick<VolumeStatistics, 'held' | 'failure'>,
): VolumeStatistics {
  const { ownership, segments, files, uploader, diskCache } = parts;
  const oldestMs = segments.oldestDirtyMs;
  const syncTimes = segments.journal.syncTimes.read();
  const { waiting, underWay } = uploader.backlog;
  return {
    epoch: ownership.epoch,
    durability: parts.durability,
    dirtyBytes: segments.dirtyBytes,
    dirtyAgeMs: oldestMs === undefined ? 0 : parts.clock.monotonicMs() - oldestMs,
    journalFiles: files.usedCount,
    journalFilesMaximum: files.capacity,
    journalFileBytes: files.fileBytes,
    cacheBytes: parts.cache.memoryBytes + parts.memory.memoryBytes,
    cacheHits: parts.cache.hits,
    cacheMisses: parts.cache.misses,
    diskCacheHits: diskCache?.hits ?? 0,
    diskCacheMisses: diskCache?.misses ?? 0,
    storeReads: parts.frames.storeReads,
    mapBytes: parts.map.memoryBytes,
    uploadsWaiting: waiting,
    uploadsUnderWay: underWay,
    uploadedSegments: uploader.uploadedSegments,
    uploadedBytes: uploader.uploadedBytes,
    checkpoints: parts.checkpointer.checkpointCount,
    snapshots: ownership.manifest.snapshots.length,
    pendingSnapshots: pendingSnapshots(ownership.manifest).length,
    checkpointBytes: parts.checkpointer.storedBytes,
    syncs: syncTimes.counts.reduce((sum, count) => sum + count, 0),
    syncTimes,
    writtenBytes: segments.writtenBytes,
    leaseRemainingMs: ownership.lease.remainingMs,
    leaseMs: parts.settings.leaseMs,
    attachment: parts.attachment,
    scrub: parts.scrubber.status,
    space: parts.space.statistics,
    held,
    failure,
  };
}
