import type { Lineage } from '../format/lineage.ts';
import type { Manifest } from '../format/manifest.ts';
import type { Snapshot } from '../format/snapshot.ts';
import { type PinContext, pinStates } from './clone-pins.ts';
import { findManifest } from './ownership.ts';

/** What a clone was made from; ids stand for names that cannot be had. */
export interface Parent {
  readonly volume: string;
  readonly snapshot: string;
}

/** The nearest ancestor of a volume; `undefined` when it is no clone. */
export function parentOf(
  { ancestors }: Lineage,
  manifestOf: (volumeId: string) => Pick<Manifest, 'name' | 'snapshots'> | undefined,
): Parent | undefined {
  const last = ancestors.at(-1);
  if (last === undefined) return undefined;
  const manifest = manifestOf(last.volumeId);
  const snapshot = manifest?.snapshots.find(({ id }: Snapshot) => id === last.snapshotId);
  return {
    volume: manifest?.name ?? last.volumeId,
    snapshot: snapshot?.name ?? last.snapshotId,
  };
}

export interface Family {
  /** The nearest first. */
  readonly ancestors: readonly Parent[];
  /** The names of those that read what this volume has, of whatever generation. */
  readonly clones: readonly string[];
}

/** Whom a volume descends from, and who descends from it. */
export async function familyOf(context: PinContext, manifest: Manifest): Promise<Family> {
  const ancestors = await Promise.all(
    manifest.ancestors.map(async (ancestor) => {
      const found = await findManifest(context.store, ancestor.volumeId);
      return parentOf({ id: manifest.id, ancestors: [ancestor] }, () => found?.manifest);
    }),
  );
  const states = await Promise.all(manifest.snapshots.map((each) => pinStates(context, each)));
  const clones = states
    .flatMap((each) => [...each.values()])
    .flatMap((state) => (state.kind === 'clone' ? [state.name] : []));
  return {
    ancestors: ancestors.filter((parent) => parent !== undefined).reverse(),
    clones: [...new Set(clones)].sort(),
  };
}
