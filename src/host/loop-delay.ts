import { closeSync, openSync, readSync } from 'node:fs';
import { createHistogram } from 'node:perf_hooks';

const tickMs = 10;

/** How late the event loop ran what was due, since the daemon was ready. Milliseconds. */
export interface LoopDelay {
  readonly p50Ms: number;
  readonly p999Ms: number;
  readonly maxMs: number;
  /** Of that, what the loop was held up by its own work: without waiting for a processor. */
  readonly held: { readonly p999Ms: number; readonly maxMs: number };
}

/** Measures how long the event loop is held up: whatever holds it up holds up every client. */
export class LoopDelayMeter {
  private readonly late = createHistogram();
  private readonly held = createHistogram();
  private readonly waiting = new ProcessorWait();
  private timer: NodeJS.Timeout | undefined;
  private lastMs = 0;
  private lastWaitMs = 0;

  /** Begins to measure. */
  start(): void {
    this.lastMs = performance.now();
    this.lastWaitMs = this.waiting.totalMs();
    this.timer = setInterval(() => this.tick(), tickMs).unref();
  }

  private tick(): void {
    const nowMs = performance.now();
    const waitMs = this.waiting.totalMs();
    const lateMs = nowMs - this.lastMs - tickMs;
    record(this.late, lateMs);
    record(this.held, lateMs - (waitMs - this.lastWaitMs));
    this.lastMs = nowMs;
    this.lastWaitMs = waitMs;
  }

  read(): LoopDelay {
    const { late, held } = this;
    return {
      p50Ms: inMs(late.percentile(50)),
      p999Ms: inMs(late.percentile(99.9)),
      maxMs: inMs(late.max),
      held: { p999Ms: inMs(held.percentile(99.9)), maxMs: inMs(held.max) },
    };
  }

  stop(): void {
    clearInterval(this.timer);
    this.waiting.close();
  }
}

/** A histogram holds whole numbers from 1 on: microseconds. */
function record(histogram: ReturnType<typeof createHistogram>, ms: number): void {
  histogram.record(Math.max(1, Math.round(ms * 1000)));
}

function inMs(microseconds: number): number {
  // What nothing was recorded in has the smallest number there is, or the largest.
  return microseconds <= 1 || microseconds > 1e12 ? 0 : Math.round(microseconds / 10) / 100;
}

/**
 * How long this thread was ready to run and had no processor, as Linux counts it
 * (`Documentation/scheduler/sched-stats.rst`, `/proc/<pid>/schedstat`); elsewhere 0.
 */
class ProcessorWait {
  private readonly text = Buffer.alloc(96);
  private file: number | undefined;

  constructor() {
    try {
      this.file = openSync(`/proc/self/task/${process.pid}/schedstat`, 'r');
    } catch {
      this.file = undefined;
    }
  }

  totalMs(): number {
    if (this.file === undefined) return 0;
    const count = readSync(this.file, this.text, 0, this.text.length, 0);
    const [, waitNs] = this.text.toString('latin1', 0, count).split(' ');
    return Number(waitNs) / 1e6;
  }

  close(): void {
    if (this.file !== undefined) closeSync(this.file);
    this.file = undefined;
  }
}
