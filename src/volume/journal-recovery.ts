import { isStorageError, StorageError } from '../base/errors.ts';
import type { LocalDisk } from '../base/local-disk.ts';
import type { Log } from '../base/log.ts';
import { segmentEntries } from '../format/geometry.ts';
import {
  type JournalHeader,
  journalFileBytes,
  journalHeaderUsedBytes,
  journalRecordsOffset,
  recordBytes,
} from '../format/journal-file.ts';
import { groupHeaderBytes, sealedJournalFileBytes } from '../format/sealed-journal.ts';
import { type JournalFile, journalFileNumber } from './journal-files.ts';
import {
  type DamagedStart,
  type JournalKeyOf,
  type JournalStart,
  readJournalStart,
  scanJournalFile,
} from './journal-scan.ts';
import { SegmentBuffer } from './segment-buffer.ts';

export interface RecoveredJournal {
  /** Segments that go on from the store's last, in order; durable on the local disk. */
  readonly segments: SegmentBuffer[];
  readonly free: JournalFile[];
}

/** A file that holds a segment which the store does not have. */
interface Candidate extends JournalStart {
  readonly file: JournalFile;
}

interface FoundFiles {
  readonly whole: JournalFile[];
  /** Not as long as journal files are. */
  readonly short: JournalFile[];
}

/**
 * Opens the journal's files and changes nothing. One may be whole in the kernel's memory alone, where
 * its maker was killed before it was synced: it is synced before anything relies on its length.
 */
export async function openJournal(
  disk: LocalDisk,
  directory: string,
  fileBytes: number,
): Promise<FoundFiles> {
  const found: FoundFiles = { whole: [], short: [] };
  try {
    for (const name of await disk.list(directory)) {
      const path = `${directory}/${name}`;
      if (journalFileNumber(path) < 0) continue;
      const file = await disk.open(path, { create: false });
      const isWhole = (await file.sizeBytes()) === fileBytes;
      (isWhole ? found.whole : found.short).push({ path, file });
      if (isWhole) await file.sync();
    }
    return found;
  } catch (error) {
    await closeFiles([...found.whole, ...found.short]);
    throw error;
  }
}

export async function closeFiles(files: readonly JournalFile[]): Promise<void> {
  for (const { file } of files) await file.close();
}

async function removeFiles(disk: LocalDisk, files: readonly JournalFile[]): Promise<void> {
  await closeFiles(files);
  for (const { path } of files) await disk.remove(path);
}

/** Opens the journal's files and forgets what they hold: everything of it is in the store. */
export async function reuseJournal(
  disk: LocalDisk,
  directory: string,
  fileBytes: number,
): Promise<JournalFile[]> {
  const { whole, short } = await openJournal(disk, directory, fileBytes);
  await removeFiles(disk, short);
  return whole;
}

export interface JournalRecovery {
  readonly disk: LocalDisk;
  readonly directory: string;
  readonly volumeId: string;
  readonly lastStored: number;
  readonly log: Log;
  readonly nowMs: number;
  readonly wallMs: number;
  /** Of an encrypted volume. */
  readonly keyOf: JournalKeyOf;
}

/** How long the journal files of a volume are. */
export function fileBytesOf(isSealed: boolean): number {
  return isSealed ? sealedJournalFileBytes : journalFileBytes;
}

/**
 * Finds the segments after `lastStored` in the journal's files and takes their unbroken sequence: it
 * ends at the first segment that is missing, and after the first that is not whole. `corrupt`, and
 * nothing is changed, when more than that was made durable once: then the disk has damaged it.
 */
export async function recoverJournal(options: JournalRecovery): Promise<RecoveredJournal> {
  const { disk, directory, log, keyOf } = options;
  const fileBytes = fileBytesOf(keyOf !== undefined);
  const { whole, short } = await openJournal(disk, directory, fileBytes);
  try {
    await requireNeverUsed(options, short);
    const found = await candidatesOf(options, whole);
    const candidates = withoutSuperseded(found);
    const segments = await unbrokenSegments(options, candidates);
    const used = new Set(segments.map((segment) => segment.file));
    const dropped = found.filter(({ file }) => !used.has(file));
    requireUndamaged(options, segments, candidates);
    await endAfter(segments.at(-1));
    // One that was being made when the host went down.
    await removeFiles(disk, short.splice(0));
    // Their numbers will be given again: a later recovery must not find two of a number.
    for (const { file } of dropped) {
      await file.file.write([new Uint8Array(journalHeaderUsedBytes)], 0);
      await file.file.sync();
    }
    if (dropped.length > 0) {
      log.info('journal files past the recovered end hold nothing that was flushed', {
        files: dropped.length,
      });
    }
    return { segments, free: whole.filter((file) => !used.has(file)) };
  } catch (error) {
    await closeFiles([...whole, ...short]);
    throw error;
  }
}

