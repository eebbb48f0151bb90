/** Runs client programs and servers as child processes, and never leaves one behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface RunOptions {
  readonly timeoutMs?: number;
  /** What the program reads from its standard input; nothing when not given. */
  readonly input?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly directory?: string;
  /** The exit statuses that are no failure. */
  readonly statuses?: readonly number[];
}

export interface ProgramResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

const children = new Set<ChildProcess>();
const directories = new Set<string>();
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});

/** Runs a program to its end. Fails, with all it said, when its exit status is not expected. */
export async function run(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<ProgramResult> {
  const { timeoutMs = 150_000, input, environment, directory, statuses = [0] } = options;
  const child = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
    ...(directory === undefined ? {} : { cwd: directory }),
  });
  children.add(child);
  child.stdin.on('error', () => undefined).end(input ?? '');
  const stdout = collect(child, 'stdout');
  const stderr = collect(child, 'stderr');
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  try {
    const [status, signal] = await ended(child);
    const result = { status: status ?? 128, stdout: stdout(), stderr: stderr() };
    if (status !== null && statuses.includes(status)) return result;
    const end = signal === null ? `status ${String(status)}` : `${signal} after ${timeoutMs} ms`;
    const said = `${result.stdout}${result.stderr}`.slice(-4_000);
    throw new Error(`${program} ${args.join(' ')}: ${end}\n${said}`);
  } finally {
    clearTimeout(timer);
    children.delete(child);
  }
}

/** A server that runs until it is stopped by the pid that it was started with. */
export class Server implements AsyncDisposable {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #log: () => string;
  readonly #end: Promise<readonly [number | null, NodeJS.Signals | null]>;

  constructor(program: string, args: readonly string[], options: RunOptions = {}) {
    this.name = [program, ...args].join(' ');
    this.#child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.environment },
      ...(options.directory === undefined ? {} : { cwd: options.directory }),
    });
    children.add(this.#child);
    const stdout = collect(this.#child, 'stdout');
    const stderr = collect(this.#child, 'stderr');
    this.#log = () => stdout() + stderr();
    this.#end = ended(this.#child);
    // Whoever stops the server hears of it; until then a failed start is no unhandled rejection.
    this.#end.catch(() => undefined);
  }

  get pid(): number {
    const { pid } = this.#child;
    if (pid === undefined) throw new Error(`${this.name}: did not start`);
    return pid;
  }

  get running(): boolean {
    return (
      this.#child.pid !== undefined &&
      this.#child.exitCode === null &&
      this.#child.signalCode === null
    );
  }

  /** All that the server has said so far. */
  get log(): string {
    return this.#log();
  }

  /** Waits until `ready` gives a value; fails when the server ends first or takes too long. */
  async until<T>(
    ready: () => Promise<T | undefined> | T | undefined,
    timeoutMs = 60_000,
  ): Promise<T> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const value = await ready();
      if (value !== undefined) return value;
      if (!this.running) throw new Error(`${this.name}: ended before it was ready\n${this.log}`);
      if (performance.now() > deadline) throw new Error(`${this.name}: not ready\n${this.log}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Sends a signal, waits for the end and gives the exit status; fails when it never ends. */
  stop(signal: NodeJS.Signals = 'SIGTERM', timeoutMs = 120_000): Promise<number> {
    this.#child.kill(signal);
    return this.ended(timeoutMs);
  }

  /** Waits for the end and gives the exit status, 128 after a signal; fails when it never ends. */
  async ended(timeoutMs = 120_000): Promise<number> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#child.kill('SIGKILL');
    }, timeoutMs);
    try {
      const [status] = await this.#end;
      if (late) throw new Error(`${this.name}: still there after ${timeoutMs} ms\n${this.log}`);
      return status ?? 128;
    } finally {
      clearTimeout(timer);
      children.delete(this.#child);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.running) await this.stop('SIGKILL');
  }
}

function collect(child: ChildProcess, name: 'stdout' | 'stderr'): () => string {
  const chunks: Buffer[] = [];
  child[name]?.on('data', (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString();
}

function ended(child: ChildProcess): Promise<readonly [number | null, NodeJS.Signals | null]> {
  return new Promise((resolve, reject) => {
    child.on('error', reject).on('close', (status, signal) => resolve([status, signal]));
  });
}

/** Whether somebody accepts connections on the Unix socket; for `Server.until`. */
export function accepts(socketPath: string): Promise<true | undefined> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    socket.on('error', () => resolve(undefined));
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}

/** A directory that is removed with all that is in it. Its path is short enough for sockets. */
export class TemporaryDirectory implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
    directories.add(path);
  }

  static async make(): Promise<TemporaryDirectory> {
    return new TemporaryDirectory(await mkdtemp(join(tmpdir(), 'elasticdrive-')));
  }

  join(...names: string[]): string {
    return join(this.path, ...names);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
    directories.delete(this.path);
  }
}
