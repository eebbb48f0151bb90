import type { Clock } from '../base/clock.ts';
import type { ObjectStore } from '../base/object-store.ts';
import { segmentBlocks } from '../format/geometry.ts';
import type { MapPage } from './map-page.ts';
import { eachSharedRun, type MapUnion } from './map-union.ts';

/** Words of a segment's bitmap. */
const words = Math.ceil(segmentBlocks / 32);
/** What a bitmap takes in RAM, with what the engine needs to find it. */
const bitmapBytes = words * 4 + 64;
/** Bitmaps lie so many together: a hundred thousand small arrays would hold up the collection of garbage. */
const bitmapsPerChunk = 1024;

/** Which blocks of segments are alive: some map holds them. */
export class Marks {
  /** Blocks alive of each segment of which any is. */
  readonly liveBlocks = new Map<number, number>();
  /** Where the bitmap of each segment is; of none where memory is short. */
  private places: Map<number, number> | undefined = new Map();
  private readonly chunks: Uint32Array[] = [];
  private readonly maximumBitmaps: number;
  private readonly only: Pick<ReadonlySet<number>, 'has'> | undefined;

  /** `maximumBytes`: RAM for bitmaps. With `only`, no other segments are marked. */
  constructor(maximumBytes: number, only?: Pick<ReadonlySet<number>, 'has'>) {
    this.maximumBitmaps = Marks.capacity(maximumBytes);
    this.only = only;
  }

  /** So many segments can be marked block by block at once. */
  static capacity(maximumBytes: number): number {
    return Math.max(1, Math.floor(maximumBytes / bitmapBytes));
  }

  /** Whether it is known of each block, not only how many there are. */
  get hasBitmaps(): boolean {
    return this.places !== undefined;
  }

  /** Blocks `index …` of a segment are alive. Each is marked once. */
  mark(segment: number, index: number, count: number): void {
    if (this.only?.has(segment) === false) return;
    this.liveBlocks.set(segment, (this.liveBlocks.get(segment) ?? 0) + count);
    const place = this.placeOf(segment);
    if (place === undefined) return;
    const chunk = this.chunks[Math.floor(place / bitmapsPerChunk)] as Uint32Array;
    const first = (place % bitmapsPerChunk) * words;
    for (let at = index; at < index + count; at += 1) {
      const word = first + (at >>> 5);
      chunk[word] = (chunk[word] as number) | (1 << (at & 31));
    }
  }

  /** Where a segment's bitmap is, made when there is none; `undefined` where there is no room. */
  private placeOf(segment: number): number | undefined {
    const { places } = this;
    const known = places?.get(segment);
    if (places === undefined || known !== undefined) return known;
    if (places.size >= this.maximumBitmaps) {
      this.places = undefined;
      this.chunks.length = 0;
      return undefined;
    }
    const place = places.size;
    if (place % bitmapsPerChunk === 0) this.chunks.push(new Uint32Array(bitmapsPerChunk * words));
    places.set(segment, place);
    return place;
  }

  /** The blocks of a segment that are alive, as bits. */
  bitmapOf(segment: number): Uint32Array {
    const place = this.places?.get(segment);
    if (place === undefined) return new Uint32Array(words);
    const chunk = this.chunks[Math.floor(place / bitmapsPerChunk)] as Uint32Array;
    const first = (place % bitmapsPerChunk) * words;
    return chunk.subarray(first, first + words);
  }
}

export function isMarked(bitmap: Uint32Array, index: number): boolean {
  return ((bitmap[index >>> 5] as number) & (1 << (index & 31))) !== 0;
}

/**
 * Marks what any of the maps holds. Exact, and from the truth: every page is read. A page that
 * cannot be read ends it, for what that page holds would be taken for dead.
 */
export async function markLive(
  context: { readonly store: ObjectStore; readonly clock: Clock },
  union: MapUnion,
  marks: Marks,
): Promise<Marks> {
  const { store, clock } = context;
  const reading = union.read(store, clock, (_page, error) => {
    throw error;
  });
  for await (const { pages } of reading) {
    const versions = pages.map(({ page }) => page as MapPage);
    await eachSharedRun(versions, clock, ({ segment, index, count }) =>
      marks.mark(segment, index, count),
    );
  }
  return marks;
}
