import { StorageError } from '../../src/base/errors.ts';
import type { LocalDisk, LocalFile } from '../../src/base/local-disk.ts';
import type { Random } from '../../src/base/random.ts';
import {
  DiskContent,
  type DiskFile,
  requireBytes,
  type SectorChoice,
} from '../support/memory-disk.ts';
import type { Life } from './process.ts';
import { chance, pick } from './random.ts';
import type { Trace } from './trace.ts';

/** What a local disk does wrong, and how often; its owner may change it at any time. */
export interface DiskFaults {
  /** Share of calls that fail with an I/O error. */
  readErrors: number;
  writeErrors: number;
  syncErrors: number;
  /** Share of reads that give one bit changed. */
  flippedReads: number;
  /** Share of the jobs of the host's worker threads that end with their thread. */
  lostThreads: number;
  capacityBytes: number;
  maximumDelayMs: number;
}

export function soundDisk(): DiskFaults {
  return {
    readErrors: 0,
    writeErrors: 0,
    syncErrors: 0,
    flippedReads: 0,
    lostThreads: 0,
    capacityBytes: Number.POSITIVE_INFINITY,
    maximumDelayMs: 0.4,
  };
}

/** A call that takes this many times as long as others now and then. */
const slowFactor = 50;
const slowShare = 0.01;
const partBytes = 4096;

let lastDisk = 0;

/** A host's disk: outlives the daemons, takes time, fails as its faults say, and can lose power. */
export class SimulatedDisk {
  readonly faults = soundDisk();
  /** Names the disk; another one in its place has another name. */
  readonly id: number;
  content = new DiskContent();
  /** Counts up when the power is lost: what was under way is void. */
  private boots = 0;
  /** Whether anything was ever done wrong that a client may notice. */
  hasErred = false;
  /** A sync has failed and taken what it could not write for written: nothing it says counts. */
  isLying = false;
  /** While a journal is taken over its reads are true: what else they said would be lost with it. */
  isTrue = true;
  /** Told of each call when it is to happen; fails it by throwing. */
  onCall: (name: string) => void = () => undefined;
  /** Told when a bit of a journal file is not what was written: it may be what ends its segment. */
  onRot: () => void = () => undefined;
  /** Told of each write, as it is to be. */
  onWrite: (path: string, bytes: Uint8Array, position: number) => void = () => undefined;
  private readonly random: Random;
  private readonly trace: Trace;

  constructor(random: Random, trace: Trace) {
    lastDisk += 1;
    this.id = lastDisk;
    this.random = random;
    this.trace = trace;
  }

  /** Cuts the power; of what was not synced, those sectors stay that `keeps` says, or any. */
  losePower(keeps?: SectorChoice): void {
    this.boots += 1;
    const share = [0, 0.1, 0.5, 0.9, 1][pick(this.random, 5)] as number;
    this.content.losePower(keeps ?? (() => chance(this.random, share)));
  }

  flipBit(path: string): void {
    const file = this.content.require(path);
    if (file.sizeBytes === 0) return;
    this.hasErred = true;
    this.onRot();
    file.flipBit(pick(this.random, file.sizeBytes), pick(this.random, 8));
  }

  /** The disk as one life of a daemon sees it. */
  for(life: Life): LocalDisk {
    const call = <T>(name: string, path: string, perform: () => T): Promise<T> =>
      this.call(life, name, path, 0, () => {
        const result = perform();
        return () => result;
      });
    return {
      open: (path, { create }) =>
        this.call(life, create ? 'create' : 'open', path, 0, () => {
          this.mayFail(create ? 'writeErrors' : 'readErrors', path);
          if (!create) {
            const found = this.content.require(path);
            return () => this.handle(life, path, found);
          }
          const made = this.content.create(path);
          made.isNamed = false;
          return () => {
            made.isNamed = true;
            return this.handle(life, path, made);
          };
        }),
      list: (path) => call('list', path, () => this.content.list(path)),
      readFile: (path) =>
        call('readFile', path, () => {
          this.mayFail('readErrors', path);
          return this.content.find(path)?.whole();
        }),
      replaceFile: (path, bytes) =>
        call('replaceFile', path, () => {
          this.mayFail('writeErrors', path);
          const before = this.content.find(path)?.sizeBytes ?? 0;
          this.reserve(bytes.byteLength - before, path);
          this.content.replace(path, bytes);
        }),
      rename: (from, to) => call('rename', from, () => this.content.rename(from, to)),
      remove: (path) => call('remove', path, () => this.content.remove(path)),
    };
  }

