import { Duplex } from 'node:stream';
import type { Random } from '../../src/base/random.ts';
import type { Life } from './process.ts';
import { chance, pick } from './random.ts';
import type { Trace } from './trace.ts';

/** How the network between clients and a daemon is. */
export interface NetworkFaults {
  /** Share of connections that break, at any byte. */
  breaks: number;
  maximumDelayMs: number;
}

/** What a wire needs of the world. */
export interface WireSurroundings {
  readonly random: Random;
  readonly trace: Trace;
  readonly faults: NetworkFaults;
  /** The daemon at the server's end; its client is another machine. */
  readonly life: Life;
}

type Direction = 'to server' | 'to client';

/** Bytes on their way in one direction. */
class Flow {
  readonly waiting: Uint8Array[] = [];
  /** A piece is on its way; the next one waits for it. */
  isMoving = false;
  /** The sender has said that nothing follows. */
  isEnded = false;
}

/** One end of a wire, as a socket. */
export class WireEnd extends Duplex {
  private readonly wire: Wire;
  private readonly direction: Direction;

  constructor(wire: Wire, direction: Direction) {
    super({ allowHalfOpen: true });
    this.wire = wire;
    this.direction = direction;
  }

  override _read(): void {
    // What arrives is pushed.
  }

  override _write(chunk: Uint8Array, _encoding: string, taken: () => void): void {
    this.wire.take(this.direction, [chunk], taken);
  }

  override _writev(chunks: { chunk: Uint8Array }[], taken: () => void): void {
    const bytes = chunks.map(({ chunk }) => chunk);
    this.wire.take(this.direction, bytes, taken);
  }

  override _final(done: () => void): void {
    this.wire.ended(this.direction);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.wire.break();
    done(error);
  }

  /** As a socket: what was written is sent first, as far as it goes. */
  destroySoon(): void {
    this.destroy();
  }
}

/**
 * A connection. Bytes are taken from their sender after a while, travel in pieces of any size and
 * arrive in order; when it breaks, at any byte, what is on its way is lost and both ends hear of it,
 * each in its time. So a client's next connection never carries what comes before something old.
 */
export class Wire {
  readonly client = new WireEnd(this, 'to server');
  readonly server = new WireEnd(this, 'to client');
  private readonly around: WireSurroundings;
  private readonly flows = { 'to server': new Flow(), 'to client': new Flow() };
  private isBroken = false;
  private leftBytes: number;

  constructor(around: WireSurroundings) {
    this.around = around;
    const { random, faults } = around;
    this.leftBytes = chance(random, faults.breaks)
      ? Math.floor(10 ** (1 + 4.5 * random.fraction()))
      : Number.POSITIVE_INFINITY;
  }

  /** The sender's kernel takes bytes; until `taken` is called they are still the sender's memory. */
  take(direction: Direction, chunks: readonly Uint8Array[], taken: () => void): void {
    this.later(direction, 'sender', () => {
      this.flows[direction].waiting.push(...chunks.map((chunk) => new Uint8Array(chunk)));
      taken();
      this.move(direction);
    });
  }

  ended(direction: Direction): void {
    this.flows[direction].isEnded = true;
    this.move(direction);
  }

  break(): void {
    if (this.isBroken) return;
    this.isBroken = true;
    this.around.trace.add('wire breaks', '', 0);
    const end = (): Error => new Error('the connection broke');
    this.later('to client', 'receiver', () => this.client.destroy(end()));
    this.later('to server', 'receiver', () => this.server.destroy(end()));
  }

  /** The daemon is dead: its kernel closes the connection, and only the client is left to hear it. */
  sever(): void {
    this.isBroken = true;
    const { life, random, faults } = this.around;
    life.scheduler.after(random.fraction() * faults.maximumDelayMs, () => {
      this.client.destroy(new Error('the connection was reset'));
    });
  }

  /** Lets a piece of what is there arrive. */
  private move(direction: Direction): void {
    const flow = this.flows[direction];
    if (flow.isMoving || this.isBroken) return;
    const first = flow.waiting[0];
    if (first === undefined && !flow.isEnded) return;
    flow.isMoving = true;
    this.later(direction, 'receiver', () => {
      flow.isMoving = false;
      if (this.isBroken) return;
      const end = direction === 'to server' ? this.server : this.client;
      const piece = this.piece(flow);
      end.push(piece ?? null);
      if (piece === undefined) return;
      this.leftBytes -= piece.length;
      if (this.leftBytes > 0) this.move(direction);
      else this.endOfLuck(direction);
    });
  }

  /** It was to break here; when the network is well again meanwhile, it never does. */
  private endOfLuck(direction: Direction): void {
    if (this.around.faults.breaks > 0) return this.break();
    this.leftBytes = Number.POSITIVE_INFINITY;
    this.move(direction);
  }

  /** Some bytes from the front: whole messages, parts of one, several at once. */
  private piece(flow: Flow): Uint8Array | undefined {
    const { random } = this.around;
    let bytes = flow.waiting.shift();
    if (bytes === undefined) return undefined;
    while (flow.waiting.length > 0 && chance(random, 0.7)) {
      bytes = Buffer.concat([bytes, flow.waiting.shift() as Uint8Array]);
    }
    const isCut = bytes.length > this.leftBytes || chance(random, 0.3);
    const count = isCut ? Math.min(this.leftBytes, 1 + pick(random, bytes.length)) : bytes.length;
    if (count < bytes.length) flow.waiting.unshift(bytes.subarray(count));
    // Memory of its own: whoever receives it may do with it what he likes.
    return new Uint8Array(bytes.subarray(0, count));
  }

  /** The daemon hears and speaks when it is awake; its client no more when the daemon is dead. */
  private later(direction: Direction, who: 'sender' | 'receiver', action: () => void): void {
    const { life, random, faults } = this.around;
    const isServer = (direction === 'to server') === (who === 'receiver');
    life.scheduler.after(random.fraction() * faults.maximumDelayMs, () => {
      if (isServer) life.deliver(action);
      else if (life.isAlive) action();
    });
  }
}
