/**
 * The least that a server in Node can be: memory, the requests of one client one at a time, no checks.
 * What it takes for a request is what Node's event loop and the kernel take. Its arguments are the
 * path of a Unix socket and a size in bytes.
 */
import { createServer, type Socket } from 'node:net';
import { encodeGreeting, handshakeFlag } from '../src/nbd/wire.ts';

const [path = '', size = ''] = process.argv.slice(2);
const memory = Buffer.alloc(Number(size));
const requestBytes = 28;
const simpleReplyBytes = 16;
/** `NBD_OPT_GO` in what libnbd sends; it leaves out other options when they are refused. */
const go = 7;
const exportFlags = 1;
const handshakeBytes = 4;
const optionBytes = 16;

function optionReply(option: number, type: number, data: Buffer): Buffer {
  const header = Buffer.alloc(20);
  header.writeBigUInt64BE(0x3e889045565a9n, 0);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(type, 12);
  header.writeUInt32BE(data.length, 16);
  return Buffer.concat([header, data]);
}

/** The flags, options until GO; calls `enter` with what follows. */
function shakeHands(socket: Socket, enter: (rest: Buffer) => void): void {
  let received = Buffer.alloc(0);
  let hasFlags = false;
  const take = (chunk: Buffer): void => {
    received = Buffer.concat([received, chunk]);
    if (!hasFlags) {
      if (received.length < handshakeBytes) return;
      received = received.subarray(handshakeBytes);
      hasFlags = true;
    }
    while (received.length >= optionBytes) {
      const option = received.readUInt32BE(8);
      const end = optionBytes + received.readUInt32BE(12);
      if (received.length < end) return;
      received = received.subarray(end);
      if (option !== go) {
        socket.write(optionReply(option, 0x8000_0001, Buffer.alloc(0)));
        continue;
      }
      const info = Buffer.alloc(12);
      info.writeBigUInt64BE(BigInt(size), 2);
      info.writeUInt16BE(exportFlags, 10);
      socket.write(optionReply(option, 3, info));
      socket.write(optionReply(option, 1, Buffer.alloc(0)));
      socket.off('data', take);
      enter(received);
      return;
    }
  };
  socket.on('data', take);
}

function serve(socket: Socket, first: Buffer): void {
  let received = first;
  const take = (chunk: Buffer): void => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    while (received.length >= requestBytes) {
      const command = received.readUInt16BE(6);
      const offset = received.readUIntBE(18, 6);
      const lengthBytes = received.readUInt32BE(24);
      const end = requestBytes + (command === 1 ? lengthBytes : 0);
      if (received.length < end) return;
      if (command === 2) socket.end();
      const dataBytes = command === 0 ? lengthBytes : 0;
      const reply = Buffer.allocUnsafe(simpleReplyBytes + dataBytes);
      reply.writeUInt32BE(0x67446698, 0);
      reply.writeUInt32BE(0, 4);
      received.copy(reply, 8, 8, 16);
      memory.copy(reply, simpleReplyBytes, offset, offset + dataBytes);
      received.copy(memory, offset, requestBytes, end);
      received = received.subarray(end);
      socket.write(reply);
    }
  };
  socket.on('data', take);
  take(Buffer.alloc(0));
}

createServer((socket) => {
  socket.on('error', () => socket.destroy());
  socket.write(encodeGreeting(handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes));
  shakeHands(socket, (rest) => serve(socket, rest));
}).listen(path);
