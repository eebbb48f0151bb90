const streamCount = 8;
/** How far from where a stream was expected a read may begin and still belong to it. */
const toleranceBytes = 2 * 2 ** 20;
/** Bytes read in order before the volume is read ahead. */
const confirmedBytes = 512 * 1024;

interface Stream {
  next: number;
  streakBytes: number;
  /** Up to where the stream has been read ahead. */
  ahead: number;
}

/**
 * Recognises readers that go through the volume in order, also several at once and with their
 * requests a little out of order, and says what they will want next.
 */
export class Readahead {
  private readonly windowBytes: number;
  private readonly fetch: (offset: number, lengthBytes: number) => void;
  private readonly streams: Stream[] = [];
  private oldest = 0;

  constructor(windowBytes: number, fetch: (offset: number, lengthBytes: number) => void) {
    this.windowBytes = windowBytes;
    this.fetch = fetch;
  }

  observe(offset: number, lengthBytes: number): void {
    if (this.windowBytes === 0) return;
    for (const stream of this.streams) {
      const distance = offset - stream.next;
      if (distance > toleranceBytes || distance < -toleranceBytes) continue;
      stream.next = Math.max(stream.next, offset + lengthBytes);
      stream.streakBytes += lengthBytes;
      if (stream.streakBytes >= confirmedBytes) this.advance(stream);
      return;
    }
    const stream = { next: offset + lengthBytes, streakBytes: lengthBytes, ahead: 0 };
    if (this.streams.length < streamCount) {
      this.streams.push(stream);
    } else {
      this.streams[this.oldest] = stream;
      this.oldest = (this.oldest + 1) % streamCount;
    }
  }

  private advance(stream: Stream): void {
    if (stream.ahead - stream.next > this.windowBytes / 2) return;
    const from = Math.max(stream.ahead, stream.next);
    const end = stream.next + this.windowBytes;
    stream.ahead = end;
    this.fetch(from, end - from);
  }
}
