import { assert } from '../base/assert.ts';
import type { BlockDevice, Done } from '../base/block-device.ts';
import type { FlaggedExtent, MetaContext } from './meta-contexts.ts';
import { type ReplyEncoder, replyTo } from './reply-encoder.ts';
import { badStatusPayload, statusPayload, validateStatusRange } from './validate.ts';
import {
  chunkFlagDone,
  chunkType,
  commandFlag,
  getUint64,
  type ReplyTo,
  type Request,
  setUint64,
  viewOf,
} from './wire.ts';

/** BLOCK_STATUS: a chunk for each context that was selected, or that the request's payload names. */
export class BlockStatusCommand {
  private readonly device: BlockDevice;
  private readonly contexts: readonly MetaContext[];
  private readonly replies: ReplyEncoder;
  private readonly maximumExtents: number;

  constructor(
    device: BlockDevice,
    contexts: readonly MetaContext[],
    replies: ReplyEncoder,
    maximumExtents: number,
  ) {
    this.device = device;
    this.contexts = contexts;
    this.replies = replies;
    this.maximumExtents = maximumExtents;
  }

  start(request: Request, payload: Uint8Array): Done {
    const { offset } = request;
    let { lengthBytes } = request;
    let { contexts } = this;
    if ((request.flags & commandFlag.payloadLength) !== 0) {
      const named = this.namedIn(payload);
      lengthBytes = getUint64(viewOf(payload), 0);
      const refusal =
        named === undefined
          ? badStatusPayload
          : validateStatusRange(offset, lengthBytes, this.device);
      if (refusal !== undefined) {
        this.replies.failure(request, refusal);
        return undefined;
      }
      contexts = named ?? contexts;
    }
    const maximum = (request.flags & commandFlag.reqOne) !== 0 ? 1 : this.maximumExtents;
    let found: (Promise<FlaggedExtent[]> | FlaggedExtent[])[];
    try {
      found = contexts.map((context) => context.status(offset, lengthBytes, maximum));
    } catch (error) {
      this.replies.deviceFailure(request, error);
      return undefined;
    }
    const atOnce = found.flatMap((extents) => (Array.isArray(extents) ? [extents] : []));
    if (atOnce.length === found.length) {
      this.answer(request, lengthBytes, contexts, atOnce);
      return undefined;
    }
    const to = replyTo(request);
    return Promise.all(found.map(async (extents) => extents)).then(
      (all) => this.answer(to, lengthBytes, contexts, all),
      (error: unknown) => this.replies.deviceFailure(to, error),
    );
  }

  /** The contexts whose ids a payload lists; `undefined` when one is unknown or there twice. */
  private namedIn(payload: Uint8Array): MetaContext[] | undefined {
    const view = viewOf(payload);
    const named = new Set<MetaContext>();
    const count = (payload.byteLength - statusPayload.lengthBytes) / statusPayload.idBytes;
    for (let at = 0; at < count; at += 1) {
      const id = view.getUint32(statusPayload.lengthBytes + at * statusPayload.idBytes);
      const context = this.contexts.find((each) => each.id === id);
      if (context !== undefined) named.add(context);
    }
    return named.size === count ? [...named] : undefined;
  }

  private answer(
    to: ReplyTo,
    lengthBytes: number,
    contexts: readonly MetaContext[],
    found: readonly FlaggedExtent[][],
  ): void {
    const isExtended = this.replies.dialect === 'extended';
    const type = isExtended ? chunkType.blockStatusExtended : chunkType.blockStatus;
    contexts.forEach(({ id }, index) => {
      const extents = found[index] ?? [];
      const total = extents.reduce((sum, extent) => sum + extent.lengthBytes, 0);
      assert(
        total > 0 && total <= lengthBytes,
        'a device described more or less than it was asked',
      );
      const flags = index === contexts.length - 1 ? chunkFlagDone : 0;
      const payload = isExtended ? encodeWide(id, extents) : encodeNarrow(id, extents);
      this.replies.chunk(to, flags, type, payload);
    });
  }
}

/** Context id 0..4, then for each extent its length (32 bits) and flags (32 bits). */
function encodeNarrow(id: number, extents: readonly FlaggedExtent[]): Uint8Array {
  const bytes = new Uint8Array(4 + extents.length * 8);
  const view = viewOf(bytes);
  view.setUint32(0, id);
  extents.forEach((extent, index) => {
    view.setUint32(4 + index * 8, extent.lengthBytes);
    view.setUint32(8 + index * 8, extent.flags);
  });
  return bytes;
}

/** Context id 0..4, count 4..8, then for each extent its length (64 bits) and flags (64 bits). */
function encodeWide(id: number, extents: readonly FlaggedExtent[]): Uint8Array {
  const bytes = new Uint8Array(8 + extents.length * 16);
  const view = viewOf(bytes);
  view.setUint32(0, id);
  view.setUint32(4, extents.length);
  extents.forEach((extent, index) => {
    setUint64(view, 8 + index * 16, extent.lengthBytes);
    setUint64(view, 16 + index * 16, extent.flags);
  });
  return bytes;
}
