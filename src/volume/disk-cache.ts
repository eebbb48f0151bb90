import type { LentBytes } from '../base/lent-bytes.ts';
import type { MemoryPool } from '../base/memory-pool.ts';
import type { LocalDisk, LocalFile } from '../base/local-disk.ts';
import { writeUint64 } from '../format/binary.ts';
import { frameBytes } from '../format/geometry.ts';
import { openMessage, sealMessage, type Subkey, tagBytes } from '../format/sealing.ts';

/** Writes under way above which further frames are not kept: the cache must not hold up reading. */
const maximumWrites = 64;
const nothing = new Uint8Array(0);

/** A cache may be written more often than parts of an object are counted. */
function wideNonceOf(write: number): Uint8Array {
  const nonce = new Uint8Array(12);
  writeUint64(new DataView(nonce.buffer), 0, write);
  return nonce;
}

/**
 * Frames on the local disk, as the store has them (compressed, verified when they are read): slots
 * of 64 KiB, used in turn. What it holds is known only while the daemon runs; it begins empty.
 */
export class DiskCache {
  private readonly file: LocalFile;
  private readonly slotCount: number;
  private readonly slotOf = new Map<number, number>();
  private readonly frameOf: Float64Array;
  /** Of an encrypted volume: the key of this cache, whose tags are kept in memory. */
  private readonly subkey: Subkey | undefined;
  private readonly tags: Uint8Array;
  /** Which write was the last to each slot: no nonce is used twice. */
  private readonly writeOf: Float64Array;
  private lastWrite = 0;
  private next = 0;
  private writes = 0;
  hits = 0;
  misses = 0;

  private constructor(file: LocalFile, slotCount: number, subkey: Subkey | undefined) {
    this.subkey = subkey;
    this.tags = new Uint8Array(subkey === undefined ? 0 : slotCount * tagBytes);
    this.writeOf = new Float64Array(subkey === undefined ? 0 : slotCount);
    this.file = file;
    this.slotCount = slotCount;
    this.frameOf = new Float64Array(slotCount).fill(-1);
  }

  /** `undefined` when there is to be none. `subkey`, which nobody else has, of an encrypted volume. */
  static async open(
    disk: LocalDisk,
    path: string,
    bytes: number,
    subkey?: Subkey,
  ): Promise<DiskCache | undefined> {
    await disk.remove(path);
    const slotCount = Math.floor(bytes / frameBytes);
    if (slotCount === 0) return undefined;
    return new DiskCache(await disk.open(path, { create: true }), slotCount, subkey);
  }

  has(frame: number): boolean {
    return this.slotOf.has(frame);
  }

  /** The stored bytes of a frame, in `memory`, or `undefined`. They are unverified. */
  async read(
    frame: number,
    storedBytes: number,
    memory: MemoryPool,
  ): Promise<LentBytes | undefined> {
    const slot = this.slotOf.get(frame);
    if (slot === undefined) {
      this.misses += 1;
      return undefined;
    }
    const stored = memory.take(storedBytes);
    try {
      await this.file.read(stored.bytes, slot * frameBytes);
    } catch {
      this.forget(frame);
      return undefined;
    }
    if (this.slotOf.get(frame) !== slot || !this.unseal(slot, stored.bytes)) {
      stored.release();
      return undefined;
    }
    this.hits += 1;
    return stored;
  }

  /**
   * Keeps a frame, which lies in `memory`, unless the disk is behind. Nobody waits for it; a failure
   * only means a miss.
   */
  write(frame: number, stored: Uint8Array, memory: LentBytes): void {
    if (this.writes >= maximumWrites || this.slotOf.has(frame)) return;
    const slot = this.next;
    this.next = slot + 1 === this.slotCount ? 0 : slot + 1;
    this.forget(this.frameOf[slot] as number);
    this.frameOf[slot] = -1;
    this.writes += 1;
    const bytes = this.seal(slot, stored);
    memory.hold();
    const ended = (): void => {
      this.writes -= 1;
      memory.release();
    };
    this.file.write([bytes], slot * frameBytes).then(() => {
      ended();
      this.frameOf[slot] = frame;
      this.slotOf.set(frame, slot);
    }, ended);
  }

  private seal(slot: number, stored: Uint8Array): Uint8Array {
    const { subkey } = this;
    if (subkey === undefined) return stored;
    this.lastWrite += 1;
    this.writeOf[slot] = this.lastWrite;
    const { pieces, tag } = sealMessage(subkey, wideNonceOf(this.lastWrite), nothing, [stored]);
    this.tags.set(tag, slot * tagBytes);
    return pieces[0] as Uint8Array;
  }

  /** Opens what a slot had where it lies; false when the disk has changed it. */
  private unseal(slot: number, bytes: Uint8Array): boolean {
    const { subkey } = this;
    if (subkey === undefined) return true;
    const tag = this.tags.slice(slot * tagBytes, (slot + 1) * tagBytes);
    const nonce = wideNonceOf(this.writeOf[slot] as number);
    const opened = openMessage(subkey, nonce, nothing, { pieces: [bytes], tag });
    if (opened === undefined) return false;
    bytes.set(opened[0] as Uint8Array);
    return true;
  }

  forget(frame: number): void {
    this.slotOf.delete(frame);
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}
