import { isStorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { type Lineage, volumeOfSegment } from '../format/lineage.ts';
import {
  compactedKey,
  type LogPosition,
  segmentKey,
  type SerialPosition,
} from '../format/names.ts';
import { loadManifest } from './ownership.ts';
import { PlacementTable } from './placement-table.ts';

/** Which object has the blocks of a segment. */
export interface SegmentPlace {
  /** The volume under whose prefix the object lies. */
  readonly volumeId: string;
  /** The segment, as it was stored. */
  readonly at: LogPosition;
  /** The compacted object that has what is left of it; `undefined`: it lies in its own. */
  readonly moved: SerialPosition | undefined;
  readonly key: string;
}

/** Says where segments are, which is the only thing that compaction changes. */
export interface SegmentPlaces {
  find(segment: number): SegmentPlace | Promise<SegmentPlace>;
  /**
   * The object of `missing` is not there: looks anew. `undefined` when the segment is said to be
   * there still, and so is lost.
   */
  findAgain(segment: number, missing: SegmentPlace): Promise<SegmentPlace | undefined>;
}

export interface StoredPlacesContext {
  readonly store: ObjectStore;
  /** Whose segments it reads: the volume's own placement counts first, then its ancestors'. */
  lineage(): Lineage;
  /** Of the volume itself. */
  readonly placement: PlacementTable;
  /**
   * Whether the volume's own placement changes in the store behind our back: a writer alone knows it
   * without asking.
   */
  readonly isChangedByOthers: boolean;
  /** Under which epoch a segment was stored. */
  epochOf(segment: number): number;
}

/**
 * The places of a volume's segments by the placements of it and its ancestors. Those of ancestors are
 * loaded when the first of their segments is asked for, and again when an object of theirs is gone.
 */
export class StoredPlaces implements SegmentPlaces {
  private readonly context: StoredPlacesContext;
  private own: PlacementTable;
  private readonly ancestors = new Map<string, PlacementTable>();
  private readonly loads = new Map<string, Promise<PlacementTable>>();

  constructor(context: StoredPlacesContext) {
    this.context = context;
    this.own = context.placement;
  }

  /** The volume's own placement. */
  get placement(): PlacementTable {
    return this.own;
  }

  /** The manifest names another placement of the volume from now on. */
  replace(placement: PlacementTable): void {
    this.own = placement;
  }

  find(segment: number): SegmentPlace | Promise<SegmentPlace> {
    const lineage = this.context.lineage();
    const moved = this.own.find(segment);
    if (moved !== undefined) return this.placeIn(lineage.id, segment, moved);
    const writer = volumeOfSegment(lineage, segment);
    if (writer === lineage.id) return this.placeIn(writer, segment, undefined);
    const known = this.ancestors.get(writer);
    if (known !== undefined) return this.placeIn(writer, segment, known.find(segment));
    return this.load(writer).then(
      (table) => this.placeIn(writer, segment, table.find(segment)),
      (error: unknown) => this.findElsewhere(segment, error),
    );
  }

  /** The ancestor cannot be asked: it may be gone, and the volume have what it needs of it. */
  private async findElsewhere(segment: number, error: unknown): Promise<SegmentPlace> {
    const { isChangedByOthers } = this.context;
    const { id } = this.context.lineage();
    if (isChangedByOthers && isStorageError(error, 'corrupt')) this.own = await this.load(id);
    const moved = this.own.find(segment);
    if (moved === undefined) throw error;
    return this.placeIn(id, segment, moved);
  }

  async findAgain(segment: number, missing: SegmentPlace): Promise<SegmentPlace | undefined> {
    const since = await this.find(segment);
    if (since.key !== missing.key) return since;
    const { isChangedByOthers } = this.context;
    const lineage = this.context.lineage();
    const writer = volumeOfSegment(lineage, segment);
    // Its own first: with what it has of an ancestor, that one need not be there.
    if (isChangedByOthers) this.own = await this.load(lineage.id);
    if (writer !== lineage.id && this.own.find(segment) === undefined) await this.load(writer);
    const found = await this.find(segment);
    return found.key === missing.key ? undefined : found;
  }

  /** Looks anew where the ancestors have what they moved. */
  async reloadAncestors(): Promise<void> {
    for (const volumeId of [...this.ancestors.keys()]) await this.load(volumeId);
  }

  /** Loads what a volume's manifest says now; once for all that wait for it. */
  private load(volumeId: string): Promise<PlacementTable> {
    const loading = this.loads.get(volumeId);
    if (loading !== undefined) return loading;
    const load = this.read(volumeId).finally(() => this.loads.delete(volumeId));
    this.loads.set(volumeId, load);
    return load;
  }

  private async read(volumeId: string): Promise<PlacementTable> {
    const { store } = this.context;
    const { manifest } = await loadManifest(store, volumeId);
    const table = await PlacementTable.load(store, volumeId, manifest.placement);
    if (volumeId !== this.context.lineage().id) this.ancestors.set(volumeId, table);
    return table;
  }

  private placeIn(
    volumeId: string,
    segment: number,
    moved: SerialPosition | undefined,
  ): SegmentPlace {
    const at = { segment, epoch: this.context.epochOf(segment) };
    const key = moved === undefined ? segmentKey(volumeId, at) : compactedKey(volumeId, moved);
    return { volumeId, at, moved, key };
  }
}
