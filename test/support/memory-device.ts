import type {
  BlockDevice,
  Done,
  Extent,
  WriteOptions,
  ZeroOptions,
} from '../../src/base/block-device.ts';
import { StorageError } from '../../src/base/errors.ts';

const blockBytes = 4096;

/** What a block is: never written or punched, zeroed but kept, or holding data. */
const blockState = { hole: 0, zero: 1, data: 2 } as const;

/** A device in memory that answers at once and knows which of its blocks hold data. */
export class MemoryDevice implements BlockDevice {
  readonly preferredBlockBytes = blockBytes;
  readonly readOnly: boolean;
  flushes = 0;
  prefetched: { offset: number; lengthBytes: number }[] = [];
  private bytes: Uint8Array;
  private states: Uint8Array;

  constructor(sizeBytes: number, readOnly = false) {
    this.bytes = Buffer.alloc(sizeBytes);
    this.states = new Uint8Array(Math.ceil(sizeBytes / blockBytes));
    this.readOnly = readOnly;
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  grow(sizeBytes: number): void {
    const bytes = Buffer.alloc(sizeBytes);
    bytes.set(this.bytes);
    const states = new Uint8Array(Math.ceil(sizeBytes / blockBytes));
    states.set(this.states);
    this.bytes = bytes;
    this.states = states;
  }

  /** The device's bytes themselves, for a test to look at or fill. */
  raw(): Uint8Array {
    return this.bytes;
  }

  read(offset: number, into: Uint8Array): Done {
    into.set(this.bytes.subarray(offset, offset + into.length));
    return undefined;
  }

  write(offset: number, from: Uint8Array, _options: WriteOptions): Done {
    this.put(offset, from);
    return undefined;
  }

  zero(offset: number, lengthBytes: number, options: ZeroOptions): Done {
    this.bytes.fill(0, offset, offset + lengthBytes);
    const state = options.mayPunchHole ? blockState.hole : blockState.zero;
    this.markWhole(offset, lengthBytes, state);
    return undefined;
  }

  trim(offset: number, lengthBytes: number, options: WriteOptions): Done {
    return this.zero(offset, lengthBytes, { ...options, mayPunchHole: true });
  }

  flush(): Done {
    this.flushes += 1;
    return undefined;
  }

  prefetch(offset: number, lengthBytes: number): Done {
    this.prefetched.push({ offset, lengthBytes });
    return undefined;
  }

  status(offset: number, lengthBytes: number, maxExtents: number): Extent[] | Promise<Extent[]> {
    const extents: Extent[] = [];
    const end = offset + lengthBytes;
    for (let at = offset; at < end && extents.length < maxExtents; ) {
      let block = Math.floor(at / blockBytes);
      const state = this.states[block];
      while (block * blockBytes < end && this.states[block] === state) block += 1;
      const next = Math.min(block * blockBytes, end);
      const hole = state === blockState.hole;
      extents.push({ lengthBytes: next - at, hole, zero: state !== blockState.data });
      at = next;
    }
    return extents;
  }

  /** What a write does, for a test that prepares the device. */
  put(offset: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, offset);
    this.mark(offset, bytes.length);
  }

  /** Zeroes that stay allocated, for a test that prepares the device. */
  putZeroes(offset: number, lengthBytes: number): void {
    this.bytes.fill(0, offset, offset + lengthBytes);
    this.markWhole(offset, lengthBytes, blockState.zero);
  }

  /** Makes every block that the range touches one that holds data. */
  mark(offset: number, lengthBytes: number): void {
    const first = Math.floor(offset / blockBytes);
    this.states.fill(blockState.data, first, Math.ceil((offset + lengthBytes) / blockBytes));
  }

  /** Zeroing changes the state of whole blocks only. */
  private markWhole(offset: number, lengthBytes: number, state: number): void {
    const first = Math.ceil(offset / blockBytes);
    const end = offset + lengthBytes;
    const last = end === this.sizeBytes ? this.states.length : Math.floor(end / blockBytes);
    if (first < last) this.states.fill(state, first, last);
  }
}

/**
 * A memory device whose calls wait until the test lets them go on, one by one and in any order, or
 * makes them fail.
 */
export class HeldDevice extends MemoryDevice {
  readonly waiting: { readonly what: string; go(error?: StorageError): void }[] = [];

  override read(offset: number, into: Uint8Array): Done {
    return this.hold(`read ${offset}+${into.length}`, () => super.read(offset, into));
  }

  override write(offset: number, from: Uint8Array, options: WriteOptions): Done {
    return this.hold(`write ${offset}+${from.length}`, () => super.write(offset, from, options));
  }

  override zero(offset: number, lengthBytes: number, options: ZeroOptions): Done {
    return this.hold(`zero ${offset}+${lengthBytes}`, () =>
      super.zero(offset, lengthBytes, options),
    );
  }

  override flush(): Done {
    return this.hold('flush', () => super.flush());
  }

  private hold(what: string, action: () => Done): Promise<void> {
    return new Promise((resolve, reject) => {
      this.waiting.push({
        what,
        go: (error) => {
          if (error !== undefined) return reject(error);
          resolve(action());
        },
      });
    });
  }
}

/** A memory device that fails every call that touches bytes from `fromOffset` on. */
export class FailingDevice extends MemoryDevice {
  private readonly fromOffset: number;
  private readonly error: StorageError;
  private readonly later: boolean;

  constructor(
    sizeBytes: number,
    fromOffset: number,
    options: { error?: StorageError; later?: boolean } = {},
  ) {
    super(sizeBytes);
    this.fromOffset = fromOffset;
    this.error = options.error ?? new StorageError('corrupt', 'block 7 fails its checksum');
    this.later = options.later ?? false;
  }

  override read(offset: number, into: Uint8Array): Done {
    return this.failing(offset + into.length) ?? super.read(offset, into);
  }

  override write(offset: number, from: Uint8Array, options: WriteOptions): Done {
    return this.failing(offset + from.length) ?? super.write(offset, from, options);
  }

  override zero(offset: number, lengthBytes: number, options: ZeroOptions): Done {
    return this.failing(offset + lengthBytes) ?? super.zero(offset, lengthBytes, options);
  }

  override status(offset: number, lengthBytes: number, maxExtents: number) {
    if (offset >= this.fromOffset) throw this.error;
    return super.status(offset, lengthBytes, maxExtents);
  }

  private failing(end: number): Done {
    if (end <= this.fromOffset) return undefined;
    if (!this.later) throw this.error;
    return Promise.reject(this.error);
  }
}
