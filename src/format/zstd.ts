import {
  constants,
  createZstdCompress,
  createZstdDecompress,
  zstdCompressSync,
  zstdDecompressSync,
} from 'node:zlib';

/** Above this the price of a context of one's own is small beside the work. */
const largestReusedBytes = 256 * 1024;
/** What zstd may need beyond the length of bytes that do not shrink, and a little. */
const headroomBytes = 4096;

const params = { [constants.ZSTD_c_compressionLevel]: 1 };

type Stream = ReturnType<typeof createZstdCompress> | ReturnType<typeof createZstdDecompress>;

/** What is inside a stream of `node:zlib`: not documented, and so looked at before it is used. */
interface Insides {
  _handle?: { writeSync?: (...request: unknown[]) => void } | null;
  /** Of the last request: how many bytes of the output, and of the input, were left. */
  _writeState?: Uint32Array;
}

/**
 * One zstd context, used again and again. Node's synchronous calls make one for each frame, which
 * takes longer than to compress 64 KiB, and give it back only with V8's garbage.
 */
class Context {
  private readonly make: () => Stream;
  private stream: Stream | undefined;

  constructor(make: () => Stream) {
    this.make = make;
  }

  /**
   * All of `from` as one frame to the start of `into`, which has room for more than comes. Returns
   * its length; `undefined` when that did not go: then Node's own call is to say why.
   */
  run(from: Uint8Array, into: Uint8Array): number | undefined {
    this.stream ??= this.make().on('error', () => undefined);
    const { stream } = this;
    const { _handle: handle, _writeState: left } = stream as Insides;
    if (typeof handle?.writeSync !== 'function' || left === undefined) return undefined;
    handle.writeSync(constants.ZSTD_e_end, from, 0, from.byteLength, into, 0, into.byteLength);
    const [intoLeft = 0, fromLeft = 0] = left;
    if (!stream.destroyed && fromLeft === 0 && intoLeft > 0) return into.byteLength - intoLeft;
    stream.destroy();
    this.stream = undefined;
    return undefined;
  }
}

const compressor = new Context(() => createZstdCompress({ params }));
const decompressor = new Context(() => createZstdDecompress());
const output = new Uint8Array(largestReusedBytes + headroomBytes);

/** `bytes` at level 1. The result may be overwritten by the next call. */
export function zstdCompress(bytes: Uint8Array): Uint8Array {
  if (bytes.byteLength <= largestReusedBytes) {
    const length = compressor.run(bytes, output);
    if (length !== undefined) return output.subarray(0, length);
  }
  return zstdCompressSync(bytes, { params, chunkSize: bytes.byteLength + headroomBytes });
}

/**
 * Undoes `zstdCompress`; throws when the bytes are not that or are more than `plainBytes`. The
 * result may be overwritten by the next call.
 */
export function zstdDecompress(bytes: Uint8Array, plainBytes: number): Uint8Array {
  if (plainBytes <= largestReusedBytes) {
    const length = decompressor.run(bytes, output);
    if (length === plainBytes) return output.subarray(0, length);
  }
  return zstdDecompressSync(bytes, {
    maxOutputLength: plainBytes,
    chunkSize: Math.max(64, plainBytes),
  });
}
