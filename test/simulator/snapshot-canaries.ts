import { type PlantedBug, planted } from './planted.ts';

/** Planted bugs of snapshots: one for each promise. */
export const snapshotBugs: readonly PlantedBug[] = [
  planted(
    'a snapshot’s cut is no instant: what is written after it lands in its last segment',
    200,
    'volume/snapshots.ts',
    'segments.seal();',
    '',
  ),
  planted(
    'a snapshot is in the manifest before the local disk has all of it',
    2000,
    'volume/snapshots.ts',
    'await onDisk;',
    '',
  ),
  planted(
    'a checkpoint goes past a cut that is not in the manifest yet',
    5000,
    'volume/checkpointer.ts',
    'const hold = { segment };',
    'const hold = { segment: Number.POSITIVE_INFINITY, cut: segment };',
  ),
  planted(
    'a checkpoint goes past the cut of a pending snapshot',
    200,
    'volume/checkpointer.ts',
    'const cuts = pendingSnapshots(this.context.ownership.manifest);',
    'const cuts: { segment: number }[] = [];',
  ),
  planted(
    'a snapshot is called completed before its checkpoint is stored',
    200,
    'volume/checkpointer.ts',
    'const table = await storeFold(',
    `await ownership.update((manifest) => withHead(manifest, at));
    const table = await storeFold(`,
  ),
  planted(
    'a pending snapshot is kept past the end of the log',
    1000,
    'volume/snapshot-changes.ts',
    '(each) => each.isCompleted || isWhole(each)',
    '(each) => each.isCompleted || isWhole(each) || true',
  ),
  planted(
    'what is only in the journal does not count when pending snapshots are given up',
    500,
    'volume/attach.ts',
    'segment: lastSegment + replayed.length,',
    'segment: lastSegment + 0 * replayed.length,',
  ),
  planted(
    'a volume is rolled back to a table that is not stored yet',
    4000,
    'volume/rollback.ts',
    '() => store.put(key, [object]),',
    'async () => void store.put(key, [object]).catch(() => undefined),',
  ),
  planted(
    'a volume that is rolled back keeps its size',
    2000,
    'volume/rollback.ts',
    'return turned({ ...sized, head }, head, before.segment, timeMs);',
    'return turned({ ...named, head }, head, before.segment, timeMs);',
  ),
  planted(
    'a volume is rolled back, and what it was until then is lost',
    500,
    'volume/rollback.ts',
    'const named = addSnapshot(manifest, before);',
    'const named = manifest;',
  ),
  planted(
    'a writer puts back the snapshots that it remembers',
    500,
    'volume/ownership.ts',
    `      return this.swap((before) => {
        const changed = noteTurn(before, this.alsoChange(change(before)));`,
    `      const remembered = this.manifest;
      return this.swap((before) => {
        const { snapshots } = change(remembered);
        const changed = { ...noteTurn(before, this.alsoChange(change(before))), snapshots };`,
  ),
];
