/**
 * The real daemon, started as a user starts it and stopped by its pid. A state directory of its own
 * makes it another machine: nothing but the store is shared.
 */
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { accepts, type ProgramResult, run, Server } from './programs.ts';
import { requireSoundAt } from './sound-stores.ts';

/** A store that tests use: its URL, and what a process needs to reach it. */
export interface TestStore {
  readonly url: string;
  /** Flags such as `--s3-endpoint`. */
  readonly flags: readonly string[];
  /** Credentials; never in arguments. */
  readonly environment: Readonly<Record<string, string>>;
}

export function directoryStore(path: string): TestStore {
  return { url: `file://${path}`, flags: [], environment: {} };
}

export interface S3Account {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export function s3Store(url: string, account: S3Account): TestStore {
  return {
    url,
    flags: ['--s3-endpoint', account.endpoint],
    environment: {
      AWS_ACCESS_KEY_ID: account.accessKeyId,
      AWS_SECRET_ACCESS_KEY: account.secretAccessKey,
    },
  };
}

export interface DaemonOptions {
  /** Where the volumes are; a configuration file may say it instead. */
  readonly store?: TestStore;
  readonly configuration?: string;
  /** Credentials, where it is the configuration that says which store. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Directory for the state and the socket; made when it is not there. */
  readonly directory: string;
  readonly flags?: readonly string[];
  /** A measurement: what it served is not checked afterwards. */
  readonly unchecked?: true;
}

const command = resolve('bin/elasticdrive.js');

/** Runs one `elasticdrive` command to its end. */
export function elasticdrive(
  store: TestStore,
  args: readonly string[],
  statuses: readonly number[] = [0],
): Promise<ProgramResult> {
  const { environment } = store;
  return run(process.execPath, [command, ...args, ...store.flags], { environment, statuses });
}

export function createVolume(
  store: TestStore,
  name: string,
  size: string,
  ...flags: readonly string[]
): Promise<ProgramResult> {
  const where = ['--size', size, '--store', store.url];
  return elasticdrive(store, ['volume', 'create', name, ...where, ...flags]);
}

export class Daemon implements AsyncDisposable {
  readonly #server: Server;
  readonly #options: DaemonOptions;
  readonly socketPath: string;
  readonly port: number;

  private constructor(server: Server, options: DaemonOptions, socketPath: string, port: number) {
    this.#server = server;
    this.#options = options;
    this.socketPath = socketPath;
    this.port = port;
  }

  /** Starts a daemon that listens on a Unix socket and a port of 127.0.0.1; back when both answer. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const { store, configuration, directory, flags = [] } = options;
    await mkdir(directory, { recursive: true });
    const socketPath = join(directory, 'nbd.sock');
    const listen = ['--listen', `nbd+unix://${socketPath}`, '--listen', 'nbd://127.0.0.1:0'];
    const state = ['--state-dir', join(directory, 'state')];
    const from = [
      ...(store === undefined ? [] : ['--store', store.url, ...store.flags]),
      ...(configuration === undefined ? [] : ['--config', configuration]),
    ];
    const server = new Server(
      process.execPath,
      [command, 'serve', ...from, ...state, ...listen, ...flags],
      { environment: store?.environment ?? options.environment ?? {} },
    );
    try {
      const port = await server.until(() => /nbd:\/\/127\.0\.0\.1:(\d+)/.exec(server.log)?.[1]);
      await server.until(() => accepts(socketPath));
      return new Daemon(server, options, socketPath, Number(port));
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The NBD URI of an export on the Unix socket. */
  uri(exportName: string): string {
    return `nbd+unix:///${exportName}?socket=${this.socketPath}`;
  }

  get pid(): number {
    return this.#server.pid;
  }

  get log(): string {
    return this.#server.log;
  }

  /** Runs a command that asks this daemon. */
  command(...args: readonly string[]): Promise<ProgramResult> {
    const socket = join(this.#options.directory, 'state', 'control.sock');
    return run(process.execPath, [command, ...args, '--control-socket', socket]);
  }

  /** Waits until `ready` gives a value; fails, with all the daemon said, when it ends or never does. */
  until<T>(ready: () => Promise<T | undefined> | T | undefined, timeoutMs?: number): Promise<T> {
    return this.#server.until(ready, timeoutMs);
  }

  /** What `elasticdrive status --json` says. */
  async status(): Promise<unknown> {
    const { stdout } = await this.command('status', '--json');
    return JSON.parse(stdout);
  }

  /** Stops it cleanly: what was written is in the store when this is done. */
  async stop(): Promise<void> {
    const status = await this.#server.stop('SIGTERM');
    if (status !== 0) throw new Error(`the daemon ended with status ${status}\n${this.log}`);
  }

  /** Ends it as a crash would. */
  async crash(): Promise<void> {
    await this.#server.stop('SIGKILL');
  }

  /** After a test: a daemon that still runs must stop cleanly too, and what it served be sound. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server.running) await this.stop();
    const { store, unchecked } = this.#options;
    if (store !== undefined && unchecked === undefined) await requireSoundAt(store);
  }
}
