import type { BlockDevice, Done } from '../base/block-device.ts';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { BlockStatusCommand } from './block-status-command.ts';
import type { BusyPoll } from './busy-poll.ts';
import type { ByteBudget } from './byte-budget.ts';
import { DeviceFailures } from './device-failures.ts';
import type { NbdLimits } from './limits.ts';
import type { MetaContext } from './meta-contexts.ts';
import { ReadCommand } from './read-command.ts';
import type { LentBytes } from '../base/lent-bytes.ts';
import { ReplyEncoder, replyTo } from './reply-encoder.ts';
import { type BatchPool, type ByteSink, ReplyWriter } from './reply-writer.ts';
import { RequestParser } from './request-parser.ts';
import { isPastEnd, type Refusal, type RequestRules, validateRequest } from './validate.ts';
import { command, commandFlag, type Dialect, type Request } from './wire.ts';

/** The part of a socket that a session uses. */
export interface SessionSocket extends ByteSink {
  pause(): void;
  resume(): void;
}

/** What a session has done so far, for a status display. */
export interface SessionCounters {
  reads: number;
  readBytes: number;
  writes: number;
  writtenBytes: number;
  flushes: number;
  otherRequests: number;
  refusedRequests: number;
  requestsInFlight: number;
  bytesInFlight: number;
}

export interface TransmissionOptions {
  readonly socket: SessionSocket;
  readonly device: BlockDevice;
  readonly dialect: Dialect;
  readonly contexts: readonly MetaContext[];
  readonly limits: NbdLimits;
  readonly budget: ByteBudget;
  readonly pool: BatchPool;
  /** None where the loop is to sleep as soon as there is nothing to do. */
  readonly busyPoll?: BusyPoll | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** No request will be read any more and every one that was is answered. Called once. */
  readonly onFinished: () => void;
  /** The client broke the framing or takes no replies: nothing can be said to it any more. */
  readonly onBroken: (reason: string) => void;
}

type Progress = 'starved' | 'blocked' | 'full' | 'stopped';

const plain = { fua: false } as const;
const forced = { fua: true } as const;

/**
 * The transmission phase of one connection: requests in, replies out, many at a time, answered as
 * they finish. A request that the device answers at once costs no promise; the replies to all
 * requests of one received chunk leave in one write, and so do those that settle in one turn of the loop.
 */
export class Transmission {
  readonly counters: SessionCounters = {
    reads: 0,
    readBytes: 0,
    writes: 0,
    writtenBytes: 0,
    flushes: 0,
    otherRequests: 0,
    refusedRequests: 0,
    requestsInFlight: 0,
    bytesInFlight: 0,
  };

  private readonly options: TransmissionOptions;
  private readonly device: BlockDevice;
  private readonly rules: RequestRules;
  private readonly parser: RequestParser;
  private readonly writer: ReplyWriter;
  private readonly replies: ReplyEncoder;
  private readonly readCommand: ReadCommand;
  private readonly statusCommand: BlockStatusCommand;
  /** Why the request whose payload is being skipped is refused. */
  private refusal: Refusal | undefined;
  /** How far the device is with saying whether it has grown, for a request past its end. */
  private sizeQuestion: 'none' | 'asked' | 'answered' = 'none';
  /** Held for a payload that is still arriving. */
  private gatheredBytes = 0;
  /** What the parser is reading. */
  private chunk: LentBytes | undefined;
  private paused = false;
  private flushPlanned = false;
  private stopped = false;
  private finished = false;
  private dead = false;
  /** What of `unsentBytes` the budget knows. */
  private heldUnsentBytes = 0;
  private cancelStallCheck: (() => void) | undefined;

  constructor(options: TransmissionOptions) {
    const { device, dialect, contexts, limits } = options;
    this.options = options;
    this.device = device;
    this.rules = {
      device,
      dialect,
      contextCount: contexts.length,
      maximumRequestBytes: limits.maximumRequestBytes,
    };
    this.parser = new RequestParser(dialect === 'extended');
    this.writer = new ReplyWriter(options.socket, options.pool, () => this.repliesTaken());
    const failures = new DeviceFailures(options.log, options.clock);
    this.replies = new ReplyEncoder(dialect, this.writer, failures);
    this.readCommand = new ReadCommand(device, this.replies, this.writer);
    const { statusExtents } = limits;
    this.statusCommand = new BlockStatusCommand(device, contexts, this.replies, statusExtents);
  }

  /** The chunk is let go when it is read and nothing of it is being written. */
  receive(chunk: LentBytes): void {
    if (this.stopped) {
      chunk.release();
      return;
    }
    this.chunk = chunk;
    this.options.busyPoll?.asked(this);
    this.parser.push(chunk.bytes);
    this.pump();
  }

