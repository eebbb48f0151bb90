/** An export as a block device of this host: nbdfuse makes it a file, a loop device makes that a disk. */
import { mkdir } from 'node:fs/promises';
import { run, Server } from './programs.ts';
import { missingKernelFeature, missingPrograms, missingRoot } from './requirements.ts';

/** Why there is no such device here, or `undefined`. */
export function missingHostDisk(): string | undefined {
  return (
    missingRoot() ??
    missingKernelFeature('fuse') ??
    missingKernelFeature('loop') ??
    missingPrograms({ nbdfuse: 'libnbd-bin', fusermount3: 'fuse3', losetup: 'mount' })
  );
}

export class HostDisk implements AsyncDisposable {
  readonly device: string;
  readonly #directory: string;
  readonly #server: Server;
  readonly #mounts: string[] = [];

  private constructor(device: string, directory: string, server: Server) {
    this.device = device;
    this.#directory = directory;
    this.#server = server;
  }

  /** `directory` is made when it is not there; it is the file's place while the disk is attached. */
  static async attach(uri: string, directory: string): Promise<HostDisk> {
    await mkdir(directory, { recursive: true });
    const file = `${directory}/disk`;
    const server = new Server('nbdfuse', [file, uri]);
    try {
      await server.until(() =>
        run('stat', [file])
          .then(() => true)
          .catch(() => undefined),
      );
      const { stdout } = await run('losetup', ['--find', '--show', file]);
      return new HostDisk(stdout.trim(), directory, server);
    } catch (error) {
      await run('fusermount3', ['-u', directory], { statuses: [0, 1] });
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** `directory` is made when it is not there. */
  async mount(directory: string, options: string): Promise<void> {
    await mkdir(directory, { recursive: true });
    await run('mount', ['-o', options, this.device, directory]);
    this.#mounts.push(directory);
  }

  async unmount(): Promise<void> {
    for (const directory of this.#mounts.splice(0).reverse()) await run('umount', [directory]);
  }

  /** Also of a disk whose server is gone: what was not written is lost then. */
  async detach(): Promise<void> {
    await this.unmount();
    await run('losetup', ['--detach', this.device]);
    await run('fusermount3', ['-u', this.#directory], { statuses: [0, 1] });
    await this.#server.ended();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server.running) await this.detach();
  }
}
