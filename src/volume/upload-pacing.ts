import type { VolumeSettings } from './settings.ts';

/** How often a waiting uploader looks whether the clients have paused. */
export const idleTickMs = 100;
/** Share of the journal above which nothing waits any more. */
const hurriedShare = 0.5;

export interface UploadSituation {
  /** Since the oldest segment that waits was begun. */
  readonly ageMs: number;
  /** Used part of the journal, 0 to 1. */
  readonly journalShare: number;
  /** No made file is free: to use one again is cheaper than to make one more. */
  readonly isShortOfFiles: boolean;
  /** Nothing was written during the last tick. */
  readonly isIdle: boolean;
  /** Somebody waits for segments to be in the store: a flush, or the end. */
  readonly isAwaited: boolean;
}

/**
 * Whether the oldest sealed segment is uploaded now. Packing and uploading take processor and disk
 * from answering; so while clients write, segments may wait for each other up to the upload
 * interval, as data in an open segment does. They do not when clients pause, when somebody waits for
 * the store, or when the journal fills.
 */
export function isUploadDue(situation: UploadSituation, settings: VolumeSettings): boolean {
  return (
    situation.isAwaited ||
    situation.isIdle ||
    situation.isShortOfFiles ||
    situation.ageMs >= settings.uploadIntervalMs ||
    situation.journalShare > hurriedShare
  );
}
