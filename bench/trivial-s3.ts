/**
 * A server that answers every GET with the bytes of the range and every PUT with an ETag, at once and
 * from memory: what a client does against it is the client's own speed. Prints its port, and ends when
 * its standard input does.
 */
import { createServer } from 'node:http';

const objectBytes = 8 << 20;
const object = Buffer.alloc(objectBytes, 7);
const etag = '"0123456789abcdef0123456789abcdef"';

const server = createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    if (request.method === 'PUT') {
      response.writeHead(200, { etag, 'content-length': '0' }).end();
      return;
    }
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    const from = Number(range?.[1] ?? 0);
    const end = Math.min(Number(range?.[2] ?? objectBytes - 1) + 1, objectBytes);
    response.writeHead(range === null ? 200 : 206, {
      etag,
      'content-length': String(end - from),
      'content-type': 'application/octet-stream',
      'content-range': `bytes ${from}-${end - 1}/${objectBytes}`,
    });
    response.end(object.subarray(from, end));
  });
});
process.stdin.on('end', () => process.exit()).resume();
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  process.stdout.write(`${typeof address === 'object' ? address?.port : ''}\n`);
});
