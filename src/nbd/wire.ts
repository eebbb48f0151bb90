/**
 * The NBD wire: every number and layout of the protocol document (doc/proto.md of the reference
 * implementation, and its extended-headers extension), with their encoders and decoders. All integers are
 * big-endian. A 64-bit number is a JavaScript number where its value matters (anything at or above
 * 2^53 is past the end of every device), and two 32-bit words where it only has to be echoed.
 */

export const handshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const;
export const clientFlag = { fixedNewstyle: 1, noZeroes: 2 } as const;
export const knownClientFlags = clientFlag.fixedNewstyle | clientFlag.noZeroes;

export const option = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const;

export const optionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errorUnsupported: 0x8000_0001,
  errorPolicy: 0x8000_0002,
  errorInvalid: 0x8000_0003,
  errorPlatform: 0x8000_0004,
  errorTlsRequired: 0x8000_0005,
  errorUnknown: 0x8000_0006,
  errorShutdown: 0x8000_0007,
  errorBlockSizeRequired: 0x8000_0008,
  errorTooBig: 0x8000_0009,
  errorExtendedHeadersRequired: 0x8000_000a,
} as const;

export const infoType = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const transmissionFlag = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  rotational: 1 << 4,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
  sendResize: 1 << 9,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
  blockStatusPayload: 1 << 12,
} as const;

export const command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const commandFlag = {
  fua: 1 << 0,
  noHole: 1 << 1,
  df: 1 << 2,
  reqOne: 1 << 3,
  fastZero: 1 << 4,
  payloadLength: 1 << 5,
} as const;

export const chunkType = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  blockStatusExtended: 6,
  error: 0x8001,
  errorOffset: 0x8002,
} as const;

export const chunkFlagDone = 1;

/** Error values of replies (document, "Error values"). */
export const errorNumber = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;
export type ErrorName = keyof typeof errorNumber;

/** A string of the protocol is at most this many bytes of UTF-8, without NUL. */
export const maximumStringBytes = 4096;

export const stateFlag = { hole: 1, zero: 2 } as const;

/** The flag of an extent in a context of `dirtyBitmapPrefix`. */
export const dirtyFlag = 1;

/** The metadata context that every export has. */
export const allocationName = 'base:allocation';
/** QEMU's contexts (its document "QEMU NBD protocol support"): what was changed since a moment. */
export const dirtyBitmapPrefix = 'qemu:dirty-bitmap:';

/** Which request and reply headers the two sides have agreed on. */
export type Dialect = 'simple' | 'structured' | 'extended';

export const magic = {
  greetingHigh: 0x4e42_444d, // NBDM
  greetingLow: 0x4147_4943, // AGIC
  optionHigh: 0x4948_4156, // IHAV
  optionLow: 0x454f_5054, // EOPT
  optionReplyHigh: 0x0003_e889,
  optionReplyLow: 0x0455_65a9,
  request: 0x2560_9513,
  extendedRequest: 0x21e4_1c71,
  simpleReply: 0x6744_6698,
  structuredReply: 0x668e_33ef,
  extendedReply: 0x6e8a_278c,
} as const;

const twoTo32 = 0x1_0000_0000;

/** The upper 32 bits of a whole number below 2^53. */
export function highWord(value: number): number {
  return Math.floor(value / twoTo32);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Above 2^53 the result is rounded; it stays above the size of any device. */
export function getUint64(view: DataView, at: number): number {
  return view.getUint32(at) * twoTo32 + view.getUint32(at + 4);
}

export function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, highWord(value));
  view.setUint32(at + 4, value >>> 0);
}

// ---- Handshake ------------------------------------------------------------------------------

export const clientFlagsBytes = 4;

/** Option header: magic 0..8, option 8..12, length 12..16. */
export const optionHeader = { option: 8, length: 12, bytes: 16 } as const;

/** Greeting: 'NBDMAGIC' 0..8, 'IHAVEOPT' 8..16, handshake flags 16..18. */
export function encodeGreeting(flags: number): Uint8Array {
  const bytes = new Uint8Array(18);
  const view = viewOf(bytes);
  view.setUint32(0, magic.greetingHigh);
  view.setUint32(4, magic.greetingLow);
  view.setUint32(8, magic.optionHigh);
  view.setUint32(12, magic.optionLow);
  view.setUint16(16, flags);
  return bytes;
}

export interface OptionHeader {
  readonly option: number;
  readonly dataBytes: number;
}

