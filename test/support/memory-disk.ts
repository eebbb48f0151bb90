import { StorageError } from '../../src/base/errors.ts';
import type { LocalDisk, LocalFile } from '../../src/base/local-disk.ts';
import type { Random } from '../../src/base/random.ts';

interface Write {
  readonly position: number;
  readonly bytes: Uint8Array;
}

class MemoryFile {
  durable = new Uint8Array(0);
  current = new Uint8Array(0);
  unsynced: Write[] = [];

  write(position: number, bytes: Uint8Array): void {
    this.current = patched(this.current, position, bytes);
    this.unsynced.push({ position, bytes: bytes.slice() });
  }

  sync(): void {
    for (const { position, bytes } of this.unsynced) {
      this.durable = patched(this.durable, position, bytes);
    }
    this.unsynced = [];
  }
}

function patched(
  content: Uint8Array<ArrayBuffer>,
  position: number,
  bytes: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const end = position + bytes.byteLength;
  let target = content;
  if (end > content.byteLength) {
    target = new Uint8Array(end);
    target.set(content);
  }
  target.set(bytes, position);
  return target;
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
    const alive = async (): Promise<void> => {
      await Promise.resolve();
      if (this.life !== born) throw new StorageError('local-io', `${path} is gone with its host.`);
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
      read: async (into, position) => {
        await alive();
        const bytes = file.current.subarray(position, position + into.byteLength);
        if (bytes.byteLength < into.byteLength) {
          throw new StorageError('local-io', `${path} is too short.`);
        }
        into.set(bytes);
      },
      sync: async () => {
        await alive();
        file.sync();
      },
      sizeBytes: async () => file.current.byteLength,
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
    return this.files.get(path)?.current.slice();
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
      let content = file.durable;
      for (const { position, bytes } of file.unsynced) {
        for (let at = 0; at < bytes.byteLength; ) {
          const sectorEnd = (Math.floor((position + at) / 512) + 1) * 512 - position;
          const end = Math.min(bytes.byteLength, sectorEnd);
          if (random.fraction() < 0.5)
            content = patched(content, position + at, bytes.subarray(at, end));
          at = end;
        }
      }
      file.unsynced = [];
      file.durable = content;
      file.current = content.slice();
    }
  }

  /** Flips one bit of what is on the disk. */
  flipBit(path: string, position: number): void {
    const file = this.files.get(path);
    if (file === undefined) throw new Error(`there is no ${path}`);
    for (const content of [file.current, file.durable]) {
      content[position] = (content[position] ?? 0) ^ 1;
    }
  }

  paths(): string[] {
    return [...this.files.keys()].sort();
  }
}
