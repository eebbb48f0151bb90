import { StorageError } from '../../src/base/errors.ts';
import type { LocalDisk, LocalFile } from '../../src/base/local-disk.ts';
import type { Random } from '../../src/base/random.ts';

/** One write that a crash may still undo. */
export interface UnsyncedWrite {
  readonly position: number;
  readonly bytes: Uint8Array;
  /** It survives; what was written to the same place before it does not come back. */
  durable: boolean;
}

/** Whether a crash keeps a sector of the unsynced write of that number, counted over the whole disk. */
export type SectorChoice = (write: number) => boolean;

const chunkBytes = 4096;
const sectorBytes = 512;
const zeroes = new Uint8Array(chunkBytes);

/** Bytes of a file, chunk by chunk; a chunk of zeroes takes nothing. */
class Content {
  readonly chunks = new Map<number, Uint8Array>();
  sizeBytes = 0;

  /** Writes; a chunk that `other` holds too is copied first. */
  write(position: number, bytes: Uint8Array, other: Content): void {
    this.sizeBytes = Math.max(this.sizeBytes, position + bytes.byteLength);
    for (let done = 0; done < bytes.byteLength; ) {
      const index = Math.floor((position + done) / chunkBytes);
      const start = position + done - index * chunkBytes;
      const part = bytes.subarray(done, done + Math.min(chunkBytes - start, bytes.byteLength));
      done += part.byteLength;
      let chunk = this.chunks.get(index);
      if (chunk === undefined) {
        if (Buffer.compare(part, zeroes.subarray(0, part.byteLength)) === 0) continue;
        chunk = new Uint8Array(chunkBytes);
        this.chunks.set(index, chunk);
      } else if (chunk === other.chunks.get(index)) {
        chunk = chunk.slice();
        this.chunks.set(index, chunk);
      }
      chunk.set(part, start);
    }
  }

  read(position: number, into: Uint8Array): void {
    for (let done = 0; done < into.byteLength; ) {
      const index = Math.floor((position + done) / chunkBytes);
      const start = position + done - index * chunkBytes;
      const length = Math.min(chunkBytes - start, into.byteLength - done);
      const chunk = this.chunks.get(index);
      if (chunk === undefined) into.fill(0, done, done + length);
      else into.set(chunk.subarray(start, start + length), done);
      done += length;
    }
  }

  /** Has the same bytes as `other` in a range; a later write to either copies first. */
  share(other: Content, position: number, lengthBytes: number): void {
    this.sizeBytes = Math.max(this.sizeBytes, position + lengthBytes);
    const last = Math.floor((position + lengthBytes - 1) / chunkBytes);
    for (let index = Math.floor(position / chunkBytes); index <= last; index += 1) {
      const chunk = other.chunks.get(index);
      if (chunk !== undefined) this.chunks.set(index, chunk);
    }
  }

  /** Becomes what `other` is, chunks and all; a later write to either copies first. */
  become(other: Content): void {
    this.chunks.clear();
    for (const [index, chunk] of other.chunks) this.chunks.set(index, chunk);
    this.sizeBytes = other.sizeBytes;
  }
}

/** A file: what is read from it, and what of that would survive. */
export class DiskFile {
  /** Whether the file's name survives a crash. */
  isNamed = true;
  private readonly durable = new Content();
  private readonly current = new Content();
  private unsynced: UnsyncedWrite[] = [];

  get sizeBytes(): number {
    return this.current.sizeBytes;
  }

  get unsyncedCount(): number {
    return this.unsynced.length;
  }

  /** The last write that a sync which begins now makes durable. */
  get lastUnsynced(): UnsyncedWrite | undefined {
    return this.unsynced.at(-1);
  }

  write(position: number, bytes: Uint8Array): UnsyncedWrite {
    this.current.write(position, bytes, this.durable);
    const write = { position, bytes: bytes.slice(), durable: false };
    this.unsynced.push(write);
    return write;
  }

  read(position: number, into: Uint8Array): void {
    this.current.read(position, into);
  }

  /** Makes the unsynced writes durable, in order, up to the one that was the last when it began. */
  sync(upTo = this.lastUnsynced): void {
    const count = upTo === undefined ? 0 : this.unsynced.indexOf(upTo) + 1;
    const isAll = count === this.unsynced.length;
    for (const { position, bytes } of this.unsynced.splice(0, count)) {
      if (isAll) this.durable.share(this.current, position, bytes.byteLength);
      else this.durable.write(position, bytes, this.current);
    }
  }

  /** What a failed sync may do: none of it will ever be durable, though it is still read. */
  loseUnsynced(): void {
    this.unsynced = [];
  }

  /** Keeps the sectors that `keeps` chooses of what was not synced, and forgets the rest. */
  losePower(keeps: SectorChoice, firstWrite: number): void {
    let number = firstWrite - 1;
    for (const { position, bytes, durable } of this.unsynced) {
      number += 1;
      for (let at = 0; at < bytes.byteLength; ) {
        const next = (Math.floor((position + at) / sectorBytes) + 1) * sectorBytes - position;
        const end = Math.min(bytes.byteLength, next);
        if (durable || keeps(number)) {
          this.durable.write(position + at, bytes.subarray(at, end), this.current);
        }
        at = end;
      }
    }
    this.unsynced = [];
    this.current.become(this.durable);
  }

  flipBit(position: number, bit = 0): void {
    const byte = new Uint8Array(1);
    for (const [content, other] of [
      [this.current, this.durable],
      [this.durable, this.current],
    ] as const) {
      content.read(position, byte);
      byte[0] = (byte[0] ?? 0) ^ (1 << bit);
      content.write(position, byte, other);
    }
  }

