import { isStorageError, StorageError } from '../base/errors.ts';
import { isoTime } from '../base/clock.ts';
import { listAll, type ObjectStore } from '../base/object-store.ts';
import { viewOf } from '../format/binary.ts';
import { checkpointHeaderBytes, checkpointTimeMs } from '../format/checkpoint-object.ts';
import { entryBytes, entryKind, entryTimeMs } from '../format/entry.ts';
import { volumeOfCheckpoint, volumeOfSegment } from '../format/lineage.ts';
import { epochOfSegment, lastClosedSegment, type Manifest } from '../format/manifest.ts';
import {
  afterCheckpointKey,
  type CheckpointPosition,
  checkpointKey,
  checkpointsPrefix,
  type LogPosition,
  parseVolumeKey,
} from '../format/names.ts';
import type { Retention } from '../format/retention.ts';
import { loadStoredTail } from './attach.ts';
import { inParallel } from './concurrency.ts';
import type { TimedEntries } from './fold.ts';
import { aboutObject } from './object-errors.ts';
import { segmentOf, sizeAsOf } from './retention.ts';
import { readSegmentTables } from './segment-tables.ts';
import type { WantedMoment } from './wanted-moment.ts';

/** A volume as of a moment: a checkpoint, and what the log says after it. */
export interface Moment {
  /** Of the volume, as it was when this was found. */
  readonly manifest: Manifest;
  readonly base: CheckpointPosition | undefined;
  /** In order; of the last one only the entries up to the moment. */
  readonly segments: readonly TimedEntries[];
  /** The last segment of which something is in it. */
  readonly segment: number;
  /** Whether all of that segment is in it. */
  readonly isWhole: boolean;
  readonly sizeBytes: number;
}

/** A state of the map that the store has. */
interface State {
  readonly segment: number;
  readonly checkpoint: CheckpointPosition | undefined;
  /** Since 1970; `undefined` where it is yet to be read, or is not known. */
  timeMs: number | undefined;
  readonly isTurn: boolean;
}

export interface MomentContext {
  readonly store: ObjectStore;
  readonly manifest: Manifest;
  /** Entry tables that are read at once. */
  readonly concurrency: number;
  /** The time now, as the log of the volume or this host has it. */
  readonly nowMs: number;
  /** All that was answered before is in the store, as its writer knows; 0 when nobody can say. */
  readonly storedThroughMs: number;
}

/**
 * Finds a volume as of a moment. Errors: `usage` for the future and for what is not kept, `held` when only the host that has the volume could say what was written by then.
 */
export async function findMoment(context: MomentContext, wanted: WantedMoment): Promise<Moment> {
  const retention = requireWithin(context, wanted.timeMs);
  const states = await statesOf(context, retention);
  let at = await lastBefore(context, states, wanted.timeMs);
  const found = await logUntil(context, states, at, wanted.timeMs);
  if (!found.isPast) requireStored(context, wanted.timeMs);
  let { segments } = found;
  const momentOf = (
    { checkpoint }: State,
    log: readonly TimedEntries[],
    isWhole: boolean,
    timeMs = wanted.timeMs,
  ): Moment => ({
    manifest: context.manifest,
    base: checkpoint,
    segments: log,
    segment: log.at(-1)?.segment ?? segmentOf(checkpoint),
    isWhole,
    sizeBytes: sizeAsOf(context.manifest, timeMs),
  });
  if (!wanted.flushed) return momentOf(states[at] as State, segments, found.isWhole);
  for (;;) {
    const cut = cutAtFlush(segments);
    const state = states[at] as State;
    if (cut !== undefined) return momentOf(state, cut.segments, cut.isWhole, cut.flushedMs);
    // A rollback is as good an end: nothing was under way across it.
    if (state.isTurn) return momentOf(state, [], true, state.timeMs);
    if (at === 0) throw noFlush(context.manifest, wanted.timeMs);
    // Nothing was flushed since that checkpoint: an earlier one, and the log up to it.
    at -= 1;
    segments = (await logUntil(context, states, at, wanted.timeMs, state)).segments;
  }
}

/**
 * The newest checkpoint of those that are kept with nothing in it that was written at `timeMs` or later;
 * how far what is kept can begin later.
 */
export async function findStateBefore(
  context: Omit<MomentContext, 'nowMs' | 'storedThroughMs'>,
  retention: Retention,
  timeMs: number,
): Promise<{ checkpoint: CheckpointPosition | undefined; timeMs: number }> {
  const states = await statesOf(context, retention);
  const { checkpoint, timeMs: foundMs = 0 } = states[
    await lastBefore(context, states, timeMs)
  ] as State;
  return { checkpoint, timeMs: foundMs };
}

