import { StorageError } from '../base/errors.ts';
import type { LocalDisk } from '../base/local-disk.ts';
import type { Log } from '../base/log.ts';
import {
  journalFileBytes,
  type JournalHeader,
  journalHeaderUsedBytes,
} from '../format/journal-file.ts';
import { type JournalFile, journalFileNumber } from './journal-files.ts';
import { readJournalHeader, type ScannedSegment, scanJournalFile } from './journal-scan.ts';
import { SegmentBuffer } from './segment-buffer.ts';

export interface RecoveredJournal {
  /** Segments that go on from the store's last, in order; durable on the local disk. */
  readonly segments: SegmentBuffer[];
  readonly free: JournalFile[];
}

interface Candidate {
  readonly file: JournalFile;
  readonly header: JournalHeader;
}

/** Opens the journal's files and forgets what they hold: everything of it is in the store. */
export async function reuseJournal(disk: LocalDisk, directory: string): Promise<JournalFile[]> {
  const files: JournalFile[] = [];
  for (const name of await disk.list(directory)) {
    const path = `${directory}/${name}`;
    if (journalFileNumber(path) < 0) continue;
    const file = await disk.open(path, { create: false });
    if ((await file.sizeBytes()) === journalFileBytes) {
      files.push({ path, file });
      continue;
    }
    // One that was being made when the host went down.
    await file.close();
    await disk.remove(path);
  }
  return files;
}

/**
 * Finds the segments after `lastStored` in the journal's files and takes their unbroken sequence: it
 * ends at the first segment that is missing, and after the first that is not whole.
 */
export async function recoverJournal(options: {
  readonly disk: LocalDisk;
  readonly directory: string;
  readonly volumeId: string;
  readonly lastStored: number;
  readonly log: Log;
  readonly nowMs: number;
  readonly wallMs: number;
}): Promise<RecoveredJournal> {
  const { disk, directory, volumeId, lastStored, log } = options;
  const files = await reuseJournal(disk, directory);
  const candidates: Candidate[] = [];
  for (const file of files) {
    const header = await readJournalHeader(file.file);
    if (header === undefined || header.volumeId !== volumeId) continue;
    if (header.segment > lastStored) candidates.push({ file, header });
  }
  candidates.sort((a, b) => a.header.segment - b.header.segment);
  const segments: SegmentBuffer[] = [];
  let previous: ScannedSegment | undefined;
  for (const { file, header } of candidates) {
    if (header.segment !== lastStored + segments.length + 1) break;
    if (previous !== undefined && previous.entryCount !== header.previousEntries) break;
    const scanned = await scanJournalFile(file.file, header);
    if (scanned.entryCount === 0) break;
    await file.file.sync();
    segments.push(SegmentBuffer.recovered(scanned, file, options.nowMs, options.wallMs));
    previous = scanned;
  }
  const dropped = candidates.slice(segments.length);
  // Their numbers will be given again: a later recovery must not find two of a number.
  for (const { file } of dropped) {
    await file.file.write([new Uint8Array(journalHeaderUsedBytes)], 0);
    await file.file.sync();
  }
  if (dropped.length > 0) {
    log.info('journal files past the recovered end hold nothing durable', {
      files: dropped.length,
    });
  }
  const used = new Set(segments.map((segment) => segment.file));
  return { segments, free: files.filter((file) => !used.has(file)) };
}

/** Moves a journal that somebody else's epoch has closed out of the way; it is never deleted. */
export async function setJournalAside(
  disk: LocalDisk,
  directory: string,
  epoch: number,
): Promise<string> {
  for (let attempt = 0; attempt < 1000; attempt += 1) {
    const target = `${directory}-set-aside-${epoch}${attempt === 0 ? '' : `-${attempt}`}`;
    if ((await disk.list(target)).length > 0) continue;
    await disk.rename(directory, target);
    return target;
  }
  throw new StorageError(
    'local-io',
    `There is no free name to set ${directory} aside; move older ones away.`,
  );
}
