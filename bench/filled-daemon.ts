/** A daemon with a volume that is full of data, for loads that run beside something else that it does. */
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { createVolume, Daemon, directoryStore } from '../test/support/daemon.ts';
import type { TemporaryDirectory } from '../test/support/programs.ts';
import { fill, type Load, type Measurement, measure } from './measure.ts';

export interface FilledSettings {
  readonly secondsEach: number;
  readonly workingSetBytes: number;
}

interface Start {
  /** Of the daemon. */
  readonly flags?: readonly string[];
  /** Of `volume create`. */
  readonly make?: readonly string[];
}

interface Status {
  readonly volumes: readonly { readonly dirtyBytes: number }[];
}

export class FilledDaemon implements AsyncDisposable {
  private readonly daemon: Daemon;
  private readonly name: string;
  private readonly settings: FilledSettings;
  private readonly socketPath: string;

  private constructor(daemon: Daemon, name: string, settings: FilledSettings, socketPath: string) {
    this.daemon = daemon;
    this.name = name;
    this.settings = settings;
    this.socketPath = socketPath;
  }

  static async start(
    root: TemporaryDirectory,
    name: string,
    settings: FilledSettings,
    { flags = [], make = [] }: Start = {},
  ): Promise<FilledDaemon> {
    const store = directoryStore(root.join(`${name}-store`));
    await createVolume(store, name, String(settings.workingSetBytes), ...make);
    const directory = root.join(`${name}-host`);
    const daemon = await Daemon.start({ store, directory, flags: [...flags], unchecked: true });
    const socketPath = root.join(`${name}-host`, 'state', 'control.sock');
    const filled = new FilledDaemon(daemon, name, settings, socketPath);
    await filled.fill();
    return filled;
  }

  private fill(): Promise<void> {
    return fill({ uri: this.daemon.uri(this.name) }, this.settings.workingSetBytes);
  }

  /** Writes all of the volume in order, until it is in the store. Bytes a second. */
  async upload(): Promise<number> {
    const startedMs = performance.now();
    await this.fill();
    for (;;) {
      const { volumes } = (await this.status()) as Status;
      if (volumes.every(({ dirtyBytes }) => dirtyBytes === 0)) break;
      await sleep(20);
    }
    return (this.settings.workingSetBytes * 1000) / (performance.now() - startedMs);
  }

  /** 4K operations at random places, 32 at once. */
  load(kind: Load['kind']): Promise<Measurement> {
    const { secondsEach, workingSetBytes } = this.settings;
    const common = { blockBytes: 4096, depth: 32, rangeBytes: workingSetBytes };
    const load = { ...common, name: kind, kind, limit: { seconds: secondsEach } };
    return measure({ uri: this.daemon.uri(this.name) }, load);
  }

  status(): Promise<unknown> {
    return this.daemon.status();
  }

  /** Asks the daemon itself to do something with its volume: a command would take processor time. */
  ask(route: string, parameters: Readonly<Record<string, string>> = {}): Promise<void> {
    const query = new URLSearchParams({ volume: this.name, ...parameters });
    const { socketPath } = this;
    return new Promise((resolve, reject) => {
      const path = `/${route}?${query.toString()}`;
      const asked = request({ socketPath, path, method: 'POST' }, (answer) => {
        text(answer).then((body) => {
          if (answer.statusCode === 200) resolve();
          else reject(new Error(`the daemon answered ${answer.statusCode ?? 0}: ${body}`));
        }, reject);
      });
      asked.on('error', reject).end();
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.daemon[Symbol.asyncDispose]();
  }
}
