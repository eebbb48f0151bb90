import { ByteIntake } from './byte-intake.ts';
import { clientFlagsBytes, decodeOptionHeader, optionHeader, viewOf } from './wire.ts';

/** What a client says before transmission. */
export type HandshakeMessage =
  | { readonly kind: 'client-flags'; readonly flags: number }
  | { readonly kind: 'option'; readonly option: number; readonly data: Uint8Array }
  /** An option whose data was longer than the limit; the data was discarded. */
  | { readonly kind: 'oversized-option'; readonly option: number }
  /** The framing is lost: only closing the connection is left. */
  | { readonly kind: 'broken' };

type State = 'client-flags' | 'option-header' | 'option-data' | 'option-skip' | 'broken';

/**
 * Bytes in, messages out: `push` a chunk, call `next` until it gives undefined, `push` the next.
 * Holds at most one option header and one option's data.
 */
export class HandshakeParser {
  private readonly intake = new ByteIntake();
  private readonly maximumOptionBytes: number;
  private state: State = 'client-flags';
  private target = new Uint8Array(clientFlagsBytes);
  private haveBytes = 0;
  private option = 0;
  private skipBytes = 0;

  constructor(maximumOptionBytes: number) {
    this.maximumOptionBytes = maximumOptionBytes;
  }

  push(chunk: Uint8Array): void {
    this.intake.push(chunk);
  }

  /** The bytes after the last message, which belong to the transmission phase. */
  takeRest(): Uint8Array {
    return this.intake.takeRest();
  }

  next(): HandshakeMessage | undefined {
    if (this.state === 'broken') return { kind: 'broken' };
    if (this.state === 'option-skip') return this.skip();
    this.haveBytes = this.intake.fill(this.target, this.haveBytes);
    if (this.haveBytes < this.target.length) return undefined;
    const bytes = this.target;
    switch (this.state) {
      case 'client-flags':
        this.await('option-header', optionHeader.bytes);
        return { kind: 'client-flags', flags: viewOf(bytes).getUint32(0) };
      case 'option-header':
        return this.header(bytes);
      case 'option-data':
        this.await('option-header', optionHeader.bytes);
        return { kind: 'option', option: this.option, data: bytes };
    }
  }

  private await(state: State, bytes: number): void {
    this.state = state;
    this.target = new Uint8Array(bytes);
    this.haveBytes = 0;
  }

  private header(bytes: Uint8Array): HandshakeMessage | undefined {
    const header = decodeOptionHeader(bytes);
    if (header === undefined) {
      this.state = 'broken';
      return { kind: 'broken' };
    }
    this.option = header.option;
    if (header.dataBytes > this.maximumOptionBytes) {
      this.state = 'option-skip';
      this.skipBytes = header.dataBytes;
    } else {
      this.await('option-data', header.dataBytes);
    }
    return this.next();
  }

  private skip(): HandshakeMessage | undefined {
    this.skipBytes -= this.intake.skip(this.skipBytes);
    if (this.skipBytes > 0) return undefined;
    this.await('option-header', optionHeader.bytes);
    return { kind: 'oversized-option', option: this.option };
  }
}