/**
 * Makes the end that was found the end for good: what failed because of a bit that had changed in
 * memory, or in the reading, would else be there again the next time, after others went on without it.
 */
async function endAfter(last: SegmentBuffer | undefined): Promise<void> {
  if (last === undefined || last.entryCount === segmentEntries) return;
  const { groups } = last;
  const position = groups?.endPosition ?? journalRecordsOffset + last.entryCount * recordBytes;
  const zeroes = new Uint8Array(groups === undefined ? recordBytes : groupHeaderBytes);
  await last.file.file.write([zeroes], position);
  await last.file.file.sync();
}

/** The files whose segments the store does not have, in order. */
async function candidatesOf(
  options: JournalRecovery,
  files: readonly JournalFile[],
): Promise<Candidate[]> {
  const candidates: Candidate[] = [];
  for (const file of files) {
    const start = await readJournalStart(file.file);
    if (start === undefined || isOver(options, start.header)) continue;
    if ('damage' in start) throw headerDamage(options, file, start);
    candidates.push({ file, ...start });
  }
  return candidates.sort(
    (a, b) => a.header.segment - b.header.segment || b.header.epoch - a.header.epoch,
  );
}

/** Whether the store has what the file holds, or it never was of this volume. */
function isOver({ volumeId, lastStored }: JournalRecovery, header?: JournalHeader): boolean {
  return header !== undefined && (header.volumeId !== volumeId || header.segment <= lastStored);
}

function headerDamage(
  options: JournalRecovery,
  { path }: JournalFile,
  { damage: how, header }: DamagedStart,
): StorageError {
  const was = header === undefined ? '' : `, which was that of segment ${header.segment}`;
  return damage(options, `the header of ${path}${was}, was changed on the disk (${how})`);
}

/**
 * Those that no later writer has given up: one that went on from a segment before them, or wrote that
 * number anew, did so because to it they were not there.
 */
function withoutSuperseded(candidates: readonly Candidate[]): Candidate[] {
  let latestEpoch = 0;
  return candidates.filter(({ header }) => {
    const isSuperseded = header.epoch < latestEpoch;
    latestEpoch = Math.max(latestEpoch, header.epoch);
    return !isSuperseded;
  });
}

async function unbrokenSegments(
  options: JournalRecovery,
  candidates: readonly Candidate[],
): Promise<SegmentBuffer[]> {
  const { lastStored, nowMs, wallMs, keyOf } = options;
  const segments: SegmentBuffer[] = [];
  for (const { file, header } of candidates) {
    if (header.segment !== lastStored + segments.length + 1) break;
    const previous = segments.at(-1);
    if (previous !== undefined && previous.entryCount !== header.previousEntries) break;
    const scanned = await scanJournalFile(file.file, header, keyOf).catch((error: unknown) => {
      if (!isStorageError(error, 'corrupt')) throw error;
      throw damage(options, `of ${file.path}, ${error.message}`);
    });
    if (scanned.entryCount === 0) break;
    await file.file.sync();
    segments.push(SegmentBuffer.recovered(scanned, file, nowMs, wallMs));
  }
  return segments;
}

/** A file that is too short was being made, and then no segment was ever in it. */
async function requireNeverUsed(
  options: JournalRecovery,
  files: readonly JournalFile[],
): Promise<void> {
  for (const candidate of await candidatesOf(options, files)) {
    throw damage(options, `${candidate.file.path} was cut short`);
  }
}

/** What was noted as durable in any file is there, in it and in all before it. */
function requireUndamaged(
  options: JournalRecovery,
  segments: readonly SegmentBuffer[],
  candidates: readonly Candidate[],
): void {
  const isLess = ({ syncedEntries }: Candidate, at: number): boolean =>
    syncedEntries > (segments[at]?.entryCount ?? 0);
  if (!candidates.some(isLess)) return;
  const last = segments.at(-1);
  const next = candidates[segments.length];
  const wanted = options.lastStored + segments.length + 1;
  const lastEntries = Math.max(
    candidates[segments.length - 1]?.syncedEntries ?? 0,
    next?.header.segment === wanted ? next.header.previousEntries : 0,
  );
  if (last !== undefined && last.entryCount < lastEntries) {
    const whole = `${last.entryCount} of ${lastEntries} entries of segment ${last.number}`;
    throw damage(options, `${last.file.path} has only ${whole} whole, and more were flushed`);
  }
  if (next === undefined || next.header.segment !== wanted) {
    throw damage(
      options,
      `the file with segment ${wanted} is missing, and later ones were flushed`,
    );
  }
  throw damage(
    options,
    `${next.file.path} has no whole entry of segment ${wanted}, flushed as it was`,
  );
}

function damage({ directory }: JournalRecovery, what: string): StorageError {
  return new StorageError(
    'corrupt',
    `The journal is damaged: ${what}. Nothing of it was changed. Bring the file back; or give up what was flushed since the last upload: move the directory ${directory} of the state directory away, and attach again.`,
  );
}
