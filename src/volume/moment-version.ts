import type { Manifest } from '../format/manifest.ts';
import type { MapVersion } from './map-version.ts';
import { findStoredMoment, type OpenMomentOptions } from './moment-reader.ts';
import type { PageCache } from './page-cache.ts';
import { PageTable } from './page-table.ts';
import { replayedVersion } from './stored-version.ts';

/** The map of a volume as of a time that it keeps, by what the store has. */
export async function momentVersion(
  options: OpenMomentOptions,
  manifest: Manifest,
  timeMs: number,
  pages: PageCache,
): Promise<MapVersion> {
  const moment = await findStoredMoment(options, manifest, { timeMs, flushed: false });
  const base = await PageTable.load(options.store, manifest, moment.base);
  // Its log may begin within the segment that the base ends in: all that is replayed counts as changed.
  const table = base.with(0, new Map());
  return replayedVersion(table, moment.segments, moment.sizeBytes, pages);
}
