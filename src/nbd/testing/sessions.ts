import type { Dialect } from '../wire.ts';
import { Conversation, type ConversationOptions } from './conversation.ts';

const opt = '49484156454f5054';
const go = `${opt} 00000007 0000000a 00000004 6469736b 0000`;
const selectAllocation = `
  ${opt} 0000000a 0000001f 00000004 6469736b 00000001 0000000f 626173653a616c6c6f636174696f6e`;

/** What a client says to enter the export `disk` in each dialect. */
export const entrances: Readonly<Record<Dialect, string>> = {
  simple: `00000003 ${go}`,
  structured: `00000003 ${opt} 00000008 00000000 ${selectAllocation} ${go}`,
  extended: `00000003 ${opt} 0000000b 00000000 ${selectAllocation} ${go}`,
};

/** A conversation that has reached transmission. */
export async function enter(
  dialect: Dialect,
  options: ConversationOptions = {},
): Promise<Conversation> {
  const conversation = new Conversation(options);
  conversation.send(entrances[dialect]);
  await conversation.answer();
  return conversation;
}

/** A compact request's header as hex digits, with `cookie` in all its eight bytes. */
export function request(
  command: number,
  cookie: number,
  offset: number,
  lengthBytes: number,
  flags = 0,
): string {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(0x25609513, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(command, 6);
  bytes.fill(cookie, 8, 16);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(lengthBytes, 24);
  return bytes.toString('hex');
}

/** A simple reply to the request with `cookie`, without data. */
export function simpleReply(cookie: number, error = 0): string {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt32BE(0x67446698, 0);
  bytes.writeUInt32BE(error, 4);
  bytes.fill(cookie, 8, 16);
  return bytes.toString('hex');
}
