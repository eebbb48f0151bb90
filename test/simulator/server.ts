import type { BlockDevice } from '../../src/base/block-device.ts';
import { LentBytes } from '../../src/base/lent-bytes.ts';
import { silentLog } from '../../src/base/log.ts';
import type { Connection } from '../../src/nbd/connection.ts';
import type { ExportHandle } from '../../src/nbd/export-catalog.ts';
import type { NbdLimits } from '../../src/nbd/limits.ts';
import type { Volume } from '../../src/volume/volume.ts';
import type { Engine } from './engine.ts';
import type { Life } from './process.ts';
import type { Wire } from './wire.ts';

export interface ServerSurroundings {
  readonly engine: Engine;
  readonly limits: Partial<NbdLimits>;
  readonly fail: (error: unknown) => void;
}

/** The product's own connections, over simulated wires, to the volume that a daemon has attached. */
export class SimulatedServer {
  private readonly volume: Volume;
  private readonly life: Life;
  private readonly around: ServerSurroundings;
  private readonly limits: NbdLimits;
  private readonly connections = new Set<Connection>();
  private readonly budget: InstanceType<Engine['ByteBudget']>;
  private readonly pool: InstanceType<Engine['BatchPool']>;
  private isLeaving = false;

  constructor(volume: Volume, life: Life, around: ServerSurroundings) {
    const { engine } = around;
    this.volume = volume;
    this.life = life;
    this.around = around;
    this.limits = engine.nbdLimits(around.limits);
    this.budget = new engine.ByteBudget(life.clock, this.limits.inFlightBytesTotal);
    this.pool = new engine.BatchPool();
  }

  /** Serves at its end of a wire. */
  serve(wire: Wire): void {
    const { engine } = this.around;
    const client = {
      stream: wire.server,
      receive: (chunk: LentBytes): void => chunk.release(),
    };
    wire.server.on('data', (bytes: Uint8Array) => {
      // What was received into is used again for something else as soon as it is let go.
      client.receive(new LentBytes(bytes, () => bytes.fill(0xdd)));
    });
    const connection = new engine.Connection(client, 'a client', {
      catalog: { list: () => Promise.resolve([]), open: (name) => this.open(name) },
      clock: this.life.clock,
      log: silentLog,
      limits: this.limits,
      budget: this.budget,
      pool: this.pool,
      tls: 'unsupported',
      maximumRequestBytes: this.limits.maximumRequestBytes,
      maximumContexts: this.limits.metaContexts,
      isShuttingDown: () => this.isLeaving,
    });
    this.connections.add(connection);
    void connection.released.then(() => this.connections.delete(connection));
  }

  /** Takes nothing more, answers what was asked, and resolves when nothing of it is under way. */
  async drain(): Promise<void> {
    this.isLeaving = true;
    for (const connection of this.connections) connection.drain();
    await Promise.all([...this.connections].map((connection) => connection.released));
    const { heldBytes } = this.budget;
    if (heldBytes > 0) {
      this.around.fail(new Error(`the server holds ${heldBytes} bytes for clients that are gone`));
    }
  }

  /** The volume for one connection, which must not let it go before its last request is over. */
  private open(name: string): Promise<ExportHandle> {
    let underWay = 0;
    const counted = <T>(done: T): T => {
      if (!(done instanceof Promise)) return done;
      underWay += 1;
      const settle = (): void => {
        underWay -= 1;
      };
      done.then(settle, settle);
      return done;
    };
    const { volume } = this;
    const device: BlockDevice = {
      get sizeBytes() {
        return volume.sizeBytes;
      },
      readOnly: volume.readOnly,
      preferredBlockBytes: volume.preferredBlockBytes,
      read: (offset, into) => counted(volume.read(offset, into)),
      write: (offset, from, options) => counted(volume.write(offset, from, options)),
      zero: (offset, lengthBytes, options) => counted(volume.zero(offset, lengthBytes, options)),
      trim: (offset, lengthBytes, options) => counted(volume.trim(offset, lengthBytes, options)),
      flush: () => counted(volume.flush()),
      prefetch: (offset, lengthBytes) => counted(volume.prefetch(offset, lengthBytes)),
      status: (offset, lengthBytes, most) => counted(volume.status(offset, lengthBytes, most)),
    };
    const close = (): Promise<void> => {
      if (underWay > 0) this.around.fail(new Error('a volume was let go with requests under way'));
      return Promise.resolve();
    };
    return Promise.resolve({ name, device, close });
  }
}
