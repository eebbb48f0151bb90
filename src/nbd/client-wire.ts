/** The other half of the wire: what a client sends, and what it reads of a server's answers. */
import { clientFlag, getUint64, magic, option, requestHeader, setUint64, viewOf } from './wire.ts';

export const greetingBytes = 18;
export const optionReplyHeaderBytes = 20;

/** Whether this is the greeting of a fixed-newstyle server that leaves out the zeroes. */
export function isGreeting(bytes: Uint8Array): boolean {
  const view = viewOf(bytes);
  const wanted = clientFlag.fixedNewstyle | clientFlag.noZeroes;
  return (
    view.getUint32(0) === magic.greetingHigh &&
    view.getUint32(4) === magic.greetingLow &&
    view.getUint32(8) === magic.optionHigh &&
    view.getUint32(12) === magic.optionLow &&
    (view.getUint16(16) & wanted) === wanted
  );
}

/** The client's flags, then GO for an export without asking for more than its size. */
export function encodeGo(exportName: string): Uint8Array {
  const name = Buffer.from(exportName);
  const dataBytes = 4 + name.length + 2;
  const bytes = new Uint8Array(4 + 16 + dataBytes);
  const view = viewOf(bytes);
  view.setUint32(0, clientFlag.fixedNewstyle | clientFlag.noZeroes);
  view.setUint32(4, magic.optionHigh);
  view.setUint32(8, magic.optionLow);
  view.setUint32(12, option.go);
  view.setUint32(16, dataBytes);
  view.setUint32(20, name.length);
  bytes.set(name, 24);
  return bytes;
}

export interface OptionReplyHeader {
  readonly type: number;
  readonly dataBytes: number;
}

/** Undefined when it is no reply to GO. */
export function decodeOptionReplyHeader(bytes: Uint8Array): OptionReplyHeader | undefined {
  const view = viewOf(bytes);
  const right =
    view.getUint32(0) === magic.optionReplyHigh &&
    view.getUint32(4) === magic.optionReplyLow &&
    view.getUint32(8) === option.go;
  return right ? { type: view.getUint32(12), dataBytes: view.getUint32(16) } : undefined;
}

/** What NBD_INFO_EXPORT says. */
export interface ExportInfo {
  readonly sizeBytes: number;
  readonly flags: number;
}

export function decodeInfoExport(data: Uint8Array): ExportInfo {
  const view = viewOf(data);
  return { sizeBytes: getUint64(view, 2), flags: view.getUint16(10) };
}

export function encodeRequest(
  command: number,
  flags: number,
  cookie: number,
  offset: number,
  lengthBytes: number,
): Uint8Array {
  const bytes = new Uint8Array(requestHeader.compactBytes);
  const view = viewOf(bytes);
  view.setUint32(requestHeader.magic, magic.request);
  view.setUint16(requestHeader.flags, flags);
  view.setUint16(requestHeader.command, command);
  setUint64(view, requestHeader.cookie, cookie);
  setUint64(view, requestHeader.offset, offset);
  view.setUint32(requestHeader.length, lengthBytes);
  return bytes;
}

/** Undefined when it is no simple reply. */
export function decodeSimpleReply(
  bytes: Uint8Array,
): { readonly error: number; readonly cookie: number } | undefined {
  const view = viewOf(bytes);
  if (view.getUint32(0) !== magic.simpleReply) return undefined;
  return { error: view.getUint32(4), cookie: getUint64(view, 8) };
}
