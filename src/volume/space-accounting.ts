import { breathe, type Clock } from '../base/clock.ts';
import { isStorageError } from '../base/errors.ts';
import { listAll, type ObjectStore } from '../base/object-store.ts';
import type { Manifest } from '../format/manifest.ts';
import { parseVolumeKey, type VolumeKey, volumePrefix } from '../format/names.ts';
import { Inventory } from './check-inventory.ts';
import { inOrder } from './concurrency.ts';
import type { MapPage } from './map-page.ts';
import { eachSharedRun } from './map-union.ts';
import { PlacementTable } from './placement-table.ts';
import { isSameCheckpoint, type Roots, rootsOf } from './roots.ts';
import { loadMaps, readBlockCount, segmentsOfObjects } from './space-pass.ts';

/** Headers of objects read at once. */
const headersAtOnce = 32;

/** What a volume takes in its store, by what it is there for. Bytes; their sum is what is listed. */
export interface SpaceAccount {
  readonly objects: number;
  readonly storedBytes: number;
  /** What the volume is now, its map included, and what is on its way into the store. */
  readonly liveBytes: number;
  /** What only one snapshot keeps. */
  readonly snapshots: readonly { readonly name: string; readonly bytes: number }[];
  /** What several snapshots keep, and the volume does not need. */
  readonly sharedBytes: number;
  /** What is kept to go back to. */
  readonly retainedBytes: number;
  /** What nothing needs: it goes when its object is compacted or deleted. */
  readonly deadBytes: number;
  /** What no writer of this volume would have put there. */
  readonly unknownBytes: number;
}

/** Who keeps a block: a snapshot by its place in the manifest, or one of these. */
const owners = { live: -1, shared: -2, retained: -3 } as const;

/** Blocks, or bytes, by who keeps them. */
type Shares = Map<number, number>;

function add(shares: Shares, owner: number, amount: number): void {
  shares.set(owner, (shares.get(owner) ?? 0) + amount);
}

/** Accounts for every byte that a volume has in its store. Reads its maps, and a header of each object. */
export async function accountForSpace(
  store: ObjectStore,
  clock: Clock,
  manifest: Manifest,
): Promise<SpaceAccount> {
  const account = new Account(store, clock, manifest);
  await account.readMaps();
  await account.list();
  return account.result();
}

class Account {
  private readonly store: ObjectStore;
  private readonly clock: Clock;
  private readonly manifest: Manifest;
  private readonly roots: Roots;
  /** Whose each of the roots is. */
  private readonly ownersOfRoots: readonly (readonly number[])[];
  private readonly bySegment = new Map<number, Shares>();
  private readonly byPages = new Map<string, Shares>();
  private placement = PlacementTable.empty;
  private readonly bytes: Shares = new Map();
  private objects = 0;
  private storedBytes = 0;
  private deadBytes = 0;
  private unknownBytes = 0;

  constructor(store: ObjectStore, clock: Clock, manifest: Manifest) {
    this.store = store;
    this.clock = clock;
    this.manifest = manifest;
    this.roots = rootsOf(manifest);
    this.ownersOfRoots = this.roots.checkpoints.map((position) => {
      const { head, snapshots } = manifest;
      if (head !== undefined && isSameCheckpoint(head, position)) return [owners.live];
      const of = snapshots.flatMap(({ checkpoint }, at) =>
        checkpoint !== undefined && isSameCheckpoint(checkpoint, position) ? [at] : [],
      );
      return of.length === 0 ? [owners.retained] : of;
    });
  }

  /** Who keeps what these maps hold. */
  private ownerOf(holders: readonly number[]): number {
    const all = new Set(holders.flatMap((holder) => this.ownersOfRoots[holder] ?? []));
    if (all.has(owners.live)) return owners.live;
    all.delete(owners.retained);
    const [first] = all;
    if (first === undefined) return owners.retained;
    return all.size === 1 ? first : owners.shared;
  }

  async readMaps(): Promise<void> {
    const { store, clock, manifest, roots } = this;
    this.placement = await PlacementTable.load(store, manifest.id, manifest.placement);
    const union = await loadMaps(store, manifest, roots);
    for (const { key, reference, holders } of union.references()) {
      const shares = this.byPages.get(key) ?? new Map<number, number>();
      add(shares, this.ownerOf(holders), reference.storedBytes);
      this.byPages.set(key, shares);
    }
    const reading = union.read(store, clock, (_page, error) => {
      throw error;
    });
    for await (const { pages } of reading) {
      const versions = pages.map(({ page }) => page as MapPage);
      await eachSharedRun(versions, clock, (run) => {
        const holders = run.versions.flatMap((version) => pages[version]?.holders ?? []);
        const shares = this.bySegment.get(run.segment) ?? new Map<number, number>();
        add(shares, this.ownerOf(holders), run.count);
        this.bySegment.set(run.segment, shares);
      });
    }
  }

