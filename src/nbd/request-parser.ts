import { assert } from '../base/assert.ts';
import { unfilled } from '../base/memory-pool.ts';
import { ByteIntake } from './byte-intake.ts';
import { decodeRequest, Request, requestHeader, viewOf } from './wire.ts';

/**
 * `starved`: push another chunk. `header`: `request` is decoded and waits for `accept` or `skip`;
 * `next` says so again until one was called. `payload`: an accepted request's payload is complete.
 * `skipped`: a skipped request's payload is gone. `broken`: the framing is lost.
 */
export type ParserEvent = 'starved' | 'header' | 'payload' | 'skipped' | 'broken';

type State = 'header' | 'undecided' | 'payload' | 'skip' | 'broken';

const nothing = new Uint8Array(0);

/** A gathered payload's buffer up to this size is kept for the next one. */
const largestSpareBytes = 1024 * 1024;

/**
 * Bytes in, requests out, no socket: `push` a chunk, call `next` until it says `starved`. What the
 * parser holds of a request that is not complete is at most a header and an accepted payload.
 */
export class RequestParser {
  /** Filled anew for each request. */
  readonly request = new Request();
  /**
   * The accepted request's payload: a view of the received chunk where it came whole, else of a
   * buffer that belongs to the caller until it gives it back with `recycle`.
   */
  payload: Uint8Array = nothing;

  private readonly extended: boolean;
  private readonly headerBytes: number;
  private readonly intake = new ByteIntake();
  private chunkView = viewOf(nothing);
  private state: State = 'header';
  /** A header that arrives in pieces is put together here. */
  private readonly header: Uint8Array;
  private readonly headerView: DataView;
  private haveBytes = 0;
  /** The buffer of the present payload, when it came in pieces. */
  private gathered: Uint8Array | undefined;
  private spare: Uint8Array | undefined;

  constructor(extended: boolean) {
    this.extended = extended;
    this.headerBytes = extended ? requestHeader.extendedBytes : requestHeader.compactBytes;
    this.header = new Uint8Array(this.headerBytes);
    this.headerView = viewOf(this.header);
  }

  push(chunk: Uint8Array): void {
    this.intake.push(chunk);
    this.chunkView = viewOf(chunk);
  }

  /** Whether a request has begun to arrive and is not complete. */
  get midRequest(): boolean {
    return this.state === 'header' ? this.haveBytes > 0 : this.state !== 'broken';
  }

  next(): ParserEvent {
    switch (this.state) {
      case 'header':
        return this.nextHeader();
      case 'undecided':
        return 'header';
      case 'payload':
        this.haveBytes = this.intake.fill(this.payload, this.haveBytes);
        return this.haveBytes < this.payload.length ? 'starved' : this.complete('payload');
      case 'skip':
        this.haveBytes += this.intake.skip(this.request.payloadBytes - this.haveBytes);
        return this.haveBytes < this.request.payloadBytes ? 'starved' : this.complete('skipped');
      case 'broken':
        return 'broken';
    }
  }

  /** Takes the payload. True when it is complete at once; else `next` will say `payload`. */
  accept(): boolean {
    assert(this.state === 'undecided', 'accept was called without a header');
    const count = this.request.payloadBytes;
    this.gathered = undefined;
    if (count === 0) {
      this.payload = nothing;
      this.complete('payload');
      return true;
    }
    if (this.intake.availableBytes >= count) {
      this.payload = this.intake.take(count);
      this.complete('payload');
      return true;
    }
    this.payload = this.gatherBuffer(count);
    this.haveBytes = this.intake.fill(this.payload, 0);
    this.state = 'payload';
    return false;
  }

  /** Discards the payload. True when it is gone at once; else `next` will say `skipped`. */
  skip(): boolean {
    assert(this.state === 'undecided', 'skip was called without a header');
    this.payload = nothing;
    this.haveBytes = this.intake.skip(this.request.payloadBytes);
    if (this.haveBytes < this.request.payloadBytes) {
      this.state = 'skip';
      return false;
    }
    this.complete('skipped');
    return true;
  }

  /** Gives the payload's buffer back when nobody needs its bytes any more. */
  recycle(): void {
    const { gathered } = this;
    if (gathered !== undefined && gathered.length <= largestSpareBytes) this.spare = gathered;
    this.gathered = undefined;
  }

  private complete(event: ParserEvent): ParserEvent {
    this.state = 'header';
    this.haveBytes = 0;
    return event;
  }

  private nextHeader(): ParserEvent {
    const { intake } = this;
    let view = this.chunkView;
    let at = intake.position;
    if (this.haveBytes === 0 && intake.availableBytes >= this.headerBytes) {
      intake.position += this.headerBytes;
    } else {
      this.haveBytes = intake.fill(this.header, this.haveBytes);
      if (this.haveBytes < this.headerBytes) return 'starved';
      this.haveBytes = 0;
      view = this.headerView;
      at = 0;
    }
    if (!decodeRequest(view, at, this.extended, this.request)) {
      this.state = 'broken';
      return 'broken';
    }
    this.state = 'undecided';
    return 'header';
  }

  private gatherBuffer(count: number): Uint8Array {
    let buffer = this.spare;
    if (buffer === undefined || buffer.length < count) buffer = unfilled(count);
    this.spare = undefined;
    this.gathered = buffer;
    return buffer.subarray(0, count);
  }
}
