import { breathe, type Clock } from '../base/clock.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Source } from '../format/compacted-object.ts';
import { compactedFrameSeed, compactedTablesReachBytes } from '../format/compacted-object.ts';
import { decodeEntries, entryKind } from '../format/entry.ts';
import { frameBlocks, segmentBlocks } from '../format/geometry.ts';
import { compactedKey, type SerialPosition } from '../format/names.ts';
import { maximumObjectBytes } from '../format/segment-object.ts';
import type { MapReference } from './check-references.ts';
import type { Findings } from './check-report.ts';
import { attempt, damageOfFrame, type SegmentCondition } from './check-segment.ts';
import { decodeTables } from './compacted-object.ts';
import { unpackBatch } from './object-frames.ts';

/** What an object says of the blocks of one segment. */
export interface HeldBlocks {
  /** For which block of the volume each was written; -1 where it is not here or nobody can say. */
  readonly blockOf: Float64Array;
  /** 1 for those that can be read. */
  readonly isReadable: Uint8Array;
  /** Whether `blockOf` says it of all that can be read. */
  readonly isKnown: boolean;
}

/** What was found of one compacted object. */
export interface CompactedCondition {
  readonly at: SerialPosition;
  sources: readonly Source[];
  readonly damagedFrames: Set<number>;
  isMissing: boolean;
  readonly wrong: string[];
  readBytes: number;
}

/** Reads the tables of a compacted object, with `readsData` all of it, and verifies what it read. */
export async function checkCompacted(
  check: { readonly store: ObjectStore; readonly clock: Clock; readonly volumeId: string },
  at: SerialPosition,
  readsData: boolean,
): Promise<CompactedCondition> {
  const { store, clock, volumeId } = check;
  const condition: CompactedCondition = {
    ...{ at, sources: [], damagedFrames: new Set<number>() },
    ...{ isMissing: false, wrong: [], readBytes: 0 },
  };
  await attempt(condition, async () => {
    const reach = readsData ? maximumObjectBytes : compactedTablesReachBytes;
    const { bytes, objectBytes } = await store.getStart(compactedKey(volumeId, at), reach);
    condition.readBytes = bytes.byteLength;
    const { frames, sources } = decodeTables(bytes, objectBytes, volumeId, at);
    condition.sources = sources;
    if (!readsData) return;
    for (let frame = 0; frame < frames.offsets.length; frame += 1) {
      const wrong = damageOfFrame(frames, frame, bytes, compactedFrameSeed(volumeId, at, frame));
      if (wrong !== undefined) {
        condition.damagedFrames.add(frame);
        condition.wrong.push(wrong);
      }
      if (frame % unpackBatch === unpackBatch - 1) await breathe(clock);
    }
  });
  return condition;
}

/** What a segment's own object says. */
export function heldBySegment(condition: SegmentCondition): HeldBlocks {
  const { entries, blockCount, damagedFrames } = condition;
  const blockOf = new Float64Array(segmentBlocks).fill(-1);
  for (const { kind, firstBlock, count, firstIndex } of entries === undefined
    ? []
    : decodeEntries(entries)) {
    if (kind !== entryKind.data) continue;
    for (let at = 0; at < count; at += 1) blockOf[firstIndex + at] = firstBlock + at;
  }
  const isReadable = new Uint8Array(segmentBlocks).fill(1, 0, blockCount);
  for (const frame of damagedFrames)
    isReadable.fill(0, frame * frameBlocks, (frame + 1) * frameBlocks);
  return { blockOf, isReadable, isKnown: entries !== undefined };
}

/** What a compacted object says of one segment. */
export function heldByCompacted(condition: CompactedCondition, segment: number): HeldBlocks {
  const blockOf = new Float64Array(segmentBlocks).fill(-1);
  const isReadable = new Uint8Array(segmentBlocks);
  let place = 0;
  for (const source of condition.sources) {
    for (const { firstBlock, firstIndex, count } of source.runs) {
      for (let at = 0; at < count && source.segment === segment; at += 1) {
        blockOf[firstIndex + at] = firstBlock + at;
        const frame = Math.floor((place + at) / frameBlocks);
        if (!condition.damagedFrames.has(frame)) isReadable[firstIndex + at] = 1;
      }
      place += count;
    }
  }
  return { blockOf, isReadable, isKnown: true };
}

/**
 * Holds what the maps say of a segment against what the object `key` says: each block must be there,
 * and must have been written for the block of the volume that the map finds in it.
 */
export function compareReferences(
  references: readonly MapReference[],
  held: HeldBlocks,
  about: { readonly segment: number; readonly key: string },
  findings: Findings,
): void {
  const { segment, key } = about;
  let others = 0;
  let first: string | undefined;
  for (const { index, count, block, isRead } of references) {
    for (let at = 0; at < count; at += 1) {
      if (held.isReadable[index + at] !== 1) {
        if (isRead) findings.lose(block + at, 1, key);
        continue;
      }
      const writtenFor = held.blockOf[index + at] ?? -1;
      if (!held.isKnown || writtenFor === block + at) continue;
      others += 1;
      first ??= `block ${block + at} is in segment ${segment} index ${index + at} by the map; that was written for block ${writtenFor}`;
    }
  }
  if (first === undefined) return;
  findings.damage('disagrees', key, `the map is wrong about it, for ${others} blocks: ${first}`);
}
