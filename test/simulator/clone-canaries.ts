import { type PlantedBug, planted } from './planted.ts';

/** Planted bugs of clones: one for each promise. */
export const cloneBugs: readonly PlantedBug[] = [
  planted(
    'a clone sees what its source wrote after the snapshot',
    500,
    'volume/cloning.ts',
    'manifest = manifestOfClone(source, snapshotOf(source, wish.snapshotId), {',
    'const late = { segment: source.head?.segment ?? 0, checkpoint: source.head };\n    manifest = manifestOfClone(source, { ...snapshotOf(source, wish.snapshotId), ...late }, {',
  ),
  planted(
    'a clone finds its ancestor’s last segment under its own prefix',
    500,
    'format/lineage.ts',
    'const owner = lineage.ancestors.find(({ lastSegment }) => segment <= lastSegment);',
    'const owner = lineage.ancestors.find(({ lastSegment }) => segment < lastSegment);',
  ),
  {
    name: 'a clone of a clone is not pinned at the first ancestor',
    seeds: 2000,
    patches: [
      {
        file: 'volume/cloning.ts',
        find: 'await pinAll(context, ties, id);',
        put: 'await pinAll(context, ties.slice(0, 1), id);',
      },
      {
        file: 'volume/cloning.ts',
        find: 'await confirmPins(context, ties, id);',
        put: 'await confirmPins(context, ties.slice(0, 1), id);',
      },
    ],
  },
  planted(
    'a snapshot is deleted although a clone reads it',
    1000,
    'volume/snapshot-changes.ts',
    'if (snapshot.clones.length > 0) {',
    'if (snapshot.clones.length > 1000) {',
  ),
  planted(
    'a volume is deleted although clones read it',
    500,
    'volume/deletion.ts',
    "if (state.kind === 'clone') names.push(state.name);",
    "if (state.kind === 'clone') continue;",
  ),
  planted(
    'a deletion leaves its pins, and with them what was made for it',
    1000,
    'volume/deletion.ts',
    'for await (const { key: each } of listAll(store, volumePrefix(id))) {\n    if (each !== key) await store.delete(each);\n  }',
    '',
  ),
];
