import type { BlockDevice, Done, Extent } from '../base/block-device.ts';
import { LentBytes } from '../base/lent-bytes.ts';
import { type ReplyEncoder, replyTo } from './reply-encoder.ts';
import { batchBytes, type ReplyWriter } from './reply-writer.ts';
import { chunkFlagDone, commandFlag, type ReplyTo, type Request, viewOf } from './wire.ts';

/** From this length on, a read asks for holes first. */
const sparseReadBytes = 32 * 1024;
/** Zeroes that are fewer than this are cheaper sent than described. */
const smallestHoleBytes = 16 * 1024;
/** More pieces than this are not looked for; the rest of the range is read as data. */
const maximumPieces = 64;
/** After a read that had to wait, so many reads get memory of their own. */
const readsAfterWait = 64;

/** A part of a read: data, or zeroes that are described instead of sent. */
interface Piece {
  readonly offset: number;
  readonly lengthBytes: number;
  readonly zero: boolean;
}

/** READ: into the outgoing batch where the device answers at once, else into memory of its own. */
export class ReadCommand {
  private readonly device: BlockDevice;
  private readonly replies: ReplyEncoder;
  private readonly writer: ReplyWriter;
  /**
   * A read that turns out to wait spoils the batch that it was to fill. Reads that wait come in
   * runs, so the next ones get memory of their own: at most one batch in `readsAfterWait` is lost.
   */
  private ownMemoryReads = 0;

  constructor(device: BlockDevice, replies: ReplyEncoder, writer: ReplyWriter) {
    this.device = device;
    this.replies = replies;
    this.writer = writer;
  }

  /** Done when the reply is with the writer; never rejects because of the device. */
  start(request: Request): Done {
    const { lengthBytes, offset } = request;
    if (lengthBytes === 0) {
      this.replies.emptyRead(request);
      return undefined;
    }
    const mayFragment = this.replies.dialect !== 'simple' && (request.flags & commandFlag.df) === 0;
    if (!mayFragment || lengthBytes < sparseReadBytes) {
      return this.readWhole(request, offset, lengthBytes);
    }
    return this.readSparse(request);
  }

  private readWhole(to: ReplyTo, offset: number, lengthBytes: number): Done {
    const prefixBytes = this.replies.readPrefixBytes;
    const count = prefixBytes + lengthBytes;
    if (this.ownMemoryReads > 0 || count > batchBytes) {
      if (this.ownMemoryReads > 0) this.ownMemoryReads -= 1;
      return this.readOwn(to, offset, lengthBytes, this.writer.lend(count));
    }
    const at = this.writer.reserve(count);
    const { bytes, view } = this.writer.reserved;
    let done: Done;
    try {
      done = this.device.read(offset, bytes.subarray(at + prefixBytes, at + count));
    } catch (error) {
      this.replies.deviceFailure(to, error);
      return undefined;
    }
    if (done === undefined) {
      this.replies.readPrefix(view, at, to, chunkFlagDone, offset, lengthBytes);
      this.writer.commit(count);
      return undefined;
    }
    this.writer.abandon();
    return this.readWaits(to, offset, done, new LentBytes(bytes.subarray(at, at + count)));
  }

  private readOwn(to: ReplyTo, offset: number, lengthBytes: number, own: LentBytes): Done {
    let done: Done;
    try {
      done = this.device.read(offset, own.bytes.subarray(own.bytes.length - lengthBytes));
    } catch (error) {
      this.replies.deviceFailure(to, error);
      return undefined;
    }
    if (done !== undefined) return this.readWaits(to, offset, done, own);
    this.replies.readPrefix(viewOf(own.bytes), 0, to, chunkFlagDone, offset, lengthBytes);
    this.writer.pushLent(own);
    return undefined;
  }

  private readWaits(
    request: ReplyTo,
    offset: number,
    done: Promise<void>,
    reply: LentBytes,
  ): Promise<void> {
    this.ownMemoryReads = readsAfterWait;
    const to = replyTo(request);
    const dataBytes = reply.bytes.length - this.replies.readPrefixBytes;
    return done.then(
      () => {
        this.replies.readPrefix(viewOf(reply.bytes), 0, to, chunkFlagDone, offset, dataBytes);
        this.writer.pushLent(reply);
      },
      (error: unknown) => this.replies.deviceFailure(to, error),
    );
  }

