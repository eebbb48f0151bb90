import { EventEmitter } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { Writable } from 'node:stream';
import { systemClock } from '../../base/clock.ts';
import { StorageError } from '../../base/errors.ts';
import type { ObjectStore } from '../../base/object-store.ts';
import { seededRandom } from '../../base/random.ts';
import { MemorySource } from '../../host/testing/memory-source.ts';
import { createLocalDisk } from '../../store/local-disk.ts';
import { createMemoryStore } from '../../store/memory-store.ts';
import { listVolumes } from '../../volume/catalog.ts';
import { contents } from '../contents.ts';
import type { Drivers, StoreRequest } from '../drivers.ts';
import { runProgram } from '../program.ts';

export class Capture extends Writable {
  text = '';
  #next = Promise.withResolvers<void>();

  /** Resolves when something is written after this was asked. */
  get written(): Promise<void> {
    return this.#next.promise;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    this.#next.resolve();
    this.#next = Promise.withResolvers();
    done();
  }
}

/** A machine for the program to run on: stores in memory by URL, signals that a test gives. */
export class TestMachine {
  readonly stdout = new Capture();
  readonly stderr = new Capture();
  readonly signals = new EventEmitter();
  readonly exits: number[] = [];
  standardInput = '';
  readonly requests: StoreRequest[] = [];
  readonly #stores = new Map<string, ObjectStore>();
  readonly #environment: Readonly<Record<string, string>>;
  readonly #workingDirectory: string;

  constructor(workingDirectory: string, environment: Readonly<Record<string, string>> = {}) {
    this.#workingDirectory = workingDirectory;
    this.#environment = environment;
  }

  /** The store that commands know by this URL. */
  storeAt(url: string): ObjectStore {
    const store = this.#stores.get(url) ?? createMemoryStore();
    this.#stores.set(url, store);
    return store;
  }

  /** Runs a command line and resolves with its exit status; the streams keep what it printed. */
  run(...argv: string[]): Promise<number> {
    this.stdout.text = '';
    this.stderr.text = '';
    this.signals.removeAllListeners();
    return runProgram(argv, contents, {
      streams: { stdout: this.stdout, stderr: this.stderr, stderrIsTerminal: false },
      environment: this.#environment,
      workingDirectory: this.#workingDirectory,
      version: '1.2.3',
      drivers: this.#drivers(),
      signals: {
        on: (signal, listener) => void this.signals.on(signal, listener),
        exit: (status) => {
          this.exits.push(status);
          throw new StorageError('internal', 'the process would be gone');
        },
      },
    });
  }

  #drivers(): Drivers {
    return {
      clock: systemClock,
      random: seededRandom(1),
      openStore: (request) => {
        this.requests.push(request);
        const store = this.storeAt(request.url);
        // What one command leaves in a store is there for the next.
        const named = { ...store, url: request.url, close: () => Promise.resolve() };
        const statistics = {
          ...{ requests: {}, errors: 0, bytesSent: 0, bytesReceived: 0 },
          ...{ inFlight: 0, operations: {} },
        };
        return Promise.resolve({ store: named, statistics: () => statistics });
      },
      createSource: ({ opened: { store } }) => {
        const source = new MemorySource(store.url, []);
        source.list = async () =>
          (
            await listVolumes(store, (_, error) => {
              throw error;
            })
          ).map(({ id, name, sizeBytes, writer, snapshots }) => ({
            ...{ id, name, sizeBytes, snapshots },
            holder: writer?.host,
          }));
        return source;
      },
      command: ['/usr/bin/node', '/opt/elasticdrive/bin/elasticdrive.js'],
      pid: 1,
      userId: 1000,
      readStandardInput: () => Promise.resolve(Buffer.from(this.standardInput)),
      notify: () => Promise.resolve(true),
      writeFile: (path, text) => writeFile(path, text),
      connect: () => Promise.reject(new Error('ECONNREFUSED')),
      openDisk: createLocalDisk,
      createServer: () => ({
        listen: (address) => Promise.resolve(address),
        adopt: (fd) => Promise.reject(new Error(`nothing was passed as ${fd}`)),
        drain: () => Promise.resolve(),
        disconnect: () => Promise.resolve(),
        close: () => Promise.resolve(),
        clients: () => [],
      }),
    };
  }
}
