import type { ShapeName } from './shapes.ts';

/** A seed that once found a bug, and what that was. */
interface FoundBug {
  readonly seed: number;
  readonly shape: ShapeName;
  readonly what: string;
}

/**
 * What a seed does changes with the simulator and with the engine; that each bug is still found is
 * proved by planting it again (`canaries.ts`). These are run beside that, for they cost nothing.
 */
export const foundBugs: readonly FoundBug[] = [
  {
    seed: 37,
    shape: 'tiny',
    what: 'After two crashes, the second while attaching, segments that a checkpoint held were looked for under an epoch that never wrote them.',
  },
  {
    seed: 1_000_944,
    shape: 'tiny',
    what: 'A journal file that was whole in the page cache alone was used; after a power cut it was too short, and was removed with what had been flushed to it.',
  },
  {
    seed: 1_000_090,
    shape: 'tiny',
    what: 'Of two journal files that claimed one segment, the older epoch’s was replayed.',
  },
  {
    seed: 1_001_366,
    shape: 'tiny',
    what: 'A manifest change that was given up and then done after all was taken for another host’s.',
  },
  {
    seed: 20_038,
    shape: 'tiny',
    what: 'A journal file with a changed bit kept the volume from opening, with a message that did not say which file.',
  },
  {
    seed: 250_069_301,
    shape: 'tiny',
    what: 'A record whose bit had changed was dropped by one recovery and found whole by the next, which then dropped what had been flushed after it.',
  },
];