/** Under which epoch each segment was written that is in a moment of the volume. */
export function epochsOf({ manifest, segments }: Moment): (segment: number) => number {
  const first = segments[0]?.segment ?? 0;
  return (segment) => segments[segment - first]?.epoch ?? writtenBy(manifest, segment);
}

/** From when until when a volume can be gone back to; `undefined` when to no time at all. */
export function windowOf(
  { retention, writer }: Manifest,
  nowMs: number,
): { fromMs: number; throughMs: number } | undefined {
  if (retention?.keptFrom === undefined) return undefined;
  const throughMs = writer === undefined ? nowMs : Math.min(nowMs, retention.storedThroughMs);
  const fromMs = retention.keptFrom.timeMs + 1;
  return { fromMs, throughMs: Math.max(throughMs, fromMs) };
}

function requireWithin({ manifest, nowMs }: MomentContext, timeMs: number): Retention {
  const { retention, name } = manifest;
  if (retention === undefined) {
    throw new StorageError(
      'usage',
      `Volume ${name} does not keep what it was: "elasticdrive volume set ${name} --retain 24h" makes it keep that from now on.`,
    );
  }
  const { keptFrom } = retention;
  if (keptFrom === undefined) {
    throw new StorageError(
      'usage',
      `Volume ${name} keeps what is written from its next checkpoint on; there is no moment to go back to yet.`,
    );
  }
  if (timeMs > nowMs) {
    throw new StorageError(
      'usage',
      `${isoTime(timeMs)} is in the future: it is ${isoTime(nowMs)}.`,
    );
  }
  if (timeMs <= keptFrom.timeMs) {
    const from = isoTime(keptFrom.timeMs + 1);
    throw new StorageError(
      'usage',
      `Volume ${name} can be had as of ${from} or later, not as of ${isoTime(timeMs)}.`,
    );
  }
  return retention;
}

/** That nothing answered before `timeMs` is still on its way from the host that has the volume. */
function requireStored({ manifest, storedThroughMs }: MomentContext, timeMs: number): void {
  const { name, writer, retention } = manifest;
  const throughMs = Math.max(storedThroughMs, retention?.storedThroughMs ?? 0);
  if (writer === undefined || timeMs <= throughMs) return;
  throw new StorageError(
    'held',
    `What ${writer.host} wrote to volume ${name} before ${isoTime(timeMs)} may not all be in the store yet: choose a time up to ${isoTime(throughMs)}, ask there, or ask again in a while.`,
  );
}

function noFlush({ name, retention }: Manifest, timeMs: number): StorageError {
  const from = isoTime((retention?.keptFrom?.timeMs ?? 0) + 1);
  return new StorageError(
    'usage',
    `No flush of volume ${name} was answered between ${from} and ${isoTime(timeMs)}: ask without --flushed.`,
  );
}

/** The states that are kept, in order: the first one, checkpoints, and those that were turned to. */
async function statesOf(
  { store, manifest }: Pick<MomentContext, 'store' | 'manifest'>,
  { keptFrom, turns }: Retention,
): Promise<State[]> {
  const first = segmentOf(keptFrom?.checkpoint);
  const states: State[] = turns.map((turn) => ({ ...turn, isTurn: true }));
  const head = segmentOf(manifest.head);
  const prefix = checkpointsPrefix(manifest.id);
  for await (const { key } of listAll(store, prefix, afterCheckpointKey(manifest.id, first))) {
    const found = parseVolumeKey(manifest.id, key);
    if (found?.kind !== 'checkpoint' || !isOfTheLog(manifest, found.at)) continue;
    const { segment } = found.at;
    if (segment > first && segment <= head) {
      states.push({ segment, checkpoint: found.at, timeMs: undefined, isTurn: false });
    }
  }
  states.sort((a, b) => a.segment - b.segment || Number(a.isTurn) - Number(b.isTurn));
  const { checkpoint, timeMs } = keptFrom ?? {};
  return [{ segment: first, checkpoint, timeMs, isTurn: false }, ...states];
}

/**
 * Whether a checkpoint is a fold of the log as it counts: not made of something else, and by one who
 * wrote its segment or came later. Another may hold what a writer wrote that had lost the volume.
 */
function isOfTheLog(manifest: Manifest, { segment, epoch, variant }: CheckpointPosition): boolean {
  return variant === 0 && epoch >= writtenBy(manifest, segment) && epoch <= manifest.epoch;
}

/** The epoch of a segment up to the head's. */
function writtenBy(manifest: Manifest, segment: number): number {
  return segment > lastClosedSegment(manifest) && manifest.head !== undefined
    ? manifest.head.epoch
    : epochOfSegment(manifest, segment);
}

/** The place of the last state before `timeMs`; the first one is. Reads a few headers. */
async function lastBefore(
  context: Pick<MomentContext, 'store' | 'manifest'>,
  states: readonly State[],
  timeMs: number,
): Promise<number> {
  let low = 0;
  let high = states.length;
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    const foundMs = await timeOf(context, states[middle] as State);
    // One whose time is not known is passed over: an earlier one only costs time.
    if (foundMs !== undefined && foundMs < timeMs) low = middle;
    else high = middle;
  }
  return low;
}

