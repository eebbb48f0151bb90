import { BlockCache } from './block-cache.ts';

/** Numbers of segments are below this. */
const segmentNumbers = 2 ** 32;
/** So many volumes have numbers of their own: with (segment, index) they stay below 2^53. */
const volumesMaximum = 2 ** 10;

interface Shared {
  readonly cache: BlockCache;
  /** How many read each volume, by its number. */
  readonly readers: Map<number, number>;
}

/** Blocks in RAM of all older versions that are read, within one bound. */
export class SharedBlocks {
  private readonly cacheBytes: number;
  private readonly numbers = new Map<string, number>();
  private shared: Shared;

  constructor(cacheBytes: number) {
    this.cacheBytes = cacheBytes;
    this.shared = this.empty();
  }

  get memoryBytes(): number {
    return this.shared.cache.memoryBytes;
  }

  /**
   * The part for one volume, named by what is unique to it; all of its versions share what they have
   * in common, since (segment, index) is the same block in all of them.
   */
  open(volume: string): SharedBlocksPart {
    // A number stays that of its volume for good: a block that is left over is never another's. When
    // all are used up, another cache begins, and those who read go on with the one that they have.
    if (!this.numbers.has(volume) && this.numbers.size === volumesMaximum) this.begin();
    const number = this.numbers.get(volume) ?? this.numbers.size;
    this.numbers.set(volume, number);
    const { shared } = this;
    const { cache, readers } = shared;
    readers.set(number, (readers.get(number) ?? 0) + 1);
    return new SharedBlocksPart(cache, number * segmentNumbers, () => {
      const left = (readers.get(number) ?? 0) - 1;
      if (left > 0) readers.set(number, left);
      else readers.delete(number);
      // When nobody reads anything any more, the memory is given back.
      if (readers.size === 0 && this.shared === shared) this.begin();
    });
  }

  private begin(): void {
    this.numbers.clear();
    this.shared = this.empty();
  }

  private empty(): Shared {
    const readers = new Map<number, number>();
    const isRead = (_block: number, segment: number): boolean =>
      readers.has(Math.floor(segment / segmentNumbers));
    return { cache: new BlockCache(this.cacheBytes, isRead), readers };
  }
}

/** The blocks of one volume, as `BlockCache` has them. */
export class SharedBlocksPart {
  hits = 0;
  misses = 0;
  private readonly cache: BlockCache;
  private readonly firstSegment: number;
  private onClose: (() => void) | undefined;

  constructor(cache: BlockCache, firstSegment: number, onClose: () => void) {
    this.cache = cache;
    this.firstSegment = firstSegment;
    this.onClose = onClose;
  }

  has(segment: number, index: number): boolean {
    return this.cache.has(this.firstSegment + segment, index);
  }

  copy(
    segment: number,
    index: number,
    within: number,
    lengthBytes: number,
    into: Uint8Array,
    at: number,
  ): boolean {
    return this.cache.copy(this.firstSegment + segment, index, within, lengthBytes, into, at);
  }

  insert(block: number, segment: number, index: number, bytes: Uint8Array, from: number): void {
    this.cache.insert(block, this.firstSegment + segment, index, bytes, from);
  }

  /** Nobody reads it any more: what is here of it goes first. */
  close(): void {
    this.onClose?.();
    this.onClose = undefined;
  }
}
