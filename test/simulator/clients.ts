import type {
  BlockDevice,
  Extent,
  WriteOptions,
  ZeroOptions,
} from '../../src/base/block-device.ts';
import { errorTraits, type ErrorCode } from '../../src/base/errors.ts';
import type { Random } from '../../src/base/random.ts';
import type { NbdLimits } from '../../src/nbd/limits.ts';
import type { RemoteLink } from '../../src/nbd/remote-link.ts';
import type { Volume } from '../../src/volume/volume.ts';
import type { Engine } from './engine.ts';
import type { Life } from './process.ts';
import { pick } from './random.ts';
import { SimulatedServer } from './server.ts';
import { Wire, type WireSurroundings } from './wire.ts';

/** What clients and a server agree on in a world, beside how the network between them is. */
export interface NetworkShape {
  /** Connections to the volume, over which each client's requests are spread. */
  readonly connectionCount: number;
  /** Flushes have a connection of their own, which must cover what came by the others. */
  readonly flushesApart: boolean;
  readonly limits: Partial<NbdLimits>;
}

/** The server answered with an error, which says no more than this. */
export class RefusedRequest extends Error {
  /** What may have happened to it. */
  readonly codes: readonly ErrorCode[];

  constructor(number: number, names: Readonly<Record<string, number>>) {
    super(`error ${number}`);
    const codes = Object.keys(errorTraits) as ErrorCode[];
    this.codes = codes.filter((code) => names[errorTraits[code].nbd] === number);
  }
}

interface Request {
  readonly command: number;
  readonly flags: number;
  readonly offset: number;
  readonly lengthBytes: number;
  readonly payload?: Uint8Array;
  readonly into?: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** One connection after the other: what was not answered is asked again on the next. */
interface Line {
  link: RemoteLink | undefined;
  readonly requests: Map<number, Request>;
}

export interface ClientsSurroundings extends Omit<WireSurroundings, 'life'> {
  readonly engine: Engine;
  readonly shape: NetworkShape;
  readonly fail: (error: unknown) => void;
}

const exportName = 'drive';
const longestAwayMs = 20;

/**
 * A volume as clients of the network see it: behind the product's own server, over connections that
 * break and are made again, as those of a kernel or of QEMU that wait for their server.
 */
export class Clients implements BlockDevice {
  readonly readOnly = false;
  readonly preferredBlockBytes = 4096;
  private readonly volume: Volume;
  private readonly life: Life;
  private readonly around: ClientsSurroundings;
  private readonly random: Random;
  private readonly lines: readonly Line[];
  private readonly server: SimulatedServer;
  private lastCookie = 0;
  private isLeaving = false;

  constructor(volume: Volume, life: Life, around: ClientsSurroundings) {
    const { engine, shape, fail } = around;
    this.volume = volume;
    this.life = life;
    this.around = around;
    this.random = around.random;
    this.server = new SimulatedServer(volume, life, { engine, limits: shape.limits, fail });
    this.lines = Array.from({ length: shape.connectionCount }, () => ({
      link: undefined,
      requests: new Map(),
    }));
    for (const line of this.lines) this.connect(line);
  }

  get sizeBytes(): number {
    return this.volume.sizeBytes;
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    const { command } = this.around.engine.wire;
    return this.ask({ command: command.read, flags: 0, offset, lengthBytes: into.length, into });
  }

  write(offset: number, payload: Uint8Array, { fua }: WriteOptions): Promise<void> {
    const { command } = this.around.engine.wire;
    const lengthBytes = payload.length;
    return this.ask({ command: command.write, flags: this.fua(fua), offset, lengthBytes, payload });
  }

  zero(offset: number, lengthBytes: number, { fua, mayPunchHole }: ZeroOptions): Promise<void> {
    const { command, commandFlag } = this.around.engine.wire;
    const flags = this.fua(fua) | (mayPunchHole ? 0 : commandFlag.noHole);
    return this.ask({ command: command.writeZeroes, flags, offset, lengthBytes });
  }

  trim(offset: number, lengthBytes: number, { fua }: WriteOptions): Promise<void> {
    const { command } = this.around.engine.wire;
    return this.ask({ command: command.trim, flags: this.fua(fua), offset, lengthBytes });
  }

  flush(): Promise<void> {
    const { command } = this.around.engine.wire;
    return this.ask({ command: command.flush, flags: 0, offset: 0, lengthBytes: 0 });
  }

  prefetch(offset: number, lengthBytes: number): Promise<void> {
    const { command } = this.around.engine.wire;
    return this.ask({ command: command.cache, flags: 0, offset, lengthBytes });
  }

  /** These clients do not ask for it; the volume itself is asked. */
  async status(offset: number, lengthBytes: number, maxExtents: number): Promise<Extent[]> {
    const asleep = this.life.awake();
    if (asleep !== undefined) await asleep;
    return this.volume.status(offset, lengthBytes, maxExtents);
  }

  /** Takes leave, and waits until the server is done with all it was ever asked. */
  async leave(): Promise<void> {
    this.isLeaving = true;
    for (const line of this.lines) line.link?.close();
    await this.server.drain();
  }

  private fua(fua: boolean): number {
    return fua ? this.around.engine.wire.commandFlag.fua : 0;
  }

  private ask(what: Omit<Request, 'resolve' | 'reject'>): Promise<void> {
    const line = this.lineFor(what.command);
    return new Promise((resolve, reject) => {
      this.lastCookie += 1;
      const request = { ...what, resolve, reject };
      line.requests.set(this.lastCookie, request);
      if (line.link !== undefined) send(line.link, this.lastCookie, request);
    });
  }

  private lineFor(command: number): Line {
    const { lines } = this;
    const apart = this.around.shape.flushesApart && lines.length > 1 ? 1 : 0;
    const isFlush = command === this.around.engine.wire.command.flush;
    const at = isFlush && apart > 0 ? 0 : apart + pick(this.random, lines.length - apart);
    return lines[at] as Line;
  }

  private connect(line: Line): void {
    const { engine } = this.around;
    const wire = new Wire({ ...this.around, life: this.life });
    this.server.serve(wire);
    const link: RemoteLink = new engine.RemoteLink({
      socket: wire.client,
      exportName,
      clock: this.life.scheduler,
      dataOf: (cookie) => line.requests.get(cookie)?.into,
      onReply: (cookie, error) => this.replied(line, cookie, error),
      onEnd: () => {
        line.link = undefined;
        const awayMs = this.random.fraction() * longestAwayMs;
        this.life.scheduler.after(awayMs, () => {
          if (this.life.isAlive && !this.isLeaving) this.connect(line);
        });
      },
    });
    link.ready.then(
      () => {
        if (this.isLeaving) return link.close();
        line.link = link;
        for (const [cookie, request] of line.requests) send(link, cookie, request);
      },
      // The end is told to `onEnd`, too.
      () => undefined,
    );
  }

  private replied(line: Line, cookie: number, error: number): void {
    const request = line.requests.get(cookie);
    if (request === undefined) {
      this.around.fail(new Error('the server answers what it was not asked'));
      return;
    }
    line.requests.delete(cookie);
    if (error === 0) request.resolve();
    else request.reject(new RefusedRequest(error, this.around.engine.wire.errorNumber));
  }
}

function send(link: RemoteLink, cookie: number, request: Request): void {
  const { command: number, flags, offset, lengthBytes, payload } = request;
  link.send(number, flags, cookie, offset, lengthBytes, payload);
}
