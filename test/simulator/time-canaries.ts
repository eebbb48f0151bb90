import { type PlantedBug, planted } from './planted.ts';

/** Planted bugs of going back in time: one for each promise. */
export const timeBugs: readonly PlantedBug[] = [
  planted(
    'what a segment replaced itself is zeroed although it can be gone back to',
    200,
    'volume/pack.ts',
    'if (!job.keepsReplaced) zeroDeadBlocks(data, decodeEntries(table), found.blockChecksums);',
    'zeroDeadBlocks(data, decodeEntries(table), found.blockChecksums);',
  ),
  planted(
    'the times of the log go back when the clock does',
    1000,
    'volume/log-clock.ts',
    'this.lastMs = Math.max(wallMs, atLeastMs);',
    'this.lastMs = wallMs;',
  ),
  planted(
    'a host goes on with times that are before those of the one that had the volume',
    1000,
    'volume/open-volume.ts',
    'new LogClock(clock, log, lastLogTimeMs(attached, table))',
    'new LogClock(clock, log, 0)',
  ),
  planted(
    'what was asked for at the very moment is in it',
    500,
    'volume/moments.ts',
    'if (openedMs + entryTimeMs(view, ordinal * entryBytes) >= timeMs) return ordinal;',
    'if (openedMs + entryTimeMs(view, ordinal * entryBytes) > timeMs) return ordinal;',
  ),
  planted(
    'entries have the time at which their segment was opened',
    200,
    'volume/segment-buffer.ts',
    'if (this.stampedEntries < to) this.stamp(this.nowTimeMs());',
    'if (this.stampedEntries < to) this.stamp(0);',
  ),
  planted(
    'a checkpoint that came after a moment is what it begins from',
    500,
    'volume/moments.ts',
    'if (foundMs !== undefined && foundMs < timeMs) low = middle;',
    'if (foundMs !== undefined) low = middle;',
  ),
  planted(
    'all is said to be in the store that was written by now',
    1000,
    'volume/segment-log.ts',
    'for (const { header } of this.segments.values()) return header.openedMs;\n',
    '',
  ),
  planted(
    'a moment is given although its writer may have more of it',
    1000,
    'volume/moments.ts',
    'if (!found.isPast) requireStored(context, wanted.timeMs);',
    '',
  ),
  planted(
    'a moment is read at its writer without what is not in the store yet',
    500,
    'volume/volume.ts',
    'if (timeMs > segments.storedThroughMs) {',
    'if (timeMs < 0) {',
  ),
  planted(
    'what can be gone back to is collected',
    1000,
    'volume/roots.ts',
    'const keptSegment = keptFrom === undefined ? headSegment : (keptFrom.checkpoint?.segment ?? 0);',
    'const keptSegment = headSegment;',
  ),
];
