import type { ObjectStore } from '../../src/base/object-store.ts';
import { checksum } from '../../src/format/binary.ts';
import { encodeCheckpoint, type PageReference } from '../../src/format/checkpoint-object.ts';
import { pageBlocks, segmentBlocks } from '../../src/format/geometry.ts';
import { encodeManifest, encodeNameRecord, type Manifest } from '../../src/format/manifest.ts';
import { encodePage } from '../../src/format/map-page.ts';
import { checkpointKey, manifestKey, nameKey, pagesKey } from '../../src/format/names.ts';
import { forgetStore } from './sound-stores.ts';

const pagesPerObject = 4096;

/**
 * Puts a volume into a store all of whose blocks are mapped, as if it had been written from end to
 * end: manifest, page table and pages are real, only the segments are not there.
 */
export async function putMappedVolume(
  store: ObjectStore,
  name: string,
  sizeBytes: number,
): Promise<void> {
  forgetStore(store);
  const pageCount = sizeBytes / (pageBlocks * 4096);
  const segmentsPerPage = pageBlocks / segmentBlocks;
  const position = { segment: pageCount * segmentsPerPage, epoch: 1 };
  const at = { ...position, variant: 0 };
  const id = 'ab'.repeat(16);
  const references: PageReference[] = [];
  for (let part = 0; part * pagesPerObject < pageCount; part += 1) {
    const pages: Uint8Array[] = [];
    let offset = 0;
    const end = Math.min(pageCount, (part + 1) * pagesPerObject);
    for (let pageIndex = part * pagesPerObject; pageIndex < end; pageIndex += 1) {
      const page = mappedPage(1 + pageIndex * segmentsPerPage, segmentsPerPage);
      references.push({
        pageIndex,
        ...position,
        part,
        offset,
        storedBytes: page.byteLength,
        checksum: checksum(page),
        liveBlocks: pageBlocks,
      });
      pages.push(page);
      offset += page.byteLength;
    }
    await store.put(pagesKey(id, at, part), pages);
  }
  await store.put(checkpointKey(id, at), [encodeCheckpoint(id, at, references)]);
  const manifest: Manifest = {
    id,
    name,
    sizeBytes,
    createdAt: '2026-01-01T00:00:00.000Z',
    codec: 'zstd',
    durability: 'local',
    epoch: 1,
    closedThrough: 1,
    tenures: [{ epoch: 1, lastSegment: at.segment }],
    writer: undefined,
    head: at,
    ancestors: [],
    placement: undefined,
    snapshots: [],
    nonce: '00'.repeat(16),
  };
  await store.swap(manifestKey(id), undefined, encodeManifest(manifest));
  await store.swap(nameKey(name), undefined, encodeNameRecord(id));
}

/** The page of `count` whole segments from `firstSegment` on. */
function mappedPage(firstSegment: number, count: number): Uint8Array {
  return encodePage({
    count,
    starts: Uint16Array.from({ length: count }, (_, run) => run * segmentBlocks),
    segments: Uint32Array.from({ length: count }, (_, run) => firstSegment + run),
    indices: new Uint16Array(count),
  });
}
