import { StorageError } from '../base/errors.ts';
import type { LocalDisk } from '../base/local-disk.ts';
import type { Log } from '../base/log.ts';
import { listAll, type ObjectStore } from '../base/object-store.ts';
import { Fields, parseJson } from '../format/json-fields.ts';
import { epochOfSegment, lastClosedSegment, type Manifest } from '../format/manifest.ts';
import {
  afterSegmentKey,
  type LogPosition,
  parseSegmentKey,
  segmentKey,
  segmentsPrefix,
} from '../format/names.ts';
import { inParallel } from './concurrency.ts';
import type { TimedEntries } from './fold.ts';
import { closeEpoch, type Ownership } from './ownership.ts';
import { readSegmentTables } from './segment-tables.ts';
import { pendingSnapshots, withoutLostCuts } from './snapshot-changes.ts';

/** What the local disk knows of the last time this volume was attached here. */
export interface LocalState {
  /** The epoch that the journal belongs to, whatever epochs its files were begun under. */
  readonly epoch: number;
  /** Everything was in the store when the volume was given up. */
  readonly clean: boolean;
  /** It was encrypted then, and so it is for ever. */
  readonly encrypted?: true;
}

/** What is to be known of a volume that this host has. */
export function localStateOf({ epoch, encryption }: Manifest, clean: boolean): LocalState {
  return { epoch, clean, ...(encryption === undefined ? {} : { encrypted: true }) };
}

export async function readLocalState(
  disk: LocalDisk,
  path: string,
): Promise<LocalState | undefined> {
  const bytes = await disk.readFile(path);
  if (bytes === undefined) return undefined;
  const fields = new Fields(parseJson(bytes, path), path);
  return {
    epoch: fields.count('epoch'),
    clean: fields.flag('clean'),
    ...(fields.has('encrypted') && fields.flag('encrypted') ? { encrypted: true } : {}),
  };
}

export async function writeLocalState(
  disk: LocalDisk,
  path: string,
  state: LocalState,
): Promise<void> {
  await disk.replaceFile(path, new TextEncoder().encode(`${JSON.stringify(state)}\n`));
}

/** The log after the checkpoint, as far as the store has it unbroken. */
export interface StoredTail {
  readonly segments: TimedEntries[];
  /** The last segment that counts; the checkpoint's when there is no tail. */
  readonly lastSegment: number;
  /** Who wrote what is past the closed tenures; `undefined` when nothing is. */
  readonly openEpoch: number | undefined;
}

/**
 * Lists what the store has after the checkpoint and reads the entry tables. Up to the end of the
 * closed tenures every segment must be there; after it the log ends at the first that is missing.
 */
export async function loadStoredTail(
  store: ObjectStore,
  manifest: Manifest,
  concurrency: number,
): Promise<StoredTail> {
  const head = manifest.head?.segment ?? 0;
  const closed = lastClosedSegment(manifest);
  const found = new Map<number, LogPosition>();
  const prefix = segmentsPrefix(manifest.id);
  for await (const { key } of listAll(store, prefix, afterSegmentKey(manifest.id, head))) {
    const at = parseSegmentKey(manifest.id, key);
    if (at.segment <= head) continue;
    const counts =
      at.segment <= closed
        ? at.epoch === epochOfSegment(manifest, at.segment)
        : at.epoch > manifest.closedThrough && at.epoch <= manifest.epoch;
    if (counts) found.set(at.segment, at);
  }
  const positions: LogPosition[] = [];
  // A writer that crashed right after a checkpoint left nothing after it, and yet wrote up to it.
  let openEpoch = head > closed ? manifest.head?.epoch : undefined;
  for (let segment = head + 1; ; segment += 1) {
    const at = found.get(segment);
    if (at === undefined) {
      if (segment > closed) break;
      const epoch = epochOfSegment(manifest, segment);
      throw new StorageError(
        'corrupt',
        `Object ${segmentKey(manifest.id, { segment, epoch })} is missing; volume ${manifest.name} cannot be opened without it.`,
      );
    }
    if (segment > closed) openEpoch = at.epoch;
    positions.push(at);
  }
  const segments = await inParallel(positions, concurrency, async (at) => {
    const { header, entries } = await readSegmentTables(store, manifest.id, at);
    return { ...at, entries, openedMs: header.openedMs };
  });
  return { segments, lastSegment: head + positions.length, openEpoch };
}

/**
 * Closes the older epochs at the end of what the store has, and gives the snapshots up that were cut
 * past the end of the log. The `replayed` segments that follow in the log are only in the journal.
 */
export async function closeBefore(
  ownership: Ownership,
  { lastSegment, openEpoch }: StoredTail,
  replayed: readonly { readonly entryCount: number }[],
  log: Log,
): Promise<void> {
  const before = pendingSnapshots(ownership.manifest);
  await ownership.update((current) =>
    withoutLostCuts(closeEpoch(current, current.epoch - 1, lastSegment, openEpoch), {
      segment: lastSegment + replayed.length,
      entryCount: replayed.at(-1)?.entryCount,
    }),
  );
  const { name: volume, snapshots } = ownership.manifest;
  const kept = new Set(snapshots.map(({ id }) => id));
  for (const { id, name } of before) {
    if (!kept.has(id)) log.warn('snapshot given up: not all of it is there', { volume, name });
  }
}
