import { AssertionError } from '../../src/base/assert.ts';
import type { ObjectStore } from '../../src/base/object-store.ts';
import type { Random } from '../../src/base/random.ts';
import type { FaultPlan } from '../../src/store/with-faults.ts';
import { type Operation, wrapCalls } from '../../src/store/wrap-calls.ts';
import type { Engine } from './engine.ts';
import type { Life } from './process.ts';
import { chance, pick } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import type { Sealing } from './sealing.ts';
import type { Trace } from './trace.ts';

/** Whether the daemon has the product's own wrappers between itself and the network. */
export type Patience = 'none' | 'retry';

const longestPageKeys = 6;
const manifestName = '/manifest.json';
const namesPrefix = 'names/';

/** The object store and the network before it, shared by all hosts. */
export class SimulatedStore {
  readonly faults: FaultPlan;
  /** What is really there, without delay or fault: for the judge. */
  readonly truth: ObjectStore;
  /** As others than the hosts see it: sealed, where the volume is. */
  readonly raw: ObjectStore;
  readonly sealing: Sealing | undefined;
  /** Told of each name that was made, and whose id it leads to. */
  onNamed: (name: string, volumeId: string) => void = () => undefined;
  /** The volume that is meant, once it is known. */
  volumeId: string | undefined;
  /** One for each volume that is known; they share what is really there. */
  private readonly family: SimulatedStore[];
  private readonly weather: { hasErred: boolean };
  /** Told of each call when it gets there, and when it was done; fails it by throwing. */
  onCall: (name: Operation) => void = () => undefined;
  onDone: (name: Operation) => void = () => undefined;
  /** Told at the moment at which a writer takes the volume from another that had not given it up. */
  onTaken: (writerId: string) => void = () => undefined;
  /** Told of each manifest at the moment at which it is stored. */
  onManifest: (value: Uint8Array) => void = () => undefined;
  private writerId: string | undefined;
  /** Of the volume, as the manifest has it. */
  epoch = 0;
  sizeBytes = 0;
  private readonly engine: Engine;
  private readonly scheduler: Scheduler;
  private readonly random: Random;
  private readonly trace: Trace;

  /** With a `sibling`, the same store, in which another volume is meant. */
  constructor(
    engine: Engine,
    scheduler: Scheduler,
    random: Random,
    trace: Trace,
    sealing: Sealing | undefined,
    sibling?: SimulatedStore,
  ) {
    this.engine = engine;
    this.scheduler = scheduler;
    this.random = random;
    this.trace = trace;
    this.sealing = sibling?.sealing ?? sealing;
    this.raw = sibling?.raw ?? engine.createMemoryStore();
    this.truth = sibling?.truth ?? this.sealing?.over(this.raw, scheduler) ?? this.raw;
    this.faults = sibling?.faults ?? { delay: 1, maxDelayMs: 4 };
    this.weather = sibling?.weather ?? { hasErred: false };
    this.family = sibling?.family ?? [];
    this.family.push(this);
  }

  /** Whether anything was ever done wrong that a reader may notice. */
  get hasErred(): boolean {
    return this.weather.hasErred;
  }

  set hasErred(hasErred: boolean) {
    this.weather.hasErred = hasErred;
  }

  /** The volume is gone: a manifest that comes late, of a request given up long ago, is nobody's. */
  leave(): void {
    this.family.splice(this.family.indexOf(this), 1);
  }

  /** Looks at the manifest as it is at this moment. */
  async lookAt(volumeId: string): Promise<void> {
    this.volumeId = volumeId;
    const found = await this.truth.load(`volumes/${volumeId}${manifestName}`);
    if (found !== undefined) this.note(found.value);
  }

  /** The store as one life of a daemon sees it. */
  for(life: Life, patience: Patience): ObjectStore {
    const { random, engine } = this;
    const faulty = engine.withFaults(this.server(life), {
      clock: this.scheduler,
      random,
      plan: this.faults,
    });
    const copying: ObjectStore = {
      ...faulty,
      // What is on its way may arrive when its sender has long used the memory for something else.
      put: (key, parts, options) =>
        faulty.put(
          key,
          parts.map((part) => part.slice()),
          options,
        ),
    };
    const wire = wrapCalls(copying, (call) => {
      this.trace.add(call.operation, call.key, call.sentBytes);
      return life.receive(call.make());
    });
    const sealed = (store: ObjectStore): ObjectStore =>
      this.sealing?.over(store, life.clock) ?? store;
    if (patience === 'none') return sealed(wire);
    const limits = { reads: 4, writes: 3, registers: 2 };
    const retrying = engine.withRetry(engine.withConcurrencyLimit(wire, limits), {
      clock: life.clock,
      random,
      baseDelayMs: 2,
      maxDelayMs: 500,
      deadlineMs: 5000,
    });
    return sealed(retrying);
  }

  /** What happens at the store itself, when a request gets there. */
  private server(life: Life): ObjectStore {
    const { raw, random, trace, scheduler } = this;
    const served = wrapCalls(raw, async (call) => {
      // Some of what a killed daemon had asked for was still in its own buffers.
      if (!life.isAlive && chance(random, 0.5)) return new Promise(() => undefined);
      trace.add('served', call.key, call.sentBytes);
      this.onCall(call.operation);
      try {
        const result = await call.make();
        this.onDone(call.operation);
        return result;
      } catch (error) {
        // The memory store asserts what the engine must never do, such as another object of one key.
        if (error instanceof AssertionError) scheduler.fail(error);
        throw error;
      }
    });
    return {
      ...served,
      put: (key, parts, options) => {
        this.sealing?.put(key, parts);
        return served.put(key, parts, options);
      },
      swap: async (key, expected, value, options) => {
        const version = await served.swap(key, expected, value, options);
        if (version !== undefined) this.noteSwap(key, value);
        return version;
      },
      list: (prefix, options = {}) => {
        // Pages are short, so that a listing of several is taken while the store changes.
        const longest = chance(random, 0.3) ? 1 + pick(random, longestPageKeys) : 1000;
        const maxKeys = Math.min(longest, options.maxKeys ?? longest);
        return served.list(prefix, { ...options, maxKeys });
      },
    };
  }

  /** Tells those of a register that they know. */
  private noteSwap(key: string, value: Uint8Array): void {
    const { id } = JSON.parse(Buffer.from(value).toString()) as { id: string };
    if (key.endsWith(manifestName)) {
      for (const each of this.family) if (each.volumeId === id) each.note(value);
    } else if (key.startsWith(namesPrefix)) {
      for (const each of this.family) each.onNamed(key.slice(namesPrefix.length), id);
    }
  }

  private note(manifest: Uint8Array): void {
    this.noteWriter(manifest);
    this.onManifest(manifest);
  }

  private noteWriter(manifest: Uint8Array): void {
    const { writer, epoch, sizeBytes } = JSON.parse(Buffer.from(manifest).toString()) as {
      writer: { readonly id: string } | null;
      epoch: number;
      sizeBytes: number;
    };
    this.epoch = epoch;
    this.sizeBytes = sizeBytes;
    const before = this.writerId;
    this.writerId = writer?.id;
    if (before !== undefined && writer !== null && before !== writer.id) this.onTaken(writer.id);
  }
}
