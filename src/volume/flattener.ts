import { breathe, isoTime } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { lastOfAncestors, withoutSegments } from '../format/lineage.ts';
import type { Manifest } from '../format/manifest.ts';
import type { CheckpointPosition } from '../format/names.ts';
import type { Checkpointer } from './checkpointer.ts';
import { unpinAll } from './clone-pins.ts';
import { Compactor, type CompactorContext, type DataObject } from './compactor.ts';
import { requireNoClones } from './deletion.ts';
import { markLive, Marks } from './marks.ts';
import { OwnMaps } from './own-maps.ts';
import type { PlacerContext } from './placer.ts';
import { keepOnlyFrom } from './retention.ts';
import { rootsOf } from './roots.ts';
import { loadMaps } from './space-pass.ts';

/** Segments whose places are looked up between two breaths. */
const segmentsAtOnce = 4096;

export interface FlattenerContext extends PlacerContext, CompactorContext {
  readonly checkpointer: Pick<Checkpointer, 'storeAnew' | 'pageTable'>;
  /** The time now, as the log of the volume has it. */
  readonly nowMs: () => number;
}

export interface FlattenOptions {
  /** Whether the past that the volume keeps may be given up, which the ancestors are part of. */
  readonly mayForget: boolean;
}

/** How far a volume is on its way to needing nobody. */
export interface FlattenProgress {
  /** Blocks of its ancestors that it reads, and how many of them it has for its own. */
  readonly blocks: number;
  readonly copiedBlocks: number;
}

export interface Flattened {
  /** Whether it was a clone. */
  readonly wasClone: boolean;
  readonly copiedBytes: number;
  /** Put into the store for it: data and map. */
  readonly storedBytes: number;
}

/** What is still to be moved, and which of its blocks. */
interface Left {
  readonly segments: readonly number[];
  readonly objects: readonly DataObject[];
  readonly marks: Marks;
  /** Whether there was memory for all of it. */
  readonly isAll: boolean;
}

/**
 * Makes a clone independent of its ancestors, while it is used. What it reads of their segments is
 * moved to objects of its own, as compaction moves blocks, which stays done whatever comes; then its
 * maps are stored anew; then one change of the manifest says that nothing is the ancestors' any more. Only
 * then their pins go, and with them, last, their names in the manifest.
 */
export class Flattener {
  private readonly context: FlattenerContext;
  private readonly compactor: Compactor;
  private totalBlocks = 0;

  constructor(context: FlattenerContext) {
    this.context = context;
    this.compactor = new Compactor(context);
  }

  get progress(): FlattenProgress {
    return { blocks: this.totalBlocks, copiedBlocks: this.compactor.movedBlocks };
  }

  async run(options: FlattenOptions): Promise<Flattened> {
    const { ownership, placer } = this.context;
    const before = placer.storedBytes;
    const manifest = await ownership.fresh();
    const wasClone = manifest.ancestors.length > 0;
    if (lastOfAncestors(manifest) > 0) {
      requireMayForget(manifest, options);
      await requireNoClones(this.context, manifest, 'flattened');
      await this.moveBlocks();
      await this.storeMaps(options);
    }
    if (wasClone) await this.untie();
    return {
      wasClone,
      copiedBytes: this.compactor.readBytes,
      storedBytes: placer.storedBytes - before,
    };
  }

  /** Moves all that any map of the volume holds of its ancestors' segments. */
  private async moveBlocks(): Promise<void> {
    const { places, pacer } = this.context;
    let unread: ReadonlySet<string> = new Set();
    for (let isAll = false; !isAll || unread.size > 0; ) {
      pacer.requireGoing();
      const left = await this.look();
      await this.compactor.compact(left.objects, left.marks, () => undefined);
      const again = this.compactor.takeDamaged();
      for (const key of again) if (unread.has(key)) throw damaged(`Object ${key}`);
      unread = again;
      const lost = left.segments.find((segment) => places.placement.find(segment) === undefined);
      if (unread.size === 0 && lost !== undefined) throw damaged(`Segment ${lost}`);
      isAll = left.isAll;
      // What was not there may have been moved by the ancestor since.
      if (unread.size > 0) await places.reloadAncestors();
    }
  }

  private async look(): Promise<Left> {
    const { store, clock, ownership, places, settings } = this.context;
    const manifest = await ownership.fresh();
    const last = lastOfAncestors(manifest);
    const union = await loadMaps(store, manifest, rootsOf(manifest));
    const { markBytes } = settings.space;
    const isWanted = (segment: number): boolean =>
      segment <= last && places.placement.find(segment) === undefined;
    let marks = await markLive(this.context, union, new Marks(markBytes, { has: isWanted }));
    let segments = [...marks.liveBlocks.keys()].sort((a, b) => a - b);
    let blocks = 0;
    for (const count of marks.liveBlocks.values()) blocks += count;
    this.totalBlocks = this.compactor.movedBlocks + blocks;
    const isAll = marks.hasBitmaps;
    if (!isAll) {
      // Memory was short for all of them: it is enough for these.
      segments = segments.slice(0, Marks.capacity(markBytes));
      const only = new Set(segments);
      marks = await markLive(this.context, union, new Marks(Number.POSITIVE_INFINITY, only));
    }
    await breathe(clock);
    return { segments, objects: await this.objectsOf(segments), marks, isAll };
  }

