import { type Dialect, viewOf } from '../wire.ts';
import { hex } from './conversation.ts';

/** The words of an error may change; that it has some may not. */
function mustBeForPeople(message: string): void {
  if (!/^[\w,:;\- ]{2,}$/.test(message)) throw new Error(`not a message for people: "${message}"`);
}

/** Cuts the messages from error replies, and checks that each is a sentence for people. */
export function withoutOptionMessages(bytes: Buffer): string {
  const magic = hex('0003e889045565a9');
  let out = '';
  for (let at = 0; at < bytes.length; ) {
    const isReply = bytes.subarray(at, at + 8).equals(magic);
    if (!isReply) return out + bytes.subarray(at).toString('hex');
    const length = bytes.readUInt32BE(at + 16);
    if (bytes.readUInt32BE(at + 12) >= 0x8000_0000) {
      mustBeForPeople(bytes.toString('utf8', at + 20, at + 20 + length));
      out += bytes.toString('hex', at, at + 16);
    } else {
      out += bytes.toString('hex', at, at + 20 + length);
    }
    at += 20 + length;
  }
  return out;
}

/** Cuts the messages from error chunks, and checks that each is a sentence for people. */
export function withoutChunkMessages(bytes: Buffer, dialect: Dialect): string {
  if (dialect === 'simple') return bytes.toString('hex');
  let out = '';
  for (let at = 0; at < bytes.length; ) {
    if (bytes.readUInt32BE(at) === 0x67446698) {
      out += bytes.toString('hex', at, at + 16);
      at += 16;
      continue;
    }
    const headerBytes = dialect === 'extended' ? 32 : 20;
    const length = bytes.readUInt32BE(at + headerBytes - 4);
    const payload = bytes.subarray(at + headerBytes, at + headerBytes + length);
    const isError = (bytes.readUInt16BE(at + 6) & 0x8000) !== 0;
    if (isError) {
      const messageBytes = viewOf(payload).getUint16(4);
      mustBeForPeople(payload.toString('utf8', 6, 6 + messageBytes));
      out += bytes.toString('hex', at, at + headerBytes - (dialect === 'extended' ? 8 : 4));
      out += payload.toString('hex', 0, 4) + payload.toString('hex', 6 + messageBytes);
    } else {
      out += bytes.toString('hex', at, at + headerBytes + length);
    }
    at += headerBytes + length;
  }
  return out;
}
