import { spawn } from 'node:child_process';
import { mkdir, rename } from 'node:fs/promises';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { existsSync } from 'node:fs';
import { run } from '../support/programs.ts';

const directories = ['/usr/libexec', '/usr/lib/x86_64-linux-gnu', '/usr/lib/tang'];
const pathOf = (name: string): string | undefined =>
  directories.map((directory) => `${directory}/${name}`).find((path) => existsSync(path));

/** Debian's tangd, which systemd starts for each connection, behind a loopback port. */
export class TangServer implements AsyncDisposable {
  readonly url: string;
  readonly #directory: string;
  readonly #server: Server;
  readonly #requests: string[] = [];

  private constructor(directory: string, server: Server, requests: string[]) {
    this.#directory = directory;
    this.#server = server;
    this.#requests = requests;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  /** Why there is none, or `undefined` when it can be started. */
  static get missing(): string | undefined {
    return pathOf('tangd') === undefined
      ? 'missing program: tangd (on Debian: apt-get install --no-install-recommends tang)'
      : undefined;
  }

  static async start(directory: string): Promise<TangServer> {
    await mkdir(directory, { recursive: true });
    await run(pathOf('tangd-keygen') ?? '', [directory]);
    const requests: string[] = [];
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      const tangd = spawn(pathOf('tangd') ?? '', [directory], { stdio: 'pipe' });
      socket.on('data', (part: Buffer) => requests.push(part.toString()));
      socket.on('error', () => tangd.kill());
      tangd.stdin.on('error', () => undefined);
      tangd.stderr.resume();
      socket.pipe(tangd.stdin);
      tangd.stdout.pipe(socket);
      socket.on('close', () => tangd.kill());
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new TangServer(directory, server, requests);
  }

  /** What it was sent, all of it. */
  get received(): string {
    return this.#requests.join('');
  }

  /** As an administrator does: new keys, and the old ones are kept but not advertised. */
  async rotateKeys(): Promise<void> {
    await run(pathOf('tangd-rotate-keys') ?? '', ['-d', this.#directory]);
  }

  /** Its keys are gone, also for those who had them. */
  async loseKeys(): Promise<void> {
    await rename(this.#directory, `${this.#directory}.lost`);
    await mkdir(this.#directory);
    await run(pathOf('tangd-keygen') ?? '', [this.#directory]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    await once(this.#server, 'close');
  }
}
