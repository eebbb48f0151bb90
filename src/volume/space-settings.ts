/** When it is worth moving what is alive away from what is dead. */
export interface CompactionLimits {
  /** Dead bytes are got rid of when there are so many for each live byte … */
  readonly startShare: number;
  /** … until there are so few. */
  readonly stopShare: number;
  /** So many objects that are small are worth merging. */
  readonly mergeCount: number;
}

/** When it is worth reading all of the map to find what is dead. */
export interface PassLimits {
  /** After so long there is a pass whatever it costs: it also sweeps what dead writers left. */
  readonly longestMs: number;
  /** Never after fewer new segments. */
  readonly fewestSegments: number;
  /** The map may be so much of what was written since. */
  readonly mapShare: number;
  /** So much written, of what is stored, is enough … */
  readonly writtenShare: number;
  /** … and so are so many segments, however small. */
  readonly manySegments: number;
}

/** How space in the store comes back. */
export interface SpaceSettings {
  /** Bytes that compaction reads in a second; 0: nothing is compacted or deleted by itself. */
  readonly bytesPerSecond: number;
  /** How long after nothing needs it an object is deleted: so long may others go on with what they read. */
  readonly graceMs: number;
  /** RAM for finding which blocks are dead. */
  readonly markBytes: number;
  /** How often the writer looks whether there is something to do; costs nothing. */
  readonly lookMs: number;
  readonly pass: PassLimits;
  readonly limits: CompactionLimits;
}

export const defaultSpaceSettings: SpaceSettings = {
  bytesPerSecond: 32 * 2 ** 20,
  graceMs: 15 * 60_000,
  markBytes: 64 * 2 ** 20,
  lookMs: 30_000,
  pass: {
    longestMs: 24 * 3_600_000,
    fewestSegments: 8,
    mapShare: 1 / 8,
    writtenShare: 1 / 16,
    manySegments: 256,
  },
  limits: { startShare: 0.22, stopShare: 0.15, mergeCount: 16 },
};
