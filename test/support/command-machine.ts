/** Commands as users run them, on machines that share nothing but a store. */
import { join, resolve } from 'node:path';
import { createVolume, directoryStore, type TestStore } from './daemon.ts';
import { type ProgramResult, run, TemporaryDirectory } from './programs.ts';
import { requireSoundAt } from './sound-stores.ts';

const command = resolve('bin/elasticdrive.js');
/** What a command may end with: a test looks at which it was. */
const statuses = [0, 1, 2, 10, 11];

export class CommandMachines implements AsyncDisposable {
  readonly root: TemporaryDirectory;
  readonly store: TestStore;

  private constructor(root: TemporaryDirectory, store: TestStore) {
    this.root = root;
    this.store = store;
  }

  /** With a store in a directory, and in it a volume `data` of 64 MiB. */
  static async make(): Promise<CommandMachines> {
    const root = await TemporaryDirectory.make();
    const store = directoryStore(root.join('store'));
    await createVolume(store, 'data', '64MiB');
    return new CommandMachines(root, store);
  }

  /** Runs a command on the machine whose state directory is that. */
  on(machine: string, ...args: readonly string[]): Promise<ProgramResult> {
    const where = [
      '--store',
      this.store.url,
      '--state-dir',
      join(this.root.join(machine), 'state'),
    ];
    const environment = { HOME: this.root.path, XDG_CONFIG_HOME: '' };
    return run(process.execPath, [command, ...args, ...where], { environment, statuses });
  }

  /** Runs a command that asks the store alone. */
  storeOnly(...args: readonly string[]): Promise<ProgramResult> {
    const line = [command, ...args, '--store', this.store.url];
    return run(process.execPath, line, { statuses });
  }

  /** What is left in the store must be sound. */
  async [Symbol.asyncDispose](): Promise<void> {
    await requireSoundAt(this.store);
    await this.root[Symbol.asyncDispose]();
  }
}