  /** Where these segments are now. */
  private async objectsOf(segments: readonly number[]): Promise<DataObject[]> {
    const { places, clock } = this.context;
    const objects = new Map<string, { object: DataObject; segments: Set<number> }>();
    for (const [at, segment] of segments.entries()) {
      const { key, moved, at: position, volumeId } = await places.find(segment);
      const known = objects.get(key);
      if (known !== undefined) known.segments.add(segment);
      else {
        const of = { volumeId, segments: new Set([segment]) };
        const object: DataObject =
          moved === undefined
            ? { kind: 'segment', at: position, of }
            : { kind: 'compacted', at: moved, of };
        objects.set(key, { object, segments: of.segments });
      }
      if (at % segmentsAtOnce === segmentsAtOnce - 1) await breathe(clock);
    }
    return [...objects.values()].map(({ object }) => object);
  }

  /** Stores all maps anew; then, in one change of the manifest, nothing is the ancestors' any more. */
  private async storeMaps(options: FlattenOptions): Promise<void> {
    const { ownership, checkpointer } = this.context;
    const maps = new OwnMaps(this.context);
    // Most of it while checkpoints go on being made.
    await maps.storeAll(await ownership.fresh());
    await checkpointer.storeAnew(async () => {
      const timeMs = checkpointer.pageTable.timeMs || this.context.nowMs();
      do await maps.storeAll(ownership.manifest);
      while (!(await this.cut(maps, timeMs, options)));
    });
  }

  /** Says in the manifest that all is the volume's own; false when a map is there that is not stored so. */
  private async cut(maps: OwnMaps, timeMs: number, options: FlattenOptions): Promise<boolean> {
    let isDone = false;
    await this.context.ownership.update((present) => {
      const changed = independent(present, maps, timeMs, options);
      isDone = changed !== undefined;
      return changed ?? present;
    });
    return isDone;
  }

  /** The ancestors need not keep anything for this volume any more. */
  private async untie(): Promise<void> {
    const { ownership, volumeId, checkpointer } = this.context;
    // An earlier attempt may have got so far, and not have heard of it.
    await checkpointer.storeAnew(() => Promise.resolve());
    await unpinAll(this.context, ownership.manifest.ancestors, volumeId);
    await ownership.update((manifest) => ({ ...manifest, ancestors: [] }));
  }
}

/** The manifest when nothing is its ancestors' any more; `undefined` when a map is not stored for that. */
function independent(
  manifest: Manifest,
  maps: OwnMaps,
  timeMs: number,
  options: FlattenOptions,
): Manifest | undefined {
  if (lastOfAncestors(manifest) === 0) return manifest;
  requireMayForget(manifest, options);
  if (manifest.snapshots.some(({ clones }) => clones.length > 0)) throw cloned(manifest);
  let isStored = true;
  const own = (position: CheckpointPosition | undefined): CheckpointPosition | undefined => {
    const at = position && maps.find(position);
    if (position !== undefined && at === undefined) isStored = false;
    return at;
  };
  const head = own(manifest.head);
  const snapshots = manifest.snapshots.map((snapshot) => ({
    ...snapshot,
    checkpoint: own(snapshot.checkpoint),
  }));
  if (!isStored) return undefined;
  const ancestors = withoutSegments(manifest.ancestors);
  return keepOnlyFrom({ ...manifest, head, snapshots, ancestors }, { checkpoint: head, timeMs });
}

/** Its past is what its ancestors' maps and its own make together, which nobody stores anew. */
function requireMayForget({ name, retention }: Manifest, { mayForget }: FlattenOptions): void {
  const keptFrom = retention?.keptFrom;
  if (mayForget || keptFrom === undefined) return;
  throw new StorageError(
    'usage',
    `Volume ${name} can be had as of any time since ${isoTime(keptFrom.timeMs + 1)}, and after flattening only as of later times: --confirm ${name} says that this may be.`,
  );
}

function cloned({ name }: Manifest): StorageError {
  return new StorageError(
    'in-use',
    `Volume ${name} cannot be flattened: it was cloned meanwhile. Flatten or delete that clone first.`,
  );
}

function damaged(what: string): StorageError {
  return new StorageError(
    'corrupt',
    `${what} of an ancestor is damaged or missing, so not all that is needed of it can be copied; what was copied stays so.`,
  );
}
