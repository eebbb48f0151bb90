import { monitorEventLoopDelay } from 'node:perf_hooks';

const resolutionMs = 10;

/** How late the event loop ran what was due, since the daemon was ready. Milliseconds. */
export interface LoopDelay {
  readonly p50Ms: number;
  readonly p999Ms: number;
  readonly maxMs: number;
}

/** Measures how long the event loop is held up: whatever blocks it holds up every client. */
export class LoopDelayMeter {
  private readonly histogram = monitorEventLoopDelay({ resolution: resolutionMs });

  /** Begins to measure. */
  start(): void {
    this.histogram.enable();
  }

  read(): LoopDelay {
    // The histogram holds the time between two ticks of its timer.
    const late = (nanoseconds: number): number =>
      Math.max(0, Math.round(nanoseconds / 1e4) / 100 - resolutionMs);
    const { histogram } = this;
    return {
      p50Ms: late(histogram.percentile(50)),
      p999Ms: late(histogram.percentile(99.9)),
      maxMs: histogram.count === 0 ? 0 : late(histogram.max),
    };
  }

  stop(): void {
    this.histogram.disable();
  }
}
