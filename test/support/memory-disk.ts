import { StorageError } from '../../src/base/errors.ts';
import type { LocalDisk, LocalFile } from '../../src/base/local-disk.ts';
import type { Random } from '../../src/base/random.ts';

interface Write {
  readonly position: number;
  readonly bytes: Uint8Array;
  /** It survives; what was written to the same place before it does not come back. */
  readonly durable: boolean;
}

const chunkBytes = 65_536;
const zeroes = new Uint8Array(chunkBytes);

/** Bytes of a file, chunk by chunk; a chunk of zeroes takes nothing. */
class Content {
  private readonly chunks = new Map<number, Uint8Array>();
  sizeBytes = 0;

  write(position: number, bytes: Uint8Array): void {
    this.sizeBytes = Math.max(this.sizeBytes, position + bytes.byteLength);
    this.eachPart(position, bytes.byteLength, (index, from, start, end) => {
      const part = bytes.subarray(from, from + end - start);
      let chunk = this.chunks.get(index);
      if (chunk === undefined) {
        if (Buffer.compare(part, zeroes.subarray(0, part.byteLength)) === 0) return;
        chunk = new Uint8Array(chunkBytes);
        this.chunks.set(index, chunk);
      }
      chunk.set(part, start);
    });
  }

  read(position: number, into: Uint8Array): void {
    this.eachPart(position, into.byteLength, (index, from, start, end) => {
      const chunk = this.chunks.get(index);
      if (chunk === undefined) into.fill(0, from, from + end - start);
      else into.set(chunk.subarray(start, end), from);
    });
  }

  copy(): Content {
    const copy = new Content();
    for (const [index, chunk] of this.chunks) copy.chunks.set(index, chunk.slice());
    copy.sizeBytes = this.sizeBytes;
    return copy;
  }

  /** Visits the chunks of a range: its index, where its part lies in the range, and in the chunk. */
  private eachPart(
    position: number,
    lengthBytes: number,
    visit: (index: number, from: number, start: number, end: number) => void,
  ): void {
    for (let done = 0; done < lengthBytes; ) {
      const index = Math.floor((position + done) / chunkBytes);
      const start = position + done - index * chunkBytes;
      const end = Math.min(chunkBytes, start + lengthBytes - done);
      visit(index, done, start, end);
      done += end - start;
    }
  }
}

class MemoryFile {
  durable = new Content();
  current = new Content();
  unsynced: Write[] = [];

  write(position: number, bytes: Uint8Array, durable = false): void {
    this.current.write(position, bytes);
    this.unsynced.push({ position, bytes: bytes.slice(), durable });
  }

  sync(): void {
    for (const { position, bytes } of this.unsynced) this.durable.write(position, bytes);
    this.unsynced = [];
  }

  whole(): Uint8Array {
    const bytes = new Uint8Array(this.current.sizeBytes);
    this.current.read(0, bytes);
    return bytes;
  }
}

/**
 * A local disk in memory that can lose power: of what was written since the last sync of a file, a
 * crash keeps any sectors and loses the others.
 */
export class MemoryDisk implements LocalDisk {
  private files = new Map<string, MemoryFile>();
  /** Counts up at a crash: what was opened before is dead. */
  private life = 0;

  async open(path: string, { create }: { readonly create: boolean }): Promise<LocalFile> {
    let file = this.files.get(path);
    if (create) {
      file = new MemoryFile();
      this.files.set(path, file);
    }
    if (file === undefined) throw new StorageError('not-found', `There is no ${path}.`);
    return this.handle(file, path);
  }

  private handle(file: MemoryFile, path: string): LocalFile {
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
        let at = position;
        for (const part of parts) {
          file.write(at, part);
          at += part.byteLength;
        }
      },
      writeHere: (bytes, position) => {
        requireAlive();
        file.write(position, bytes);
      },
      writeDurably: async (parts, position) => {
        await alive();
        file.write(position, Buffer.concat(parts), true);
      },
      read: async (into, position) => {
        await alive();
        if (position + into.byteLength > file.current.sizeBytes) {
          throw new StorageError('local-io', `${path} is too short.`);
        }
        file.current.read(position, into);
      },
      sync: async () => {
        await alive();
        file.sync();
      },
      sizeBytes: async () => file.current.sizeBytes,
      close: async () => undefined,
    };
  }

  async list(directory: string): Promise<string[]> {
    const prefix = `${directory}/`;
    const names = new Set<string>();
    for (const path of this.files.keys()) {
      if (path.startsWith(prefix)) names.add(path.slice(prefix.length).split('/')[0] ?? '');
    }
    return [...names].sort();
  }

  async readFile(path: string): Promise<Uint8Array | undefined> {
    return this.files.get(path)?.whole();
  }

  async replaceFile(path: string, bytes: Uint8Array): Promise<void> {
    const file = new MemoryFile();
    file.write(0, bytes);
    file.sync();
    this.files.set(path, file);
  }

  async rename(from: string, to: string): Promise<void> {
    for (const [path, file] of [...this.files]) {
      if (path !== from && !path.startsWith(`${from}/`)) continue;
      this.files.delete(path);
      this.files.set(to + path.slice(from.length), file);
    }
  }

  async remove(path: string): Promise<void> {
    for (const known of [...this.files.keys()]) {
      if (known === path || known.startsWith(`${path}/`)) this.files.delete(known);
    }
  }

  /** Ends the host's process; the page cache survives. */
  kill(): void {
    this.life += 1;
  }

  /** Cuts the power: unsynced writes survive sector by sector, as `random` has it. */
  losePower(random: Random): void {
    this.life += 1;
    for (const file of this.files.values()) {
      for (const { position, bytes, durable } of file.unsynced) {
        for (let at = 0; at < bytes.byteLength; ) {
          const sectorEnd = (Math.floor((position + at) / 512) + 1) * 512 - position;
          const end = Math.min(bytes.byteLength, sectorEnd);
          if (durable || random.fraction() < 0.5)
            file.durable.write(position + at, bytes.subarray(at, end));
          at = end;
        }
      }
      file.unsynced = [];
      file.current = file.durable.copy();
    }
  }

  /** Flips one bit of what is on the disk. */
  flipBit(path: string, position: number): void {
    const file = this.files.get(path);
    if (file === undefined) throw new Error(`there is no ${path}`);
    for (const content of [file.current, file.durable]) {
      const byte = new Uint8Array(1);
      content.read(position, byte);
      byte[0] = (byte[0] ?? 0) ^ 1;
      content.write(position, byte);
    }
  }

  paths(): string[] {
    return [...this.files.keys()].sort();
  }
}