  async list(): Promise<void> {
    const { store, manifest, placement } = this;
    const inventory = new Inventory({
      ...{ manifest, placement },
      isNeededPages: (key) => this.byPages.has(key),
      isLive: (segment) => this.bySegment.has(segment),
    });
    const moved = await segmentsOfObjects(manifest.id, placement, this.clock);
    const data: { key: string; sizeBytes: number; object: VolumeKey }[] = [];
    for await (const { key, sizeBytes } of listAll(store, volumePrefix(manifest.id))) {
      this.objects += 1;
      this.storedBytes += sizeBytes;
      const standing = inventory.add(key, sizeBytes);
      if (standing === 'unknown') this.unknownBytes += sizeBytes;
      else if (standing === 'superseded' || standing === 'orphaned') this.deadBytes += sizeBytes;
      else if (standing === 'waiting') add(this.bytes, owners.live, sizeBytes);
      else this.needed(key, sizeBytes, data);
      if (this.objects % 1000 === 0) await breathe(this.clock);
    }
    const measured = inOrder(data, headersAtOnce, async ({ key, sizeBytes, object }) => {
      this.divide(object, sizeBytes, await this.blockCount(object, key), moved.get(key) ?? []);
    });
    for await (const _ of measured) await breathe(this.clock);
  }

  /** An object that something needs. */
  private needed(
    key: string,
    sizeBytes: number,
    data: { key: string; sizeBytes: number; object: VolumeKey }[],
  ): void {
    const object = parseVolumeKey(this.manifest.id, key);
    const headSegment = this.manifest.head?.segment ?? 0;
    if (object?.kind === 'pages') {
      const shares = this.byPages.get(key);
      if (shares === undefined) add(this.bytes, owners.retained, sizeBytes);
      else this.share(shares, sizeBytes, sizeBytes);
    } else if (object?.kind === 'checkpoint') {
      const root = this.roots.checkpoints.findIndex((known) => isSameCheckpoint(known, object.at));
      add(this.bytes, root < 0 ? owners.retained : this.ownerOf([root]), sizeBytes);
    } else if (object?.kind === 'segment' && object.at.segment > headSegment) {
      add(this.bytes, owners.live, sizeBytes);
    } else if (object?.kind === 'segment' || object?.kind === 'compacted') {
      data.push({ key, sizeBytes, object });
    } else add(this.bytes, owners.live, sizeBytes);
  }

  /** How many blocks an object has; `undefined` when nobody can say. */
  private async blockCount(object: VolumeKey, key: string): Promise<number | undefined> {
    if (object.kind !== 'segment' && object.kind !== 'compacted') return undefined;
    try {
      return await readBlockCount(this.store, this.manifest.id, object, key);
    } catch (error) {
      // Damaged, or deleted since it was listed.
      if (!isStorageError(error, 'corrupt') && !isStorageError(error, 'not-found')) throw error;
      return undefined;
    }
  }

  /** Divides the bytes of an object with data among those who keep blocks of it. */
  private divide(
    object: VolumeKey,
    sizeBytes: number,
    blockCount: number | undefined,
    moved: readonly number[],
  ): void {
    const isRetained = object.kind === 'segment' && object.at.segment > this.roots.logFrom;
    const segments = object.kind === 'segment' ? [object.at.segment] : moved;
    const blocks: Shares = new Map();
    for (const segment of segments) {
      for (const [owner, count] of this.bySegment.get(segment) ?? []) add(blocks, owner, count);
    }
    const held = [...blocks.values()].reduce((sum, count) => sum + count, 0);
    const total = Math.max(blockCount ?? held, held);
    if (isRetained) add(blocks, owners.retained, total - held);
    this.share(blocks, total, sizeBytes);
  }

  /** Divides bytes in the proportion of the shares of `total`; what is nobody's is dead. */
  private share(shares: Shares, total: number, sizeBytes: number): void {
    let left = sizeBytes;
    for (const [owner, amount] of shares) {
      const part = total === 0 ? 0 : Math.floor((sizeBytes * amount) / total);
      add(this.bytes, owner, part);
      left -= part;
    }
    const given = [...shares.values()].reduce((sum, amount) => sum + amount, 0);
    // What rounding leaves of an object that is all alive belongs to whoever keeps it.
    const [first] = shares.keys();
    if (given >= total && first !== undefined) add(this.bytes, first, left);
    else this.deadBytes += left;
  }

  result(): SpaceAccount {
    const of = (owner: number): number => this.bytes.get(owner) ?? 0;
    return {
      objects: this.objects,
      storedBytes: this.storedBytes,
      liveBytes: of(owners.live),
      snapshots: this.manifest.snapshots.map(({ name }, at) => ({ name, bytes: of(at) })),
      sharedBytes: of(owners.shared),
      retainedBytes: of(owners.retained),
      deadBytes: this.deadBytes,
      unknownBytes: this.unknownBytes,
    };
  }
}
