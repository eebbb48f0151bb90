import { type PlantedBug, planted } from './planted.ts';

/** What must not go wrong when space comes back. */
export const spaceBugs: readonly PlantedBug[] = [
  planted(
    'what only a snapshot holds is taken for dead',
    200,
    'volume/roots.ts',
    '    ...snapshots.map(({ checkpoint }) => checkpoint),\n',
    '',
  ),
  planted(
    'what is kept of the past is taken for dead',
    500,
    'volume/roots.ts',
    'logFrom: Math.min(headSegment, keptSegment)',
    'logFrom: headSegment',
  ),
  planted(
    'objects are deleted before the manifest names those that have their blocks now',
    200,
    'volume/placer.ts',
    'await ownership.update((manifest) => ({ ...manifest, placement: at }));',
    '',
  ),
  planted(
    'the placement is named before it is stored',
    500,
    'volume/placer.ts',
    'await this.put(placementKey(volumeId, at), [encodePlacement(volumeId, at, table.rows)]);',
    'void this.put(placementKey(volumeId, at), [encodePlacement(volumeId, at, table.rows)]).catch(() => undefined);',
  ),
  planted(
    'a compacted object is named before it is stored',
    6000,
    'volume/compactor.ts',
    'const attempts = await placer.put(made.key, [packed.body], sealedStore);',
    'const attempts = 2; void placer.put(made.key, [packed.body.slice()], sealedStore).catch(() => undefined);',
  ),
  planted(
    'a moved block is looked for at a wrong rank',
    100,
    'volume/compacted-object.ts',
    'const place = (this.places[run] as number) + from - runIndex;',
    'const place = run + from - runIndex;',
  ),
  planted(
    'a segment counts as dead although the log after the checkpoint goes through it',
    200,
    'volume/check-inventory.ts',
    'if (segment > this.roots.logFrom) return true;',
    '',
  ),
  planted(
    'a block that some map holds is not moved with its segment',
    100,
    'volume/marks.ts',
    'for (let at = index; at < index + count; at += 1) {',
    'for (let at = index; at < index + Math.min(count, 2); at += 1) {',
  ),
  {
    name: 'of pages that several maps share, only one version is looked at',
    seeds: 300,
    patches: [
      {
        file: 'volume/map-union.ts',
        find: 'if (known === undefined) distinct.push({ segment, index, versions: [version] });',
        put: 'if (version === 0) distinct.push({ segment, index, versions: [version] });',
      },
      {
        file: 'volume/map-union.ts',
        find: 'else known.versions.push(version);',
        put: 'else known?.versions.push(version);',
      },
    ],
  },
];
