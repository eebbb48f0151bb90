import type { Patch } from './engine.ts';

/**
 * The sizes that the engine is built on, made small: full segments, many frames, pages and journal
 * files are then met within a few writes, and a crash costs a thousandth of what it costs in full
 * size. Nothing else of the engine is changed.
 */
function shrunk(sizes: {
  readonly segmentBlocks: number;
  readonly segmentEntries: number;
  readonly frameBlocks: number;
  readonly pageBlocks: number;
}): readonly Patch[] {
  const geometry = (find: string, put: string): Patch => ({
    file: 'format/geometry.ts',
    find,
    put,
  });
  return [
    geometry('segmentBlocks = 2048;', `segmentBlocks = ${sizes.segmentBlocks};`),
    geometry('segmentEntries = 4096;', `segmentEntries = ${sizes.segmentEntries};`),
    geometry('frameBlocks = 16;', `frameBlocks = ${sizes.frameBlocks};`),
    geometry('pageBlocks = 16_384;', `pageBlocks = ${sizes.pageBlocks};`),
    // What is read of an object's start is shorter than some tables: the second request is met too.
    {
      file: 'volume/segment-tables.ts',
      find: 'tablesReachBytes = 64 * 1024;',
      put: 'tablesReachBytes = 512;',
    },
    // Several changes of the placement in one compaction, several proofs in one collection.
    { file: 'volume/compactor.ts', find: 'objectsPerMove = 16;', put: 'objectsPerMove = 2;' },
    { file: 'volume/collector.ts', find: 'deletedPerProof = 64;', put: 'deletedPerProof = 3;' },
    { file: 'volume/moved-frames.ts', find: 'maximumObjects = 1024;', put: 'maximumObjects = 2;' },
    // Small objects have several parts, too.
    {
      file: 'format/sealed-object.ts',
      find: 'sealedPartBytes = 32_768;',
      put: 'sealedPartBytes = 512;',
    },
    { file: 'volume/block-cache.ts', find: 'chunkSlots = 2048;', put: 'chunkSlots = 16;' },
  ];
}

export const shapes = {
  tiny: shrunk({ segmentBlocks: 8, segmentEntries: 16, frameBlocks: 2, pageBlocks: 16 }),
  small: shrunk({ segmentBlocks: 32, segmentEntries: 32, frameBlocks: 4, pageBlocks: 64 }),
  full: [],
} as const satisfies Readonly<Record<string, readonly Patch[]>>;

export type ShapeName = keyof typeof shapes;
