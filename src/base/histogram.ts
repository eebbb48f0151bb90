/** How long things took: how many took up to each bound, and the sum of all. */
export interface DurationCounts {
  /** Upper bounds of the buckets; the last bucket has none. */
  readonly boundsMs: readonly number[];
  /** One more number than there are bounds. */
  readonly counts: readonly number[];
  readonly totalMs: number;
  readonly maximumMs: number;
}

/** For what a local disk or a network does. */
export const durationBoundsMs = [
  0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000,
] as const;

/** Counts durations; cheap enough to be asked at every request. */
export class DurationHistogram {
  private readonly boundsMs: readonly number[];
  private readonly counts: number[];
  private totalMs = 0;
  private maximumMs = 0;

  constructor(boundsMs: readonly number[] = durationBoundsMs) {
    this.boundsMs = boundsMs;
    this.counts = Array.from({ length: boundsMs.length + 1 }, () => 0);
  }

  /** `times`: how many things it stands for. */
  add(durationMs: number, times = 1): void {
    this.totalMs += durationMs * times;
    if (durationMs > this.maximumMs) this.maximumMs = durationMs;
    const { boundsMs } = this;
    let bucket = 0;
    while (bucket < boundsMs.length && durationMs > (boundsMs[bucket] as number)) bucket += 1;
    this.counts[bucket] = (this.counts[bucket] as number) + times;
  }

  /** What took no time that is worth asking a clock for. */
  addInstant(): void {
    this.counts[0] = (this.counts[0] as number) + 1;
  }

  read(): DurationCounts {
    const { boundsMs, totalMs, maximumMs } = this;
    return { boundsMs, counts: [...this.counts], totalMs, maximumMs };
  }
}
