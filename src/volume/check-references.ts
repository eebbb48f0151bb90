/** Consecutive blocks of the volume that a map finds in consecutive blocks of a segment. */
export interface MapReference {
  readonly index: number;
  readonly count: number;
  readonly block: number;
  /** Whether a reader of the volume or of a snapshot gets them: what they replaced is lost to nobody. */
  readonly isRead: boolean;
}

/** What a reference takes in RAM, and what its segment does. */
const referenceBytes = 80;
const segmentBytes = 160;

/**
 * What the maps say of segments, from `firstSegment` on, as far as memory allows: when it grows past
 * the limit the last segments are given up, and `endSegment` says from where another walk has to begin.
 */
export class ReferenceWindow {
  readonly segments = new Map<number, MapReference[]>();
  readonly firstSegment: number;
  endSegment = Number.POSITIVE_INFINITY;
  private readonly maximumBytes: number;
  private readonly only: ReadonlySet<number> | undefined;
  private bytes = 0;

  /** With `only`, of no other segments. */
  constructor(firstSegment: number, maximumBytes: number, only?: ReadonlySet<number>) {
    this.firstSegment = firstSegment;
    this.maximumBytes = maximumBytes;
    this.only = only;
  }

  add(segment: number, reference: MapReference): void {
    if (segment < this.firstSegment || segment >= this.endSegment) return;
    if (this.only?.has(segment) === false) return;
    const known = this.segments.get(segment);
    if (known === undefined) {
      this.segments.set(segment, [reference]);
      this.bytes += segmentBytes;
    } else known.push(reference);
    this.bytes += referenceBytes;
    if (this.bytes > this.maximumBytes && this.segments.size > 1) this.shrink();
  }

  private shrink(): void {
    const order = [...this.segments.keys()].sort((a, b) => b - a);
    for (const segment of order.slice(0, -1)) {
      if (this.bytes <= this.maximumBytes / 2) return;
      this.bytes -= segmentBytes + (this.segments.get(segment)?.length ?? 0) * referenceBytes;
      this.segments.delete(segment);
      this.endSegment = segment;
    }
  }
}
