import type {
  BlockDevice,
  ChangeExtent,
  Changes,
  Done,
  Extent,
  WriteOptions,
  ZeroOptions,
} from '../base/block-device.ts';
import type { Clock } from '../base/clock.ts';
import { type DurationCounts, DurationHistogram } from '../base/histogram.ts';

export const deviceOperations = [
  'read',
  'write',
  'zero',
  'trim',
  'flush',
  'prefetch',
  'status',
] as const;
export type DeviceOperation = (typeof deviceOperations)[number];

/** What one kind of request to a device did. */
export interface RequestStatistics {
  readonly requests: number;
  readonly errors: number;
  readonly bytes: number;
  /** One that memory answered counts as no time at all. Of many at a time some stand for others. */
  readonly durations: DurationCounts;
}

export type DeviceStatistics = Readonly<Record<DeviceOperation, RequestStatistics>>;

/** Of requests that wait at the same time, one in so many is timed, and stands for the others. */
const timedOneIn = 16;

/**
 * Counters of one kind of request. What memory answers at once costs a few additions and no clock;
 * many that wait together cost a clock now and then. One that waits alone is always timed.
 */
class Meter {
  requests = 0;
  errors = 0;
  bytes = 0;
  readonly durations = new DurationHistogram();
  private readonly clock: Clock;
  private timedUnderWay = 0;
  /** Requests that the next one that is timed stands for. */
  private untimed = 0;
  private readonly countError = (): void => {
    this.errors += 1;
  };

  constructor(clock: Clock) {
    this.clock = clock;
  }

  begin(bytes: number): void {
    this.requests += 1;
    this.bytes += bytes;
  }

  failed(error: unknown): unknown {
    this.errors += 1;
    this.durations.addInstant();
    return error;
  }

  end<T>(result: T): T {
    if (result instanceof Promise) this.time(result);
    else this.durations.addInstant();
    return result;
  }

  /** Listens beside the caller, who gets the very promise that the device gave. */
  private time(pending: Promise<unknown>): void {
    if (this.timedUnderWay > 0 && this.untimed < timedOneIn - 1) {
      this.untimed += 1;
      // One function for all: a closure for each would cost more than the request's bookkeeping.
      pending.then(undefined, this.countError);
      return;
    }
    const times = 1 + this.untimed;
    this.untimed = 0;
    this.timedUnderWay += 1;
    const startMs = this.clock.monotonicMs();
    const ended = (): void => this.timed(this.clock.monotonicMs() - startMs, times);
    pending.then(ended, () => {
      this.errors += 1;
      ended();
    });
  }

  private timed(durationMs: number, times: number): void {
    this.timedUnderWay -= 1;
    const isLast = this.timedUnderWay === 0;
    this.durations.add(durationMs, isLast ? times + this.untimed : times);
    if (isLast) this.untimed = 0;
  }

  read(): RequestStatistics {
    const { requests, errors, bytes } = this;
    return { requests, errors, bytes, durations: this.durations.read() };
  }
}

/** A device whose requests are counted, and timed where they wait. */
export class MeteredDevice implements BlockDevice {
  readonly preferredBlockBytes: number;
  readonly device: BlockDevice;
  private readonly meters: Readonly<Record<DeviceOperation, Meter>>;

  constructor(device: BlockDevice, clock: Clock) {
    this.device = device;
    this.preferredBlockBytes = device.preferredBlockBytes;
    this.meters = {
      read: new Meter(clock),
      write: new Meter(clock),
      zero: new Meter(clock),
      trim: new Meter(clock),
      flush: new Meter(clock),
      prefetch: new Meter(clock),
      status: new Meter(clock),
    };
  }

  get sizeBytes(): number {
    return this.device.sizeBytes;
  }

  get readOnly(): boolean {
    return this.device.readOnly;
  }

  read(offset: number, into: Uint8Array): Done {
    const meter = this.meters.read;
    meter.begin(into.byteLength);
    try {
      return meter.end(this.device.read(offset, into));
    } catch (error) {
      throw meter.failed(error);
    }
  }

  write(offset: number, from: Uint8Array, options: WriteOptions): Done {
    const meter = this.meters.write;
    meter.begin(from.byteLength);
    try {
      return meter.end(this.device.write(offset, from, options));
    } catch (error) {
      throw meter.failed(error);
    }
  }

  zero(offset: number, lengthBytes: number, options: ZeroOptions): Done {
    const meter = this.meters.zero;
    meter.begin(lengthBytes);
    try {
      return meter.end(this.device.zero(offset, lengthBytes, options));
    } catch (error) {
      throw meter.failed(error);
    }
  }

  trim(offset: number, lengthBytes: number, options: WriteOptions): Done {
    const meter = this.meters.trim;
    meter.begin(lengthBytes);
    try {
      return meter.end(this.device.trim(offset, lengthBytes, options));
    } catch (error) {
      throw meter.failed(error);
    }
  }

  flush(): Done {
    const meter = this.meters.flush;
    meter.begin(0);
    try {
      return meter.end(this.device.flush());
    } catch (error) {
      throw meter.failed(error);
    }
  }

  prefetch(offset: number, lengthBytes: number): Done {
    const meter = this.meters.prefetch;
    meter.begin(lengthBytes);
    try {
      return meter.end(this.device.prefetch(offset, lengthBytes));
    } catch (error) {
      throw meter.failed(error);
    }
  }

  status(offset: number, lengthBytes: number, maxExtents: number): Promise<Extent[]> | Extent[] {
    return this.countStatus(lengthBytes, () => this.device.status(offset, lengthBytes, maxExtents));
  }

  private countStatus<T extends Extent | ChangeExtent>(
    lengthBytes: number,
    ask: () => Promise<T[]> | T[],
  ): Promise<T[]> | T[] {
    const meter = this.meters.status;
    meter.begin(lengthBytes);
    try {
      return meter.end(ask());
    } catch (error) {
      throw meter.failed(error);
    }
  }

  moments(): Promise<readonly string[]> {
    return this.device.moments?.() ?? Promise.resolve([]);
  }

  async changesSince(moment: string): Promise<Changes | undefined> {
    const changes = await this.device.changesSince?.(moment);
    return (
      changes && {
        status: (...range) => this.countStatus(range[1], () => changes.status(...range)),
      }
    );
  }

  statistics(): DeviceStatistics {
    const { read, write, zero, trim, flush, prefetch, status } = this.meters;
    return {
      read: read.read(),
      write: write.read(),
      zero: zero.read(),
      trim: trim.read(),
      flush: flush.read(),
      prefetch: prefetch.read(),
      status: status.read(),
    };
  }
}