  whole(): Uint8Array {
    const bytes = new Uint8Array(this.current.sizeBytes);
    this.current.read(0, bytes);
    return bytes;
  }
}

/**
 * What lies on a local disk: files and names. Making and renaming one is durable; removing one is not
 * until the next time that one in the same directory is made.
 */
export class DiskContent {
  private readonly files = new Map<string, DiskFile>();
  /** Removed names that a crash may bring back. */
  private readonly removed = new Map<string, DiskFile>();

  get usedBytes(): number {
    let bytes = 0;
    for (const file of this.files.values()) bytes += file.sizeBytes;
    return bytes;
  }

  create(path: string): DiskFile {
    const file = new DiskFile();
    this.put(path, file);
    return file;
  }

  private put(path: string, file: DiskFile): void {
    this.files.set(path, file);
    const directory = directoryOf(path);
    for (const gone of [...this.removed.keys()]) {
      if (directoryOf(gone) === directory) this.removed.delete(gone);
    }
  }

  find(path: string): DiskFile | undefined {
    return this.files.get(path);
  }

  require(path: string): DiskFile {
    const file = this.files.get(path);
    if (file === undefined) throw new StorageError('not-found', `There is no ${path}.`);
    return file;
  }

  list(directory: string): string[] {
    const prefix = `${directory}/`;
    const names = new Set<string>();
    for (const path of this.files.keys()) {
      if (path.startsWith(prefix)) names.add(path.slice(prefix.length).split('/')[0] ?? '');
    }
    return [...names].sort();
  }

  replace(path: string, bytes: Uint8Array): void {
    const file = new DiskFile();
    file.write(0, bytes);
    file.sync();
    this.put(path, file);
  }

  rename(from: string, to: string): void {
    for (const [path, file] of [...this.files]) {
      if (path !== from && !path.startsWith(`${from}/`)) continue;
      this.files.delete(path);
      this.put(to + path.slice(from.length), file);
    }
  }

  remove(path: string): void {
    for (const [known, file] of [...this.files]) {
      if (known !== path && !known.startsWith(`${path}/`)) continue;
      this.files.delete(known);
      this.removed.set(known, file);
    }
  }

  losePower(keeps: SectorChoice): void {
    let write = 0;
    for (const [path, file] of this.removed) if (keeps(write)) this.files.set(path, file);
    this.removed.clear();
    for (const [path, file] of [...this.files]) {
      const { unsyncedCount } = file;
      file.losePower(keeps, write);
      write += unsyncedCount;
      if (!file.isNamed && !keeps(write)) this.files.delete(path);
      file.isNamed = true;
    }
  }

  paths(): string[] {
    return [...this.files.keys()].sort();
  }

  get unsyncedCount(): number {
    let count = 0;
    for (const file of this.files.values()) count += file.unsyncedCount;
    return count;
  }
}

function directoryOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/') + 1);
}

/** A local disk in memory, without delay or fault, that can lose power. */
export class MemoryDisk implements LocalDisk {
  private readonly content = new DiskContent();
  /** Counts up at a crash: what was opened before is dead. */
  private life = 0;

  async open(path: string, { create }: { readonly create: boolean }): Promise<LocalFile> {
    const file = create ? this.content.create(path) : this.content.require(path);
    return this.handle(file, path);
  }

  private handle(file: DiskFile, path: string): LocalFile {
    const born = this.life;
    const requireAlive = (): void => {
      if (this.life !== born) throw new StorageError('local-io', `${path} is gone with its host.`);
    };
    const alive = async (): Promise<void> => {
      await Promise.resolve();
      requireAlive();
    };
    return {
      write: async (parts, position) => {
        await alive();
        file.write(position, Buffer.concat(parts));
      },
      writeHere: (bytes, position) => {
        requireAlive();
        file.write(position, bytes);
      },
      writeDurably: async (parts, position) => {
        await alive();
        file.write(position, Buffer.concat(parts)).durable = true;
      },
      read: async (into, position) => {
        await alive();
        requireBytes(file, path, position + into.byteLength);
        file.read(position, into);
      },
      sync: async () => {
        await alive();
        file.sync();
      },
      sizeBytes: async () => file.sizeBytes,
      close: async () => undefined,
    };
  }

  async list(directory: string): Promise<string[]> {
    return this.content.list(directory);
  }

  async readFile(path: string): Promise<Uint8Array | undefined> {
    return this.content.find(path)?.whole();
  }

  async replaceFile(path: string, bytes: Uint8Array): Promise<void> {
    this.content.replace(path, bytes);
  }

  async rename(from: string, to: string): Promise<void> {
    this.content.rename(from, to);
  }

  async remove(path: string): Promise<void> {
    this.content.remove(path);
  }

  /** Ends the host's process; the page cache survives. */
  kill(): void {
    this.life += 1;
  }

  /** Cuts the power: unsynced writes survive sector by sector, as `random` has it. */
  losePower(random: Random): void {
    this.life += 1;
    this.content.losePower(() => random.fraction() < 0.5);
  }

  /** Flips one bit of what is on the disk. */
  flipBit(path: string, position: number): void {
    this.content.require(path).flipBit(position);
  }

  paths(): string[] {
    return this.content.paths();
  }
}

/** Throws, as a disk does, when a file ends before `endByte`. */
export function requireBytes(file: DiskFile, path: string, endByte: number): void {
  if (endByte > file.sizeBytes) throw new StorageError('local-io', `${path} is too short.`);
}