/** Undefined when the magic is wrong: then nothing that follows can be understood. */
export function decodeOptionHeader(bytes: Uint8Array): OptionHeader | undefined {
  const view = viewOf(bytes);
  if (view.getUint32(0) !== magic.optionHigh || view.getUint32(4) !== magic.optionLow) {
    return undefined;
  }
  return {
    option: view.getUint32(optionHeader.option),
    dataBytes: view.getUint32(optionHeader.length),
  };
}

/** Option reply: magic 0..8, option 8..12, reply type 12..16, length 16..20, data. */
export function encodeOptionReply(
  optionNumber: number,
  type: number,
  data: Uint8Array = new Uint8Array(0),
): Uint8Array {
  const bytes = new Uint8Array(20 + data.length);
  const view = viewOf(bytes);
  view.setUint32(0, magic.optionReplyHigh);
  view.setUint32(4, magic.optionReplyLow);
  view.setUint32(8, optionNumber);
  view.setUint32(12, type);
  view.setUint32(16, data.length);
  bytes.set(data, 20);
  return bytes;
}

/** Answer to EXPORT_NAME: size 0..8, transmission flags 8..10, 124 zeroes unless agreed otherwise. */
export function encodeExportNameAnswer(
  sizeBytes: number,
  flags: number,
  withZeroes: boolean,
): Uint8Array {
  const bytes = new Uint8Array(withZeroes ? 134 : 10);
  const view = viewOf(bytes);
  setUint64(view, 0, sizeBytes);
  view.setUint16(8, flags);
  return bytes;
}

/** NBD_INFO_EXPORT: type 0..2, size 2..10, transmission flags 10..12. */
export function encodeInfoExport(sizeBytes: number, flags: number): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = viewOf(bytes);
  view.setUint16(0, infoType.export);
  setUint64(view, 2, sizeBytes);
  view.setUint16(10, flags);
  return bytes;
}

/** NBD_INFO_BLOCK_SIZE: type 0..2, minimum 2..6, preferred 6..10, maximum payload 10..14. */
export function encodeInfoBlockSize(
  minimumBytes: number,
  preferredBytes: number,
  maximumPayloadBytes: number,
): Uint8Array {
  const bytes = new Uint8Array(14);
  const view = viewOf(bytes);
  view.setUint16(0, infoType.blockSize);
  view.setUint32(2, minimumBytes);
  view.setUint32(6, preferredBytes);
  view.setUint32(10, maximumPayloadBytes);
  return bytes;
}

/** NBD_INFO_NAME and NBD_INFO_DESCRIPTION: type 0..2, string. */
export function encodeInfoString(type: number, text: string): Uint8Array {
  const string = encodeString(text);
  const bytes = new Uint8Array(2 + string.length);
  viewOf(bytes).setUint16(0, type);
  bytes.set(string, 2);
  return bytes;
}

/** NBD_REP_SERVER: length of the name 0..4, name, description to the end. */
export function encodeServerEntry(name: string, description = ''): Uint8Array {
  const nameBytes = encodeString(name);
  const descriptionBytes = encodeString(description);
  const bytes = new Uint8Array(4 + nameBytes.length + descriptionBytes.length);
  viewOf(bytes).setUint32(0, nameBytes.length);
  bytes.set(nameBytes, 4);
  bytes.set(descriptionBytes, 4 + nameBytes.length);
  return bytes;
}

/** NBD_REP_META_CONTEXT: context id 0..4, name. */
export function encodeMetaContext(id: number, name: string): Uint8Array {
  const nameBytes = encodeString(name);
  const bytes = new Uint8Array(4 + nameBytes.length);
  viewOf(bytes).setUint32(0, id);
  bytes.set(nameBytes, 4);
  return bytes;
}

/** UTF-8 without NUL, cut to the protocol's longest string. */
export function encodeString(text: string): Uint8Array {
  const target = new Uint8Array(Math.min(text.length * 3, maximumStringBytes));
  const { written } = new TextEncoder().encodeInto(text.replaceAll('\0', ' '), target);
  return target.subarray(0, written);
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Undefined when the bytes are not a string of the protocol. */
export function decodeString(bytes: Uint8Array): string | undefined {
  if (bytes.length > maximumStringBytes || bytes.includes(0)) return undefined;
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return undefined;
  }
}

// ---- Transmission ---------------------------------------------------------------------------

/**
 * Request: magic 0..4, flags 4..6, command 6..8, cookie 8..16, offset 16..24, then a length of
 * 24..28 in the compact and 24..32 in the extended header.
 */
