import { type PlantedBug, planted } from './planted.ts';

/** Planted bugs of reading and comparing snapshots: one for each promise. */
export const versionBugs: readonly PlantedBug[] = [
  planted(
    'a snapshot is read with the map of the head',
    200,
    'volume/stored-version.ts',
    'const table = await PageTable.load(store, manifest, checkpoint);',
    'const table = await PageTable.load(store, manifest, manifest.head);',
  ),
  planted(
    'a snapshot is read without knowing where an epoch that nobody has closed ends',
    200,
    'volume/snapshot-reader.ts',
    'access.view = closedAtHead(manifest);',
    'access.view = manifest;',
  ),
  planted(
    'a page that was written since the checkpoint counts as that of the checkpoint',
    500,
    'volume/map-version.ts',
    "if (this.context.map.changedIn(pageIndex) > table.segment) return 'changed';",
    '',
  ),
  planted(
    'a trim leaves no mark on its page',
    500,
    'volume/volume-writer.ts',
    'map.assign(firstBlock, count, nowhere.segment, index, log.lastNumber);',
    'map.assign(firstBlock, count, nowhere.segment, index);',
  ),
  planted(
    'a page that is loaded forgets when it was written',
    500,
    'volume/block-map.ts',
    'stored.changedIn = written?.changedIn ?? 0;',
    '',
  ),
  planted(
    'blocks of one index count as the same block, whatever their segment',
    200,
    'volume/map-difference.ts',
    'a.segment !== b.segment ||',
    '',
  ),
];
