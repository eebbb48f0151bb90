import type { ShapeName } from './shapes.ts';

/** A seed that once found a bug, and what that was. */
interface FoundBug {
  readonly seed: number;
  readonly shape: ShapeName;
  readonly what: string;
  /** What plants it again and must be caught (`canaries.ts`), or a test that fails with it. */
  readonly shownBy: string;
}

/**
 * What a seed does changes with the simulator and with the engine, so these seeds no longer go the
 * way that once led to the bug. What does is known by planting the bug again: the suite looks for the
 * first seed of today that finds it, and runs that one without it, too. These are run beside that.
 */
export const foundBugs: readonly FoundBug[] = [
  {
    seed: 37,
    shape: 'tiny',
    what: 'After two crashes, the second while attaching, segments that a checkpoint held were looked for under an epoch that never wrote them.',
    shownBy: 'what a checkpoint holds is looked for under an epoch that never wrote it',
  },
  {
    seed: 1_000_944,
    shape: 'tiny',
    what: 'A journal file that was whole in the page cache alone was used; after a power cut it was too short, and was removed with what had been flushed to it.',
    shownBy: 'simulator.test.ts: a journal file that was being made when its maker was killed',
  },
  {
    seed: 1_000_090,
    shape: 'tiny',
    what: 'Of two journal files that claimed one segment, the older epoch’s was replayed.',
    shownBy: 'what recovery gave up stays in the journal, and is not told from what came later',
  },
  {
    seed: 1_001_366,
    shape: 'tiny',
    what: 'A manifest change that was given up and then done after all was taken for another host’s.',
    shownBy: 'a manifest change that was given up and then done is taken for another host’s',
  },
  {
    seed: 20_038,
    shape: 'tiny',
    what: 'A journal file with a changed bit kept the volume from opening, with a message that did not say which file.',
    shownBy: 'journal-damage.test.ts',
  },
  {
    seed: 250_069_301,
    shape: 'tiny',
    what: 'A record whose bit had changed was dropped by one recovery and found whole by the next, which then dropped what had been flushed after it.',
    shownBy: 'journal-damage.test.ts: what was dropped never comes back',
  },
  {
    seed: 610_001_036,
    shape: 'tiny',
    what: 'A snapshot whose answer was lost was deleted by another host, and then made again by its writer.',
    shownBy: 'take-over.test.ts: a snapshot that was deleted before its answer came',
  },
  {
    seed: 84_448,
    shape: 'tiny',
    what: 'A past that was kept from before a volume was made smaller was called damaged.',
    shownBy: 'resize.test.ts: leaves a past that is kept as large as it was, and sound',
  },
  {
    seed: 7_000_772,
    shape: 'tiny',
    what: 'A writer that had been taken over, and did not know it, called its map damaged when it was deleted.',
    shownBy: 'space.test.ts: a writer that was taken over and finds its map deleted says that',
  },
  {
    seed: 700_000_423,
    shape: 'small',
    what: 'The last flush before a moment was cut to the size that the volume had at the moment.',
    shownBy: 'moments.test.ts: the last flush before a moment has the size',
  },
];
