import type { PageReference } from '../format/checkpoint-object.ts';
import { type CheckpointPosition, firstPartOf } from '../format/names.ts';
import type { FoldedPage } from './fold.ts';

/** An object with pages is put when it has grown to this. */
const pagesObjectBytes = 16 * 2 ** 20;

/** Packs the pages of one checkpoint into objects, and remembers where each of them is. */
export class PagesWriter {
  /** Where each page is now; `undefined`: it has become one hole. */
  readonly changes = new Map<number, PageReference | undefined>();
  private readonly at: CheckpointPosition;
  private readonly put: (part: number, pages: readonly Uint8Array[]) => Promise<void>;
  private part: number;
  private pages: Uint8Array[] = [];
  private bytes = 0;

  constructor(
    at: CheckpointPosition,
    put: (part: number, pages: readonly Uint8Array[]) => Promise<void>,
  ) {
    this.at = at;
    this.part = firstPartOf(at);
    this.put = put;
  }

  async add({ pageIndex, stored, checksum, liveBlocks }: FoldedPage): Promise<void> {
    if (stored === undefined) {
      this.changes.set(pageIndex, undefined);
      return;
    }
    const { part, bytes: offset } = this;
    const storedBytes = stored.byteLength;
    const { segment, epoch } = this.at;
    const place = { segment, epoch, part, offset, storedBytes };
    this.changes.set(pageIndex, { pageIndex, ...place, checksum, liveBlocks });
    this.pages.push(stored);
    this.bytes += storedBytes;
    if (this.bytes >= pagesObjectBytes) await this.finish();
  }

  /** Puts what was added last. */
  async finish(): Promise<void> {
    if (this.pages.length === 0) return;
    await this.put(this.part, this.pages);
    this.part += 1;
    this.pages = [];
    this.bytes = 0;
  }
}
