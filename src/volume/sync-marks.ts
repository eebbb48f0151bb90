import type { Clock } from '../base/clock.ts';
import { type StorageError, toStorageError } from '../base/errors.ts';
import { journalMarkPosition } from '../format/journal-file.ts';
import type { SegmentBuffer } from './segment-buffer.ts';

/** How long after a sync it is noted: many syncs share a note. */
const markDelayMs = 20;

/**
 * Notes in each journal file, soon after a sync, how much of it is durable. Nobody waits for that. A
 * recovery that finds less than was noted knows that the disk has lost what it had taken, where
 * otherwise it could only take it for the end of what was written.
 */
export class SyncMarks {
  private readonly clock: Clock;
  private readonly onFailure: (error: StorageError) => void;
  private readonly unmarked = new Set<SegmentBuffer>();
  private cancelTimer: (() => void) | undefined;

  constructor(clock: Clock, onFailure: (error: StorageError) => void) {
    this.clock = clock;
    this.onFailure = onFailure;
  }

  /** More of the segment has become durable. */
  synced(segment: SegmentBuffer): void {
    this.unmarked.add(segment);
    this.cancelTimer ??= this.clock.after(markDelayMs, () => this.write());
  }

  private write(): void {
    this.cancelTimer = undefined;
    try {
      for (const segment of this.unmarked) {
        segment.file.file.writeHere(segment.encodedMark(), journalMarkPosition);
      }
      this.unmarked.clear();
    } catch (error) {
      this.onFailure(toStorageError(error));
    }
  }

  /** The segment is in the store: its file may be another's from now on. */
  forget(segment: SegmentBuffer): void {
    this.unmarked.delete(segment);
  }

  stop(): void {
    this.cancelTimer?.();
    this.cancelTimer = undefined;
    this.unmarked.clear();
  }
}
