import { decodeEntries, entryKind } from '../format/entry.ts';
import { blockBytes } from '../format/geometry.ts';
import { entryTableOf } from '../format/journal-file.ts';
import { nowhere } from '../format/map-page.ts';
import { BlockCache } from './block-cache.ts';
import type { BlockMap } from './block-map.ts';
import type { SegmentBuffer } from './segment-buffer.ts';
import { SegmentMemory } from './segment-memory.ts';
import type { VolumeSettings } from './settings.ts';

/** Does to the map what a segment's entries say. */
export function replay(map: BlockMap, segment: number, entries: Uint8Array): void {
  for (const { kind, firstBlock, count, firstIndex } of decodeEntries(entries)) {
    if (kind === entryKind.data) map.assign(firstBlock, count, segment, firstIndex);
    else {
      const index = kind === entryKind.hole ? nowhere.hole : nowhere.zeroed;
      map.assign(firstBlock, count, nowhere.segment, index, segment);
    }
  }
}

/** The entries of a segment, as the table of `entryBytes` each. */
export function entriesOf(segment: SegmentBuffer): Uint8Array {
  return entryTableOf(segment.recordTable, segment.entryCount);
}

/** The memory for blocks: that of the segments written last, and the cache that follows it. */
export function blockMemory(
  map: BlockMap,
  settings: VolumeSettings,
): { cache: BlockCache; memory: SegmentMemory } {
  const cache = new BlockCache(settings.cacheBytes, (block, segment, index) =>
    holds(map, block, segment, index),
  );
  const memory = new SegmentMemory(settings.segmentBuffers, (segment, data) =>
    keepLive(map, cache, segment, data),
  );
  return { cache, memory };
}

/** Whether `block` of the volume is still what (segment, index) holds. */
function holds(map: BlockMap, block: number, segment: number, index: number): boolean {
  const run = { segment: 0, index: 0, count: 0 };
  map.find(block, 1, run);
  return run.segment === segment && run.index === index;
}

/** A segment gives its memory up: what the volume still holds of it goes to the cache. */
function keepLive(
  map: BlockMap,
  cache: BlockCache,
  segment: SegmentBuffer,
  data: Uint8Array,
): void {
  const run = { segment: 0, index: 0, count: 0 };
  for (const { kind, firstBlock, count, firstIndex } of decodeEntries(entriesOf(segment))) {
    if (kind !== entryKind.data) continue;
    for (let at = 0; at < count; at += 1) {
      const index = firstIndex + at;
      map.find(firstBlock + at, 1, run);
      if (run.segment !== segment.number || run.index !== index) continue;
      cache.insert(firstBlock + at, segment.number, index, data, index * blockBytes);
    }
  }
}
