import { type PlantedBug, planted } from './planted.ts';

/** What must not go wrong when a clone is made independent of its ancestors. */
export const flattenBugs: readonly PlantedBug[] = [
  planted(
    'pins are dropped before the manifest says that nothing is the ancestors’ any more',
    1000,
    'volume/flattener.ts',
    '    const maps = new OwnMaps(this.context);\n',
    '    const maps = new OwnMaps(this.context);\n    await unpinAll(this.context, ownership.manifest.ancestors, this.context.volumeId);\n',
  ),
  planted(
    'the last segment of an ancestor is not copied',
    500,
    'volume/flattener.ts',
    'segment <= last && places.placement.find(segment) === undefined;',
    'segment < last && places.placement.find(segment) === undefined;',
  ),
  planted(
    'a page of the map stays with an ancestor',
    500,
    'volume/own-maps.ts',
    'rows.map((row) => this.pages.get(placeOf(row)) ?? row)',
    'rows',
  ),
  planted(
    'of snapshots nothing is copied',
    1000,
    'volume/flattener.ts',
    'loadMaps(store, manifest, rootsOf(manifest))',
    'loadMaps(store, manifest, rootsOf({ ...manifest, snapshots: [] }))',
  ),
  planted(
    'checkpoints go on from the map that the ancestors have',
    2000,
    'volume/checkpointer.ts',
    '    before.elsewhere = () => Promise.resolve(table);\n    this.table = table;\n',
    '    this.table = new PageTable(store, manifest, before.segment, before.references());\n',
  ),
  {
    name: 'a volume is flattened although clones read by its map',
    seeds: 2000,
    patches: [
      {
        file: 'volume/flattener.ts',
        find: "await requireNoClones(this.context, manifest, 'flattened');",
        put: '',
      },
      {
        file: 'volume/flattener.ts',
        find: 'if (manifest.snapshots.some(({ clones }) => clones.length > 0)) throw cloned(manifest);',
        put: '',
      },
    ],
  },
];
