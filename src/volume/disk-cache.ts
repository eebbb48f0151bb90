import type { LentBytes } from '../base/lent-bytes.ts';
import type { MemoryPool } from '../base/memory-pool.ts';
import type { LocalDisk, LocalFile } from '../base/local-disk.ts';
import { frameBytes } from '../format/geometry.ts';

/** Writes under way above which further frames are not kept: the cache must not hold up reading. */
const maximumWrites = 64;

/**
 * Frames on the local disk, as the store has them (compressed, verified when they are read): slots
 * of 64 KiB, used in turn. What it holds is known only while the daemon runs; it begins empty.
 */
export class DiskCache {
  private readonly file: LocalFile;
  private readonly slotCount: number;
  private readonly slotOf = new Map<number, number>();
  private readonly frameOf: Float64Array;
  private next = 0;
  private writes = 0;
  hits = 0;
  misses = 0;

  private constructor(file: LocalFile, slotCount: number) {
    this.file = file;
    this.slotCount = slotCount;
    this.frameOf = new Float64Array(slotCount).fill(-1);
  }

  /** `undefined` when there is to be none. */
  static async open(disk: LocalDisk, path: string, bytes: number): Promise<DiskCache | undefined> {
    await disk.remove(path);
    const slotCount = Math.floor(bytes / frameBytes);
    if (slotCount === 0) return undefined;
    return new DiskCache(await disk.open(path, { create: true }), slotCount);
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
    if (this.slotOf.get(frame) !== slot) {
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
    memory.hold();
    const ended = (): void => {
      this.writes -= 1;
      memory.release();
    };
    this.file.write([stored], slot * frameBytes).then(() => {
      ended();
      this.frameOf[slot] = frame;
      this.slotOf.set(frame, slot);
    }, ended);
  }

  forget(frame: number): void {
    this.slotOf.delete(frame);
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}
