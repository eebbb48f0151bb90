import { assert } from '../base/assert.ts';
import type { BlockDevice, Done, Extent } from '../base/block-device.ts';
import { type ReplyEncoder, replyTo } from './reply-encoder.ts';
import { badStatusPayload, validateStatusRange } from './validate.ts';
import {
  allocationContext,
  chunkFlagDone,
  chunkType,
  commandFlag,
  getUint64,
  type ReplyTo,
  type Request,
  setUint64,
  stateFlag,
  viewOf,
} from './wire.ts';

/** BLOCK_STATUS in the one context there is. */
export class BlockStatusCommand {
  private readonly device: BlockDevice;
  private readonly replies: ReplyEncoder;
  private readonly maximumExtents: number;

  constructor(device: BlockDevice, replies: ReplyEncoder, maximumExtents: number) {
    this.device = device;
    this.replies = replies;
    this.maximumExtents = maximumExtents;
  }

  start(request: Request, payload: Uint8Array): Done {
    const { offset } = request;
    let { lengthBytes } = request;
    if ((request.flags & commandFlag.payloadLength) !== 0) {
      const view = viewOf(payload);
      lengthBytes = getUint64(view, 0);
      const refusal =
        view.getUint32(8) === allocationContext.id
          ? validateStatusRange(offset, lengthBytes, this.device)
          : badStatusPayload;
      if (refusal !== undefined) {
        this.replies.failure(request, refusal);
        return undefined;
      }
    }
    const maximum = (request.flags & commandFlag.reqOne) !== 0 ? 1 : this.maximumExtents;
    let extents: Promise<Extent[]> | Extent[];
    try {
      extents = this.device.status(offset, lengthBytes, maximum);
    } catch (error) {
      this.replies.deviceFailure(request, error);
      return undefined;
    }
    if (Array.isArray(extents)) {
      this.answer(request, lengthBytes, extents);
      return undefined;
    }
    const to = replyTo(request);
    return extents.then(
      (found) => this.answer(to, lengthBytes, found),
      (error: unknown) => this.replies.deviceFailure(to, error),
    );
  }

  private answer(to: ReplyTo, lengthBytes: number, extents: readonly Extent[]): void {
    const total = extents.reduce((sum, extent) => sum + extent.lengthBytes, 0);
    assert(total > 0 && total <= lengthBytes, 'a device described more or less than it was asked');
    if (this.replies.dialect === 'extended') {
      this.replies.chunk(to, chunkFlagDone, chunkType.blockStatusExtended, encodeWide(extents));
    } else {
      this.replies.chunk(to, chunkFlagDone, chunkType.blockStatus, encodeNarrow(extents));
    }
  }
}

function stateOf(extent: Extent): number {
  return (extent.hole ? stateFlag.hole : 0) | (extent.zero ? stateFlag.zero : 0);
}

/** Context id 0..4, then for each extent its length (32 bits) and state (32 bits). */
function encodeNarrow(extents: readonly Extent[]): Uint8Array {
  const bytes = new Uint8Array(4 + extents.length * 8);
  const view = viewOf(bytes);
  view.setUint32(0, allocationContext.id);
  extents.forEach((extent, index) => {
    view.setUint32(4 + index * 8, extent.lengthBytes);
    view.setUint32(8 + index * 8, stateOf(extent));
  });
  return bytes;
}

/** Context id 0..4, count 4..8, then for each extent its length (64 bits) and state (64 bits). */
function encodeWide(extents: readonly Extent[]): Uint8Array {
  const bytes = new Uint8Array(8 + extents.length * 16);
  const view = viewOf(bytes);
  view.setUint32(0, allocationContext.id);
  view.setUint32(4, extents.length);
  extents.forEach((extent, index) => {
    setUint64(view, 8 + index * 16, extent.lengthBytes);
    setUint64(view, 16 + index * 16, stateOf(extent));
  });
  return bytes;
}