export const requestHeader = {
  magic: 0,
  flags: 4,
  command: 6,
  cookie: 8,
  offset: 16,
  length: 24,
  compactBytes: 28,
  extendedBytes: 32,
} as const;

/** What a reply repeats of its request. The words are signed so that V8 keeps them unboxed. */
export interface ReplyTo {
  readonly cookieHigh: number;
  readonly cookieLow: number;
  readonly offsetHigh: number;
  readonly offsetLow: number;
}

/** One object that is filled anew for each request, so that a request allocates nothing. */
export class Request implements ReplyTo {
  flags = 0;
  command = 0;
  cookieHigh = 0;
  cookieLow = 0;
  offsetHigh = 0;
  offsetLow = 0;
  offset = 0;
  /** The effect length, or the payload's length where the request has a payload. */
  lengthBytes = 0;
  /** Bytes that follow the header. */
  payloadBytes = 0;
}

/** Fills `request`; false when the magic is not that of this dialect's requests. */
export function decodeRequest(
  view: DataView,
  at: number,
  extended: boolean,
  request: Request,
): boolean {
  const expected = extended ? magic.extendedRequest : magic.request;
  if (view.getUint32(at) !== expected) return false;
  request.flags = view.getUint16(at + requestHeader.flags);
  request.command = view.getUint16(at + requestHeader.command);
  request.cookieHigh = view.getInt32(at + requestHeader.cookie);
  request.cookieLow = view.getInt32(at + requestHeader.cookie + 4);
  request.offsetHigh = view.getInt32(at + requestHeader.offset);
  request.offsetLow = view.getInt32(at + requestHeader.offset + 4);
  request.offset = (request.offsetHigh >>> 0) * twoTo32 + (request.offsetLow >>> 0);
  if (extended) {
    request.lengthBytes = getUint64(view, at + requestHeader.length);
    const carriesPayload = (request.flags & commandFlag.payloadLength) !== 0;
    request.payloadBytes = carriesPayload ? request.lengthBytes : 0;
  } else {
    request.lengthBytes = view.getUint32(at + requestHeader.length);
    request.payloadBytes = request.command === command.write ? request.lengthBytes : 0;
  }
  return true;
}

export const simpleReplyBytes = 16;

/** Simple reply: magic 0..4, error 4..8, cookie 8..16. */
export function encodeSimpleReply(view: DataView, at: number, to: ReplyTo, error: number): void {
  view.setUint32(at, magic.simpleReply);
  view.setUint32(at + 4, error);
  view.setInt32(at + 8, to.cookieHigh);
  view.setInt32(at + 12, to.cookieLow);
}

export function chunkHeaderBytes(extended: boolean): number {
  return extended ? 32 : 20;
}

/**
 * Structured chunk header: magic 0..4, flags 4..6, type 6..8, cookie 8..16, payload length 16..20.
 * Extended chunk header: the same up to the cookie, then offset 16..24, payload length 24..32.
 * Returns where the payload begins.
 */
export function encodeChunkHeader(
  view: DataView,
  at: number,
  extended: boolean,
  to: ReplyTo,
  flags: number,
  type: number,
  payloadBytes: number,
): number {
  view.setUint32(at, extended ? magic.extendedReply : magic.structuredReply);
  view.setUint16(at + 4, flags);
  view.setUint16(at + 6, type);
  view.setInt32(at + 8, to.cookieHigh);
  view.setInt32(at + 12, to.cookieLow);
  if (!extended) {
    view.setUint32(at + 16, payloadBytes);
    return at + 20;
  }
  view.setInt32(at + 16, to.offsetHigh);
  view.setInt32(at + 20, to.offsetLow);
  view.setUint32(at + 24, 0);
  view.setUint32(at + 28, payloadBytes);
  return at + 32;
}

/** Payload of OFFSET_HOLE: offset 0..8, length 8..12. */
export const offsetHolePayloadBytes = 12;
/** Payload of OFFSET_DATA before the data: offset 0..8. */
export const offsetDataPrefixBytes = 8;

/** Payload of ERROR: error 0..4, message length 4..6, message; ERROR_OFFSET adds the offset. */
export function encodeErrorPayload(
  error: number,
  message: string,
  offset: number | undefined,
): Uint8Array {
  const text = encodeString(message);
  const bytes = new Uint8Array(6 + text.length + (offset === undefined ? 0 : 8));
  const view = viewOf(bytes);
  view.setUint32(0, error);
  view.setUint16(4, text.length);
  bytes.set(text, 6);
  if (offset !== undefined) setUint64(view, 6 + text.length, offset);
  return bytes;
}