  /** Reads no more requests; `onFinished` follows when those under way are answered. */
  stop(): void {
    this.stopped = true;
    this.finishIfIdle();
  }

  /** The socket is gone: replies have nowhere to go, requests under way still settle. */
  disconnected(): void {
    this.dead = true;
    this.cancelStallCheck?.();
    this.options.budget.forget(this.retry);
    this.options.budget.release(this.heldUnsentBytes);
    this.heldUnsentBytes = 0;
    this.releaseGathered();
    this.stop();
  }

  private readonly retry = (): void => this.pump();

  private repliesTaken(): void {
    if (this.dead) return;
    this.holdUnsent();
    if (this.paused && !this.outputIsFull()) this.pump();
  }

  private pump(): void {
    if (this.dead) return;
    let progress: Progress;
    do {
      progress = this.run();
      this.writer.flush();
      this.holdUnsent();
      // What the kernel took at once makes room again, and nobody else would say so.
    } while (progress === 'full' && !this.outputIsFull());
    if (progress === 'starved' || progress === 'stopped') this.chunkRead();
    if (this.dead || progress === 'stopped') return;
    this.pause(progress === 'blocked' || this.outputIsFull());
    this.pollIfIdle();
  }

  private pollIfIdle(): void {
    if (this.counters.requestsInFlight === 0) this.options.busyPoll?.answered(this);
  }

  private chunkRead(): void {
    this.chunk?.release();
    this.chunk = undefined;
  }

  private pause(wanted: boolean): void {
    if (wanted === this.paused) return;
    this.paused = wanted;
    if (wanted) this.options.socket.pause();
    else this.options.socket.resume();
  }

  private outputIsFull(): boolean {
    return this.writer.unsentBytes > this.options.limits.unsentReplyBytesPerConnection;
  }

  private run(): Progress {
    const { parser } = this;
    while (!this.stopped) {
      if (this.outputIsFull()) return 'full';
      switch (parser.next()) {
        case 'starved':
          return 'starved';
        case 'header':
          if (!this.takeHeader(parser.request)) return 'blocked';
          break;
        case 'payload':
          this.gatheredBytes = 0;
          this.dispatch(parser.request);
          break;
        case 'skipped':
          this.refuse(parser.request);
          break;
        case 'broken':
          this.breakOff('the client sent something that is not a request');
          return 'stopped';
      }
    }
    return 'stopped';
  }

  private breakOff(reason: string): void {
    this.stopped = true;
    this.writer.flush();
    this.options.onBroken(reason);
  }

  /** Decides about a request before its payload; false when it has to wait. */
  private takeHeader(request: Request): boolean {
    if (request.command === command.disconnect) {
      this.stop();
      return true;
    }
    const { limits } = this.options;
    if (this.rules.dialect === 'extended' && request.payloadBytes > limits.maximumRequestBytes) {
      this.breakOff('the client sent a payload above the maximum');
      return true;
    }
    this.refusal = validateRequest(request, this.rules);
    if (this.refusal !== undefined && this.awaitsSize(this.refusal)) return false;
    this.sizeQuestion = 'none';
    if (this.refusal !== undefined) {
      if (this.parser.skip()) this.refuse(request);
      return true;
    }
    const bytes = heldBytesOf(request);
    if (!this.admit(bytes)) return false;
    if (this.parser.accept()) this.dispatch(request);
    else this.gatheredBytes = bytes;
    return true;
  }

  /**
   * A device that has to ask how large it is may have grown: a kernel that was told so sends what was
   * past the end when it connected. It is asked once for such a request, and the others wait.
   */
  private awaitsSize(refusal: Refusal): boolean {
    if (this.device.askSize === undefined || !isPastEnd(refusal)) return false;
    if (this.sizeQuestion === 'none') {
      this.sizeQuestion = 'asked';
      void this.device.askSize().finally(() => {
        this.sizeQuestion = 'answered';
        this.retry();
      });
    }
    return this.sizeQuestion === 'asked';
  }

  private releaseGathered(): void {
    if (this.gatheredBytes > 0) this.settle(this.gatheredBytes);
    this.gatheredBytes = 0;
  }

  private admit(bytes: number): boolean {
    const { limits, budget } = this.options;
    const { counters } = this;
    if (counters.requestsInFlight > 0) {
      if (counters.requestsInFlight >= limits.inFlightRequestsPerConnection) return false;
      if (counters.bytesInFlight + bytes > limits.inFlightBytesPerConnection) return false;
    }
    if (bytes > 0 && !budget.fits(bytes)) {
      budget.wait(this.retry);
      return false;
    }
    counters.requestsInFlight += 1;
    counters.bytesInFlight += bytes;
    budget.hold(bytes);
    return true;
  }

  private settle(bytes: number): void {
    this.counters.requestsInFlight -= 1;
    this.counters.bytesInFlight -= bytes;
    this.options.budget.release(bytes);
  }

