import type { Changes } from '../base/block-device.ts';
import type { Clock } from '../base/clock.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Manifest } from '../format/manifest.ts';
import type { BlockMap } from './block-map.ts';
import type { Checkpointer } from './checkpointer.ts';
import { VersionChanges } from './map-difference.ts';
import { PresentVersion } from './map-version.ts';
import { loadManifest, type Ownership } from './ownership.ts';
import type { PageCache } from './page-cache.ts';
import { completedNames, snapshotVersion } from './stored-version.ts';
import type { VolumeReader } from './volume-reader.ts';

export interface LiveChangesContext {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly ownership: Ownership;
  readonly map: BlockMap;
  readonly checkpointer: Checkpointer;
  readonly reader: VolumeReader;
  /** Where the pages of snapshots are kept. */
  readonly pages: PageCache;
}

/**
 * What was changed in an attached volume since its snapshots. For that the manifest is read anew: another
 * host may have deleted one, and given its name to another.
 */
export class LiveChanges {
  private readonly context: LiveChangesContext;
  private readonly present: PresentVersion;

  constructor(context: LiveChangesContext) {
    const { map, ownership, checkpointer, reader, pages } = context;
    this.context = context;
    this.present = new PresentVersion({
      map,
      cache: pages,
      sizeBytes: () => ownership.manifest.sizeBytes,
      table: () => checkpointer.pageTable,
      loadPage: (pageIndex) => reader.loadPage(pageIndex),
    });
  }

  /** As this writer last saw them: a client that looks around need not wait for a store that is away. */
  moments(): string[] {
    return completedNames(this.context.ownership.manifest.snapshots);
  }

  async since(moment: string): Promise<Changes | undefined> {
    const { store, clock, pages } = this.context;
    const manifest = await this.manifest();
    if (!completedNames(manifest.snapshots).includes(moment)) return undefined;
    const before = await snapshotVersion(store, manifest, moment, pages);
    return new VersionChanges(clock, before, this.present);
  }

  /**
   * Where another host has gone on, the segments that it wrote have the numbers of those that were only
   * here: its snapshots cannot be compared with this map.
   */
  private async manifest(): Promise<Manifest> {
    const { store, ownership } = this.context;
    const { manifest } = await loadManifest(store, ownership.manifest.id);
    if (manifest.epoch !== ownership.epoch) await ownership.confirm();
    return manifest;
  }
}
