/**
 * A block device: what `nbd` serves, what `array` is made of and what a volume is.
 *
 * Every method either is done when it returns (`undefined`) or gives a promise. The first is the hot
 * path: a request that memory can answer costs no promise and no turn of the event loop.
 * Offsets and lengths are bytes, any alignment; the caller has checked them against `sizeBytes`.
 * Calls may overlap in time; each block of an overlapped range then holds the old or the new bytes.
 * Failures are `StorageError`s, thrown or as a rejection.
 */
export type Done = Promise<void> | undefined;

export interface WriteOptions {
  /** Forced unit access: done only when the data would survive what a flush survives. */
  readonly fua: boolean;
}

export interface ZeroOptions extends WriteOptions {
  /** Whether the range may become a hole; without it, it stays allocated in the block status. */
  readonly mayPunchHole: boolean;
}

/** A run of bytes with one status; the meaning of NBD's `base:allocation`. */
export interface Extent {
  readonly lengthBytes: number;
  readonly hole: boolean;
  readonly zero: boolean;
}

/** A run of bytes that was changed since a moment, or was not. */
export interface ChangeExtent {
  readonly lengthBytes: number;
  readonly changed: boolean;
}

/** What was changed since one moment; it stays that of this moment, whatever becomes of its name. */
export interface Changes {
  /**
   * As `BlockDevice.status`. What reads otherwise than at that moment is changed; more may be, so
   * what was written with the bytes that it had. Fails rather than take anything for unchanged.
   */
  status(
    offset: number,
    lengthBytes: number,
    maxExtents: number,
  ): Promise<ChangeExtent[]> | ChangeExtent[];
}

export interface BlockDevice {
  /** May grow while the device is open, never shrinks. */
  readonly sizeBytes: number;
  /** Finds out, where that takes asking, whether the device has grown; `sizeBytes` says so then. */
  askSize?(): Promise<void>;
  readonly readOnly: boolean;
  /** The length and alignment at which the device works best. */
  readonly preferredBlockBytes: number;
  /** Fills `into` with the bytes at `offset`. */
  read(offset: number, into: Uint8Array): Done;
  /** `from` must not change until this is done. */
  write(offset: number, from: Uint8Array, options: WriteOptions): Done;
  /** Reads of the range give zeroes from now on, exactly. */
  zero(offset: number, lengthBytes: number, options: ZeroOptions): Done;
  /** Says that the range is of no more use; whole blocks of it become holes and read as zeroes. */
  trim(offset: number, lengthBytes: number, options: WriteOptions): Done;
  /** What was answered before this call survives; see `durability`. */
  flush(): Done;
  /** Brings the range into the cache; a hint. */
  prefetch(offset: number, lengthBytes: number): Done;
  /**
   * The status of the range, from its beginning: adjacent extents differ, at most `maxExtents` of
   * them, and they may end before the range does.
   */
  status(offset: number, lengthBytes: number, maxExtents: number): Promise<Extent[]> | Extent[];
  /** The names of the moments since which the device knows what was changed; it may know none. */
  moments?(): Promise<readonly string[]>;
  /** What was changed since the moment of that name; `undefined` when there is no such moment. */
  changesSince?(moment: string): Promise<Changes | undefined>;
}