  private refuse(request: Request): void {
    this.counters.refusedRequests += 1;
    if (this.refusal !== undefined) this.replies.failure(request, this.refusal);
    this.refusal = undefined;
  }

  private dispatch(request: Request): void {
    const bytes = heldBytesOf(request);
    const done = this.execute(request);
    if (done === undefined) {
      this.parser.recycle();
      this.settle(bytes);
      return;
    }
    // The payload may lie in the chunk, and is looked at until this is done.
    const chunk = request.payloadBytes > 0 ? this.chunk : undefined;
    chunk?.hold();
    void done.then(() => {
      chunk?.release();
      this.settle(bytes);
      // Where nothing else is under way there is nothing to gather.
      if (this.counters.requestsInFlight === 0) this.flushNow();
      else this.planFlush();
    });
  }

  private execute(request: Request): Done {
    const { counters } = this;
    switch (request.command) {
      case command.read:
        counters.reads += 1;
        counters.readBytes += request.lengthBytes;
        return this.readCommand.start(request);
      case command.blockStatus:
        counters.otherRequests += 1;
        return this.statusCommand.start(request, this.parser.payload);
      case command.write:
        counters.writes += 1;
        counters.writtenBytes += request.lengthBytes;
        break;
      case command.flush:
        counters.flushes += 1;
        break;
      default:
        counters.otherRequests += 1;
    }
    return this.answerWithoutData(request);
  }

  private answerWithoutData(request: Request): Done {
    const mayBeUnsupported = (request.flags & commandFlag.fastZero) !== 0;
    let done: Done;
    try {
      done = this.begin(request);
    } catch (error) {
      this.replies.deviceFailure(request, error, mayBeUnsupported);
      return undefined;
    }
    if (done === undefined) {
      this.replies.success(request);
      return undefined;
    }
    const to = replyTo(request);
    return done.then(
      () => this.replies.success(to),
      (error: unknown) => this.replies.deviceFailure(to, error, mayBeUnsupported),
    );
  }

  private begin(request: Request): Done {
    const { device } = this;
    const { offset, lengthBytes, flags } = request;
    const fua = (flags & commandFlag.fua) !== 0;
    if (request.command === command.flush) return device.flush();
    if (lengthBytes === 0) return undefined;
    switch (request.command) {
      case command.write:
        return device.write(offset, this.parser.payload, fua ? forced : plain);
      case command.trim:
        return device.trim(offset, lengthBytes, fua ? forced : plain);
      case command.writeZeroes: {
        const mayPunchHole = (flags & commandFlag.noHole) === 0;
        return device.zero(offset, lengthBytes, { fua, mayPunchHole });
      }
      default:
        return device.prefetch(offset, lengthBytes);
    }
  }

  /** Replies that settle in the same turn of the event loop leave together. */
  private planFlush(): void {
    if (this.flushPlanned) return;
    this.flushPlanned = true;
    this.options.clock.soon(() => {
      this.flushPlanned = false;
      this.flushNow();
    });
  }

  private flushNow(): void {
    if (!this.dead) {
      if (this.paused) {
        this.pump();
      } else {
        this.writer.flush();
        this.holdUnsent();
        if (!this.stopped) {
          this.pause(this.outputIsFull());
          this.pollIfIdle();
        }
      }
    }
    this.finishIfIdle();
  }

  private finishIfIdle(): void {
    if (!this.stopped || this.finished) return;
    // A payload that was still arriving will never be complete.
    this.releaseGathered();
    if (this.counters.requestsInFlight > 0) return;
    this.finished = true;
    if (!this.dead) this.writer.flush();
    this.options.onFinished();
  }

  /** Replies that the client has not taken count as in flight; who takes none is cut off. */
  private holdUnsent(): void {
    const unsent = this.writer.unsentBytes;
    if (unsent === this.heldUnsentBytes) return;
    const { budget } = this.options;
    if (unsent > this.heldUnsentBytes) budget.hold(unsent - this.heldUnsentBytes);
    else budget.release(this.heldUnsentBytes - unsent);
    this.heldUnsentBytes = unsent;
    if (unsent > 0 && this.cancelStallCheck === undefined) this.planStallCheck();
  }

  private planStallCheck(): void {
    const { clock, limits } = this.options;
    const takenBytes = this.writer.takenBytes;
    this.cancelStallCheck = clock.after(limits.unsentReplyMs, () => {
      this.cancelStallCheck = undefined;
      if (this.writer.unsentBytes === 0) return;
      if (this.writer.takenBytes > takenBytes) this.planStallCheck();
      else this.options.onBroken('the client does not take its replies');
    });
  }
}

/** What a request makes the server hold until it is answered. */
function heldBytesOf(request: Request): number {
  return request.command === command.read ? request.lengthBytes : request.payloadBytes;
}