  private readSparse(request: Request): Done {
    const { offset, lengthBytes } = request;
    let extents: Promise<Extent[]> | Extent[];
    try {
      extents = this.device.status(offset, lengthBytes, maximumPieces);
    } catch {
      // What is wrong with the range, the read itself will say.
      return this.readWhole(request, offset, lengthBytes);
    }
    if (Array.isArray(extents)) {
      return this.readPieces(request, offset, lengthBytes, piecesOf(extents, offset, lengthBytes));
    }
    const to = replyTo(request);
    return extents.then(
      (found) => this.readPieces(to, offset, lengthBytes, piecesOf(found, offset, lengthBytes)),
      () => this.readWhole(to, offset, lengthBytes),
    );
  }

  private readPieces(
    to: ReplyTo,
    offset: number,
    lengthBytes: number,
    pieces: readonly Piece[],
  ): Done {
    const only = pieces.length === 1 ? pieces[0] : undefined;
    if (only?.zero === false) return this.readWhole(to, offset, lengthBytes);
    if (only?.zero === true) {
      this.replies.hole(to, chunkFlagDone, offset, lengthBytes);
      return undefined;
    }
    const prefixBytes = this.replies.readPrefixBytes;
    const outcomes = pieces.map((piece): PieceRead => {
      if (piece.zero) return { piece };
      const reply = this.writer.lend(prefixBytes + piece.lengthBytes);
      try {
        const done = this.device.read(piece.offset, reply.bytes.subarray(prefixBytes));
        return done === undefined ? { piece, reply } : { piece, reply, done };
      } catch (error) {
        return { piece, error };
      }
    });
    if (outcomes.every(({ done }) => done === undefined)) {
      this.answerPieces(to, outcomes);
      return undefined;
    }
    return this.piecesWait(replyTo(to), outcomes);
  }

  private async piecesWait(to: ReplyTo, outcomes: readonly PieceRead[]): Promise<void> {
    const settled = await Promise.all(
      outcomes.map(async (outcome): Promise<PieceRead> => {
        try {
          await outcome.done;
          return outcome;
        } catch (error) {
          return { piece: outcome.piece, error };
        }
      }),
    );
    this.answerPieces(to, settled);
  }

  /** One chunk for each piece, in order; a piece that failed is told by its offset. */
  private answerPieces(to: ReplyTo, outcomes: readonly PieceRead[]): void {
    outcomes.forEach(({ piece, reply, error }, index) => {
      const flags = index === outcomes.length - 1 ? chunkFlagDone : 0;
      const { offset, lengthBytes } = piece;
      if (piece.zero) {
        this.replies.hole(to, flags, offset, lengthBytes);
      } else if (error !== undefined || reply === undefined) {
        this.replies.deviceFailureAt(to, flags, error, offset);
      } else {
        this.replies.readPrefix(viewOf(reply.bytes), 0, to, flags, offset, lengthBytes);
        this.writer.pushLent(reply);
      }
    });
  }
}

interface PieceRead {
  readonly piece: Piece;
  readonly reply?: LentBytes;
  readonly done?: Promise<void>;
  readonly error?: unknown;
}

/** The range as alternating data and zeroes; what the extents do not cover counts as data. */
function piecesOf(extents: readonly Extent[], offset: number, lengthBytes: number): Piece[] {
  const pieces: Piece[] = [];
  const end = offset + lengthBytes;
  let dataFrom = offset;
  let zeroFrom = offset;
  let at = offset;
  const closeZeroes = (): void => {
    if (at - zeroFrom < smallestHoleBytes) return;
    if (dataFrom < zeroFrom) {
      pieces.push({ offset: dataFrom, lengthBytes: zeroFrom - dataFrom, zero: false });
    }
    pieces.push({ offset: zeroFrom, lengthBytes: at - zeroFrom, zero: true });
    dataFrom = at;
  };
  for (const extent of extents) {
    if (!extent.zero) {
      closeZeroes();
      at = Math.min(at + extent.lengthBytes, end);
      zeroFrom = at;
    } else {
      at = Math.min(at + extent.lengthBytes, end);
    }
  }
  closeZeroes();
  if (dataFrom < end) pieces.push({ offset: dataFrom, lengthBytes: end - dataFrom, zero: false });
  return pieces;
}