async function timeOf(
  { store, manifest }: Pick<MomentContext, 'store' | 'manifest'>,
  state: State,
): Promise<number | undefined> {
  const { checkpoint, timeMs } = state;
  if (timeMs !== undefined || checkpoint === undefined) return timeMs;
  const owner = volumeOfCheckpoint(manifest, checkpoint);
  const key = checkpointKey(owner, checkpoint);
  try {
    const { bytes } = await store.getStart(key, checkpointHeaderBytes);
    const foundMs = checkpointTimeMs(bytes, owner, checkpoint);
    state.timeMs = foundMs === 0 ? undefined : foundMs;
    return state.timeMs;
  } catch (error) {
    if (isStorageError(error, 'not-found')) return undefined;
    throw aboutObject(error, key);
  }
}

interface FoundLog {
  readonly segments: TimedEntries[];
  /** Whether all of the last segment is in it. */
  readonly isWhole: boolean;
  /** Whether something was found that was written at the time or later. */
  readonly isPast: boolean;
}

/** The log from a state on up to `timeMs`, not beyond `until`, nor past where it was turned away. */
async function logUntil(
  context: MomentContext,
  states: readonly State[],
  at: number,
  timeMs: number,
  until?: State,
): Promise<FoundLog> {
  const { segment: after } = states[at] as State;
  const turn = states.find(({ isTurn }, place) => isTurn && place > at);
  const limit = Math.min(
    until?.segment ?? Number.MAX_SAFE_INTEGER,
    turn?.segment ?? Number.MAX_SAFE_INTEGER,
  );
  const segments: TimedEntries[] = [];
  for await (const segment of logAfter(context, after)) {
    if (segment.segment > limit) return { segments, isWhole: true, isPast: true };
    const count = entriesBefore(segment, timeMs);
    const tableBytes = count * entryBytes;
    if (tableBytes === segment.entries.byteLength) {
      segments.push(segment);
      continue;
    }
    if (count > 0) segments.push({ ...segment, entries: segment.entries.subarray(0, tableBytes) });
    return { segments, isWhole: count === 0, isPast: true };
  }
  return { segments, isWhole: true, isPast: turn !== undefined };
}

/** How many entries at the beginning of a segment were written before `timeMs`. */
function entriesBefore({ entries, openedMs }: TimedEntries, timeMs: number): number {
  const count = entries.byteLength / entryBytes;
  if (openedMs === 0) return count;
  const view = viewOf(entries);
  for (let ordinal = 0; ordinal < count; ordinal += 1) {
    if (openedMs + entryTimeMs(view, ordinal * entryBytes) >= timeMs) return ordinal;
  }
  return count;
}

/** Ends a piece of the log where the last flush in it was answered; `undefined` without one. */
function cutAtFlush(
  segments: readonly TimedEntries[],
): { segments: TimedEntries[]; isWhole: boolean; flushedMs: number } | undefined {
  for (let last = segments.length - 1; last >= 0; last -= 1) {
    const segment = segments[last] as TimedEntries;
    const { entries, openedMs } = segment;
    for (let at = entries.byteLength - entryBytes; at >= 0; at -= entryBytes) {
      if (entries[at] !== entryKind.flushed) continue;
      const flushedMs = openedMs + entryTimeMs(viewOf(entries), at);
      const before = segments.slice(0, last);
      if (at === 0) return { segments: before, isWhole: true, flushedMs };
      const cut = { ...segment, entries: entries.subarray(0, at) };
      return { segments: [...before, cut], isWhole: false, flushedMs };
    }
  }
  return undefined;
}

/** The segments after `after`, in order, a few read at once. */
async function* logAfter(
  { store, manifest, concurrency }: Pick<MomentContext, 'store' | 'manifest' | 'concurrency'>,
  after: number,
): AsyncGenerator<TimedEntries> {
  const head = segmentOf(manifest.head);
  for (let from = after + 1; from <= head; from += concurrency) {
    const count = Math.min(concurrency, head - from + 1);
    const positions = Array.from({ length: count }, (_, at): LogPosition => {
      const segment = from + at;
      return { segment, epoch: writtenBy(manifest, segment) };
    });
    yield* await inParallel(positions, concurrency, async (at): Promise<TimedEntries> => {
      const owner = volumeOfSegment(manifest, at.segment);
      const { header, entries } = await readSegmentTables(store, owner, at);
      return { ...at, entries, openedMs: header.openedMs };
    });
  }
  const tail = await loadStoredTail(store, manifest, concurrency);
  for (const segment of tail.segments) if (segment.segment > after) yield segment;
}