  private handle(life: Life, path: string, file: DiskFile): LocalFile {
    life.openFiles += 1;
    const write = (name: string, parts: readonly Uint8Array[], position: number): Promise<void> => {
      const bytes = Buffer.concat(parts);
      return this.call(life, name, path, position, () => {
        this.mayFail('writeErrors', path);
        this.reserve(position + bytes.byteLength - file.sizeBytes, path);
        this.onWrite(path, bytes, position);
        const part = this.survivingPart(life, bytes);
        const written = file.write(position, part);
        return () => {
          if (name === 'writeDurably') written.durable = true;
        };
      });
    };
    return {
      write: (parts, position) => write('write', parts, position),
      writeHere: (bytes, position) => {
        this.trace.add('writeHere', path, position);
        this.onCall('writeHere');
        this.mayFail('writeErrors', path);
        this.reserve(position + bytes.byteLength - file.sizeBytes, path);
        this.onWrite(path, bytes, position);
        file.write(position, bytes);
      },
      writeDurably: (parts, position) => write('writeDurably', parts, position),
      read: (into, position) =>
        this.call(life, 'read', path, position, () => {
          this.mayFail('readErrors', path);
          requireBytes(file, path, position + into.byteLength);
          file.read(position, into);
          this.mayFlip(into, path);
          return () => undefined;
        }),
      sync: () =>
        this.call(life, 'sync', path, 0, () => {
          const last = file.lastUnsynced;
          if (this.happens('syncErrors')) {
            // The kernel reports it once, and takes what it could not write for written.
            if (chance(this.random, 0.5)) {
              file.loseUnsynced();
              this.isLying = true;
              this.onRot();
            }
            throw failed(path);
          }
          return () => {
            if (last !== undefined) file.sync(last);
          };
        }),
      sizeBytes: () => this.call(life, 'size', path, 0, () => () => file.sizeBytes),
      close: () =>
        this.call(life, 'close', path, 0, () => {
          life.openFiles -= 1;
          return () => undefined;
        }),
    };
  }

  /** One call: what it does happens in its middle, and is void when the power went meanwhile. */
  private call<T>(
    life: Life,
    name: string,
    path: string,
    position: number,
    perform: () => () => T,
  ): Promise<T> {
    const { boots } = this;
    this.trace.add(name, path, position);
    const isSlow = chance(this.random, slowShare);
    const delayMs = this.faults.maximumDelayMs * (isSlow ? slowFactor : 1);
    const before = this.random.fraction() * delayMs;
    return life.operation(before, this.random.fraction() * delayMs, () => {
      const isVoid = boots !== this.boots || (!life.isAlive && chance(this.random, 0.5));
      if (isVoid) return () => undefined as T;
      this.onCall(name);
      const complete = perform();
      return () => (boots === this.boots ? complete() : (undefined as T));
    });
  }

  /** A write that is under way when its process is killed may end early. */
  private survivingPart(life: Life, bytes: Uint8Array): Uint8Array {
    if (life.isAlive) return bytes;
    const parts = Math.ceil(bytes.byteLength / partBytes);
    return bytes.subarray(0, pick(this.random, parts + 1) * partBytes);
  }

  private reserve(addedBytes: number, path: string): void {
    if (addedBytes <= 0) return;
    if (this.content.usedBytes + addedBytes <= this.faults.capacityBytes) return;
    this.hasErred = true;
    throw new StorageError('no-space', `The simulated disk is full at ${path}.`);
  }

  private happens(fault: 'readErrors' | 'writeErrors' | 'syncErrors' | 'flippedReads'): boolean {
    const rate = this.faults[fault];
    if (rate === 0 || this.random.fraction() >= rate) return false;
    this.hasErred = true;
    this.trace.add(fault, '', 0);
    return true;
  }

  private mayFail(fault: 'readErrors' | 'writeErrors', path: string): void {
    if (this.happens(fault)) throw failed(path);
  }

  private mayFlip(bytes: Uint8Array, path: string): void {
    const isJournal = path.endsWith('.journal');
    if (bytes.byteLength === 0 || (isJournal && this.isTrue)) return;
    if (!this.happens('flippedReads')) return;
    if (isJournal) this.onRot();
    const at = pick(this.random, bytes.byteLength);
    bytes[at] = (bytes[at] as number) ^ (1 << pick(this.random, 8));
  }
}

function failed(path: string): StorageError {
  return new StorageError('local-io', `The simulated disk failed at ${path}.`);
}
