import type { Done } from '../base/block-device.ts';
import { type EntryKind, entryKind } from '../format/entry.ts';
import { blockBytes } from '../format/geometry.ts';
import { nowhere } from '../format/map-page.ts';
import type { BlockMap } from './block-map.ts';
import type { SegmentLog } from './segment-log.ts';

export interface VolumeWriterContext {
  readonly map: BlockMap;
  readonly log: SegmentLog;
  /** Reads volume bytes, for writes of less than a block. */
  read(offset: number, into: Uint8Array): Done;
  /** Throws when the volume can no longer be written. */
  requireWritable(): void;
}

/** A change that could not be made at once. */
interface WaitingChange {
  readonly firstBlock: number;
  readonly endBlock: number;
  /** Resolves when it was made, or has failed. */
  readonly over: Promise<void>;
}

/**
 * Puts writes into the log and the map, in one step that nothing comes between. What the log cannot
 * take waits its turn: nothing is refused because the journal is full. What overlaps is done in the
 * order of asking: a client that lost its connection asks again, and when that is answered, nothing
 * of its old request may be left to come on top of what it writes next.
 */
export class VolumeWriter {
  private readonly context: VolumeWriterContext;
  private readonly changes: WaitingChange[] = [];
  private waiting = 0;

  constructor(context: VolumeWriterContext) {
    this.context = context;
  }

  write(offset: number, from: Uint8Array): Done {
    return this.inOrder(offset, from.byteLength, () =>
      isWhole(offset, from.byteLength)
        ? this.writeWhole(offset, from)
        : this.writeUnaligned(offset, from),
    );
  }

  /** Zeroes any range: whole blocks by an entry, the pieces at its ends by writing zeroes. */
  zero(kind: EntryKind, offset: number, lengthBytes: number): Done {
    return this.inOrder(offset, lengthBytes, () =>
      isWhole(offset, lengthBytes)
        ? this.zeroBlocks(kind, offset / blockBytes, lengthBytes / blockBytes)
        : this.zeroUnaligned(kind, offset, offset + lengthBytes),
    );
  }

  private inOrder(offset: number, lengthBytes: number, make: () => Done): Done {
    const firstBlock = Math.floor(offset / blockBytes);
    const endBlock = Math.ceil((offset + lengthBytes) / blockBytes);
    const before = this.changes.filter(
      (other) => other.firstBlock < endBlock && firstBlock < other.endBlock,
    );
    const done =
      before.length === 0 ? make() : Promise.all(before.map(({ over }) => over)).then(make);
    if (done === undefined) return undefined;
    const change = { firstBlock, endBlock, over: done.catch(() => undefined) };
    this.changes.push(change);
    void change.over.then(() => this.changes.splice(this.changes.indexOf(change), 1));
    return done;
  }

  private writeWhole(offset: number, from: Uint8Array): Done {
    const firstBlock = offset / blockBytes;
    const count = from.byteLength / blockBytes;
    // Who came first goes first: a full journal must not starve the writer that waits longest.
    const done = this.waiting > 0 ? 0 : this.appendSome(firstBlock, count, from, 0);
    return done === count ? undefined : this.appendRest(firstBlock, count, from, 0, done);
  }

  /** Appends what the log takes now; returns the blocks done. */
  private appendSome(firstBlock: number, count: number, from: Uint8Array, at: number): number {
    const { map, log } = this.context;
    let done = 0;
    while (done < count) {
      const appended = log.append(firstBlock + done, count - done, from, at + done * blockBytes);
      if (appended.count === 0) return done;
      map.assign(firstBlock + done, appended.count, appended.segment, appended.firstIndex);
      done += appended.count;
    }
    return done;
  }

  private async appendRest(
    firstBlock: number,
    count: number,
    from: Uint8Array,
    at: number,
    alreadyDone: number,
  ): Promise<void> {
    let done = alreadyDone;
    await this.whenRoom(() => {
      done += this.appendSome(firstBlock + done, count - done, from, at + done * blockBytes);
      return done === count;
    });
  }

  /** Tries `attempt` until it says that it is done, each time the log may have room again. */
  private async whenRoom(attempt: () => boolean): Promise<void> {
    this.waiting += 1;
    try {
      for (;;) {
        await this.context.log.room();
        this.context.requireWritable();
        if (attempt()) return;
      }
    } finally {
      this.waiting -= 1;
    }
  }

  private zeroBlocks(kind: EntryKind, firstBlock: number, count: number): Done {
    const { map, log } = this.context;
    const attempt = (): boolean => {
      if (!log.appendZero(kind, firstBlock, count)) return false;
      const index = kind === entryKind.hole ? nowhere.hole : nowhere.zeroed;
      map.assign(firstBlock, count, nowhere.segment, index, log.lastNumber);
      return true;
    };
    if (this.waiting === 0 && attempt()) return undefined;
    return this.whenRoom(attempt);
  }

  private async zeroUnaligned(kind: EntryKind, offset: number, end: number): Promise<void> {
    const firstWhole = Math.ceil(offset / blockBytes);
    const endWhole = Math.floor(end / blockBytes);
    if (firstWhole > endWhole) {
      await this.patch(endWhole, offset - endWhole * blockBytes, new Uint8Array(end - offset));
      return;
    }
    const head = firstWhole * blockBytes - offset;
    const tail = end - endWhole * blockBytes;
    if (head > 0) await this.patch(firstWhole - 1, blockBytes - head, new Uint8Array(head));
    if (firstWhole < endWhole) await this.zeroBlocks(kind, firstWhole, endWhole - firstWhole);
    if (tail > 0) await this.patch(endWhole, 0, new Uint8Array(tail));
  }

  private async writeUnaligned(offset: number, from: Uint8Array): Promise<void> {
    let done = 0;
    while (done < from.byteLength) {
      const position = offset + done;
      const block = Math.floor(position / blockBytes);
      const within = position - block * blockBytes;
      const rest = from.byteLength - done;
      if (within === 0 && rest >= blockBytes) {
        const whole = rest - (rest % blockBytes);
        await this.writeWhole(position, from.subarray(done, done + whole));
        done += whole;
        continue;
      }
      const part = Math.min(rest, blockBytes - within);
      await this.patch(block, within, from.subarray(done, done + part));
      done += part;
    }
  }

  /** Replaces part of a block, which nobody else changes meanwhile. */
  private async patch(block: number, within: number, bytes: Uint8Array): Promise<void> {
    const whole = new Uint8Array(blockBytes);
    await this.context.read(block * blockBytes, whole);
    this.context.requireWritable();
    whole.set(bytes, within);
    await this.writeWhole(block * blockBytes, whole);
  }
}

/** Whether the range is whole blocks. */
function isWhole(offset: number, lengthBytes: number): boolean {
  return offset % blockBytes === 0 && lengthBytes % blockBytes === 0;
}
