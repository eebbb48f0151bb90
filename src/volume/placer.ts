import type { StorageError } from '../base/errors.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { compactedKey, placementKey, type SerialPosition } from '../format/names.ts';
import { encodePlacement } from '../format/placement-object.ts';
import type { Ownership } from './ownership.ts';
import type { StoredPlaces } from './segment-places.ts';
import { type PatientContext, untilDone } from './until-done.ts';

export interface PlacerContext extends PatientContext {
  readonly store: ObjectStore;
  readonly volumeId: string;
  readonly ownership: Ownership;
  readonly places: StoredPlaces;
}

/** An object that is being made: nothing names it yet, and it is no garbage all the same. */
export interface NewObject {
  readonly at: SerialPosition;
  readonly key: string;
  /** It is in the placement, or was given up. */
  done(): void;
}

/**
 * Moves segments: the one way to change a volume's placement. The objects that they are moved to are
 * in the store before; then comes the placement object, then the manifest, and only then does anyone
 * here read from there.
 */
export class Placer {
  private readonly context: PlacerContext;
  private readonly making = new Set<number>();
  private nextCompacted = 1;
  private nextPlacement = 1;
  private chain: Promise<unknown> = Promise.resolve();
  private ended: StorageError | undefined;
  private readonly replaced: string[] = [];
  storedBytes = 0;

  constructor(context: PlacerContext) {
    this.context = context;
  }

  /** A place for a compacted object, which is kept from the collector until it is `done`. */
  begin(): NewObject {
    const { volumeId, ownership } = this.context;
    const at = { serial: this.nextCompacted, epoch: ownership.epoch };
    this.nextCompacted += 1;
    this.making.add(at.serial);
    return { at, key: compactedKey(volumeId, at), done: () => this.making.delete(at.serial) };
  }

  /** Whether this object is one that `begin` gave and that is not done. */
  isMaking({ serial, epoch }: SerialPosition): boolean {
    return epoch === this.context.ownership.epoch && this.making.has(serial);
  }

  /** Puts an object until it is there; into `store` where that is not the one for all else. */
  async put(
    key: string,
    parts: readonly Uint8Array[],
    store = this.context.store,
  ): Promise<number> {
    let attempts = 0;
    await untilDone(
      this.context,
      key,
      () => this.ended,
      () => {
        attempts += 1;
        return store.put(key, parts);
      },
    );
    this.storedBytes += parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
    return attempts;
  }

  /** Segments are in these objects from now on; `undefined`: nothing is left of one. */
  move(changes: ReadonlyMap<number, SerialPosition | undefined>): Promise<void> {
    const moved = this.chain.then(() => this.moveNow(changes));
    this.chain = moved.catch(() => undefined);
    return moved;
  }

  private async moveNow(changes: ReadonlyMap<number, SerialPosition | undefined>): Promise<void> {
    const { volumeId, ownership, places } = this.context;
    const at = { serial: this.nextPlacement, epoch: ownership.epoch };
    this.nextPlacement += 1;
    const table = places.placement.with(changes);
    const before = ownership.manifest.placement;
    await this.put(placementKey(volumeId, at), [encodePlacement(volumeId, at, table.rows)]);
    await ownership.update((manifest) => ({ ...manifest, placement: at }));
    places.replace(table);
    if (before !== undefined) this.replaced.push(placementKey(volumeId, before));
  }

  /** The placements that the manifest does not name any more, since this was last asked for. */
  takeReplaced(): string[] {
    return this.replaced.splice(0);
  }

  end(reason: StorageError): void {
    this.ended ??= reason;
  }
}
