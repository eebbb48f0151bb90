import { type Clock, isoTime } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { LocalDisk } from '../base/local-disk.ts';
import type { Log } from '../base/log.ts';
import { roundSize } from '../base/quantity.ts';
import { blockBytes } from '../format/geometry.ts';
import { Fields, parseJson } from '../format/json-fields.ts';
import type { Manifest } from '../format/manifest.ts';
import { closeFiles, fileBytesOf, openJournal } from './journal-recovery.ts';
import { type JournalKeyOf, readJournalStart, scanJournalFile } from './journal-scan.ts';

/** What a journal holds that is not in its volume, because another host closed its epoch before. */
interface Leftover {
  readonly segments: number;
  readonly dataBytes: number;
}

/** A journal that was set aside. */
export interface SetAside extends Leftover {
  readonly path: string;
  readonly epoch: number;
  readonly setAsideAt: string;
}

const aboutFile = 'set-aside.json';

/** The last segment that the volume has of the epochs up to `epoch`. */
function lastKept({ tenures }: Manifest, epoch: number): number {
  return tenures.findLast((tenure) => tenure.epoch <= epoch)?.lastSegment ?? 0;
}

interface KeepAsideContext {
  readonly disk: LocalDisk;
  readonly log: Log;
  readonly clock: Clock;
  /** The volume's. */
  readonly name: string;
  /** Of an encrypted volume. */
  readonly keyOf: JournalKeyOf;
}

/**
 * Another host has closed the journal's epoch: it is never replayed. What it holds that the volume
 * does not have is kept aside; a journal all of which is in the store is used on.
 */
export async function keepAside(
  { disk, log, name, clock, keyOf }: KeepAsideContext,
  journalPath: string,
  manifest: Manifest,
  epoch: number,
): Promise<void> {
  const leftover = await measureLeftover(disk, journalPath, manifest, epoch, keyOf).catch(
    (error) => {
      log.warn('the journal cannot be read through', { volume: name, reason: String(error) });
      return undefined;
    },
  );
  if (leftover?.segments === 0) {
    log.info('another host wrote this volume since; all that the journal held is in the store', {
      volume: name,
      epoch,
    });
    return;
  }
  const { segments = 0, dataBytes = 0 } = leftover ?? {};
  const about = { epoch, segments, dataBytes, setAsideAt: isoTime(clock.wallMs()) };
  const path = await setJournalAside(disk, journalPath, about);
  log.warn('another host wrote this volume since; what the journal held besides is set aside', {
    volume: name,
    epoch,
    segments,
    held: roundSize(dataBytes),
    path,
  });
}

/** Reads a journal through: what of it the volume does not have. */
async function measureLeftover(
  disk: LocalDisk,
  directory: string,
  manifest: Manifest,
  epoch: number,
  keyOf: JournalKeyOf,
): Promise<Leftover> {
  const after = lastKept(manifest, epoch);
  let segments = 0;
  let dataBytes = 0;
  const { whole, short } = await openJournal(disk, directory, fileBytesOf(keyOf !== undefined));
  const files = [...whole, ...short];
  try {
    for (const { file } of files) {
      const start = await readJournalStart(file);
      if (start === undefined) continue;
      const { header } = start;
      const isKept = header?.volumeId !== manifest.id || header.segment <= after;
      if (header !== undefined && isKept) continue;
      if (header === undefined || 'damage' in start) {
        segments += 1;
        continue;
      }
      const { entryCount, blockCount } = await scanJournalFile(file, header, keyOf);
      // One that was flushed and is not whole any more may still be worth something to somebody.
      segments += entryCount > 0 || start.syncedEntries > 0 ? 1 : 0;
      dataBytes += blockCount * blockBytes;
    }
  } finally {
    await closeFiles(files);
  }
  return { segments, dataBytes };
}

/** Moves a journal out of the way; it is never deleted but by `removeSetAside`. */
async function setJournalAside(
  disk: LocalDisk,
  directory: string,
  about: Omit<SetAside, 'path'>,
): Promise<string> {
  const { epoch } = about;
  for (let attempt = 0; attempt < 1000; attempt += 1) {
    const target = `${directory}-set-aside-${epoch}${attempt === 0 ? '' : `-${attempt}`}`;
    if ((await disk.list(target)).length > 0) continue;
    const text = `${JSON.stringify(about)}\n`;
    await disk.replaceFile(`${directory}/${aboutFile}`, new TextEncoder().encode(text));
    await disk.rename(directory, target);
    return target;
  }
  throw new StorageError(
    'local-io',
    `There is no free name to set ${directory} aside; remove older ones with "elasticdrive volume discard".`,
  );
}

/** The journals of a volume that were set aside on this disk. */
export async function listSetAside(disk: LocalDisk, volumeId: string): Promise<SetAside[]> {
  const directory = `volumes/${volumeId}`;
  const found: SetAside[] = [];
  for (const name of await disk.list(directory)) {
    if (!name.startsWith('journal-set-aside-')) continue;
    const path = `${directory}/${name}`;
    const bytes = await disk.readFile(`${path}/${aboutFile}`);
    // What an earlier version set aside, or a crash left without: it is there all the same.
    const fields = new Fields(bytes === undefined ? {} : parseJson(bytes, path), path);
    found.push({
      path,
      epoch: fields.count('epoch', 0),
      segments: fields.count('segments', 0),
      dataBytes: fields.count('dataBytes', 0),
      setAsideAt: bytes === undefined ? 'unknown' : fields.text('setAsideAt'),
    });
  }
  return found;
}

export function removeSetAside(disk: LocalDisk, { path }: SetAside): Promise<void> {
  return disk.remove(path);
}
