import type { ChangeExtent, Changes } from '../../src/base/block-device.ts';
import { StorageError } from '../../src/base/errors.ts';
import { MemoryDevice } from './memory-device.ts';

const blockBytes = 4096;

/** A memory device that keeps what it was at some moments, and so knows what was changed since. */
export class TrackedDevice extends MemoryDevice {
  private readonly kept = new Map<string, Uint8Array>();

  /** Keeps the device as it is now, under a name. */
  keep(moment: string): void {
    this.kept.set(moment, Uint8Array.from(this.raw()));
  }

  /** Whoever asks for that moment from now on is refused. */
  forget(moment: string): void {
    this.kept.delete(moment);
  }

  moments(): Promise<readonly string[]> {
    return Promise.resolve([...this.kept.keys()]);
  }

  changesSince(moment: string): Promise<Changes | undefined> {
    const before = this.kept.get(moment);
    if (before === undefined) return Promise.resolve(undefined);
    const status = (offset: number, lengthBytes: number, maxExtents: number): ChangeExtent[] => {
      if (this.kept.get(moment) !== before) throw new StorageError('not-found', 'it is gone');
      return this.changes(before, offset, lengthBytes, maxExtents);
    };
    return Promise.resolve({ status });
  }

  private changes(
    before: Uint8Array,
    offset: number,
    lengthBytes: number,
    maxExtents: number,
  ): ChangeExtent[] {
    const extents: ChangeExtent[] = [];
    const end = offset + lengthBytes;
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / blockBytes) * blockBytes;
      const stop = Math.min(end, block + blockBytes);
      const [was, is] = [before, this.raw()].map((all) => all.subarray(block, block + blockBytes));
      const changed = Buffer.compare(was as Uint8Array, is as Uint8Array) !== 0;
      const last = extents.at(-1);
      if (last?.changed === changed) {
        extents[extents.length - 1] = { lengthBytes: last.lengthBytes + stop - at, changed };
      } else {
        if (extents.length === maxExtents) break;
        extents.push({ lengthBytes: stop - at, changed });
      }
      at = stop;
    }
    return extents;
  }
}
