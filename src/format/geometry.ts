/** The sizes that the format is built on. Changing one makes another format. */
export const blockBytes = 4096;
export const segmentBlocks = 2048;
export const segmentDataBytes = segmentBlocks * blockBytes;
/** Most entries that one segment holds. */
export const segmentEntries = 4096;
export const frameBlocks = 16;
export const frameBytes = frameBlocks * blockBytes;
export const segmentFrames = segmentBlocks / frameBlocks;
/** Blocks of the volume that one map page covers: 64 MiB. */
export const pageBlocks = 16_384;
/** 64 TiB. */
export const maximumVolumeBytes = 64 * 2 ** 40;
