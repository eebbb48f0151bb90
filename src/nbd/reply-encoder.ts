import type { DeviceFailures } from './device-failures.ts';
import type { ReplyWriter } from './reply-writer.ts';
import type { Refusal } from './validate.ts';
import {
  chunkFlagDone,
  chunkHeaderBytes,
  chunkType,
  type Dialect,
  encodeChunkHeader,
  encodeErrorPayload,
  encodeSimpleReply,
  errorNumber,
  offsetDataPrefixBytes,
  offsetHolePayloadBytes,
  type ReplyTo,
  setUint64,
  simpleReplyBytes,
} from './wire.ts';

/** A request's reply fields, kept while the request itself is filled anew. */
export function replyTo(request: ReplyTo): ReplyTo {
  return {
    cookieHigh: request.cookieHigh,
    cookieLow: request.cookieLow,
    offsetHigh: request.offsetHigh,
    offsetLow: request.offsetLow,
  };
}

/** Writes replies in the dialect of the session. */
export class ReplyEncoder {
  readonly dialect: Dialect;
  private readonly extended: boolean;
  private readonly writer: ReplyWriter;
  private readonly failures: DeviceFailures;

  constructor(dialect: Dialect, writer: ReplyWriter, failures: DeviceFailures) {
    this.dialect = dialect;
    this.extended = dialect === 'extended';
    this.writer = writer;
    this.failures = failures;
  }

  /** Bytes of a read's reply before its data. */
  get readPrefixBytes(): number {
    if (this.dialect === 'simple') return simpleReplyBytes;
    return chunkHeaderBytes(this.extended) + offsetDataPrefixBytes;
  }

  /** Success of anything but a read. A simple reply is allowed there unless headers are extended. */
  success(to: ReplyTo): void {
    if (this.extended) return this.none(to);
    const at = this.writer.reserve(simpleReplyBytes);
    encodeSimpleReply(this.writer.reserved.view, at, to, 0);
    this.writer.commit(simpleReplyBytes);
  }

  /** Success of a read of no bytes. */
  emptyRead(to: ReplyTo): void {
    if (this.dialect === 'simple') this.success(to);
    else this.none(to);
  }

  /** The device failed the request. `mayBeUnsupported` is for fast zeroing. */
  deviceFailure(to: ReplyTo, error: unknown, mayBeUnsupported = false): void {
    this.failure(to, this.failures.refusalOf(error, mayBeUnsupported));
  }

  failure(to: ReplyTo, refusal: Refusal): void {
    if (this.dialect !== 'simple') {
      const payload = encodeErrorPayload(errorNumber[refusal.error], refusal.message, undefined);
      this.chunk(to, chunkFlagDone, chunkType.error, payload);
      return;
    }
    const at = this.writer.reserve(simpleReplyBytes);
    encodeSimpleReply(this.writer.reserved.view, at, to, errorNumber[refusal.error]);
    this.writer.commit(simpleReplyBytes);
  }

  /** The device failed a read from `offset` on, while other parts of it are answered with data. */
  deviceFailureAt(to: ReplyTo, flags: number, error: unknown, offset: number): void {
    const refusal = this.failures.refusalOf(error);
    const payload = encodeErrorPayload(errorNumber[refusal.error], refusal.message, offset);
    this.chunk(to, flags, chunkType.errorOffset, payload);
  }

  /** Fills in what stands before the `dataBytes` of a read's (last) content chunk. */
  readPrefix(
    view: DataView,
    at: number,
    to: ReplyTo,
    flags: number,
    offset: number,
    dataBytes: number,
  ): void {
    if (this.dialect === 'simple') {
      encodeSimpleReply(view, at, to, 0);
      return;
    }
    const payload = encodeChunkHeader(
      view,
      at,
      this.extended,
      to,
      flags,
      chunkType.offsetData,
      offsetDataPrefixBytes + dataBytes,
    );
    setUint64(view, payload, offset);
  }

  hole(to: ReplyTo, flags: number, offset: number, lengthBytes: number): void {
    const count = chunkHeaderBytes(this.extended) + offsetHolePayloadBytes;
    const at = this.writer.reserve(count);
    const { view } = this.writer.reserved;
    const payload = encodeChunkHeader(
      view,
      at,
      this.extended,
      to,
      flags,
      chunkType.offsetHole,
      offsetHolePayloadBytes,
    );
    setUint64(view, payload, offset);
    view.setUint32(payload + 8, lengthBytes);
    this.writer.commit(count);
  }

  /** A chunk whose payload is at hand; for everything but the data of reads. */
  chunk(to: ReplyTo, flags: number, type: number, payload: Uint8Array): void {
    const count = chunkHeaderBytes(this.extended) + payload.length;
    const headerBytes = chunkHeaderBytes(this.extended);
    const at = this.writer.reserve(headerBytes);
    const { view } = this.writer.reserved;
    encodeChunkHeader(view, at, this.extended, to, flags, type, payload.length);
    this.writer.commit(headerBytes);
    if (count > headerBytes) this.writer.push(payload);
  }

  private none(to: ReplyTo): void {
    const count = chunkHeaderBytes(this.extended);
    const at = this.writer.reserve(count);
    const { view } = this.writer.reserved;
    encodeChunkHeader(view, at, this.extended, to, chunkFlagDone, chunkType.none, 0);
    this.writer.commit(count);
  }
}
