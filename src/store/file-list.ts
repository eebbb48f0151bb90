import type { Dir } from 'node:fs';
import { opendir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ListedKey, ListPage } from '../base/object-store.ts';
import { isErrno } from './file-io.ts';
import { registerBytes, registerSuffix } from './file-registers.ts';
import { reservedPart } from './keys.ts';

/** How many sizes are asked for at once; more only queue up in the thread pool. */
const statBatch = 32;
const openDirectoryBatch = 512;

interface Leaf {
  readonly key: string;
  readonly path: string;
  readonly kind: 'object' | 'register';
}

interface Entry {
  /** The name as it takes part in the order of keys: that of a directory ends with a slash. */
  readonly sortName: string;
  readonly name: string;
  readonly kind: 'object' | 'register' | 'directory';
}

interface Bounds {
  readonly prefix: string;
  readonly startAfter: string;
}

/** One page of the keys below `root`, in byte order. */
export async function listDirectory(
  root: string,
  bounds: Bounds,
  maxKeys: number,
): Promise<ListPage> {
  // The walk begins at the deepest directory that holds all the keys asked for.
  const base = bounds.prefix.slice(0, bounds.prefix.lastIndexOf('/') + 1);
  const leaves = walk(join(root, base), base, bounds);
  const keys: ListedKey[] = [];
  let batch: Leaf[] = [];
  for await (const leaf of leaves) {
    if (keys.length === maxKeys) return { keys, truncated: true };
    batch.push(leaf);
    if (batch.length === Math.min(statBatch, maxKeys - keys.length)) {
      keys.push(...(await measure(batch)));
      batch = [];
    }
  }
  keys.push(...(await measure(batch)));
  return { keys, truncated: false };
}

/** The leaves with their sizes, without those that were removed meanwhile. */
async function measure(leaves: readonly Leaf[]): Promise<ListedKey[]> {
  const sizes = await Promise.all(
    leaves.map(({ path, kind }) => (kind === 'register' ? registerBytes(path) : fileBytes(path))),
  );
  const keys: ListedKey[] = [];
  for (const [index, { key }] of leaves.entries()) {
    const sizeBytes = sizes[index];
    if (sizeBytes !== undefined) keys.push({ key, sizeBytes });
  }
  return keys;
}

async function fileBytes(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** `base` is what the keys in `directory` begin with: empty, or ending with a slash. */
async function* walk(directory: string, base: string, bounds: Bounds): AsyncGenerator<Leaf> {
  for (const { name, sortName, kind } of await readEntries(directory, base, bounds)) {
    const path = join(directory, name);
    if (kind === 'directory') yield* walk(path, base + sortName, bounds);
    else yield { key: base + sortName, path, kind };
  }
}

async function readEntries(directory: string, base: string, bounds: Bounds): Promise<Entry[]> {
  const entries: Entry[] = [];
  let opened: Dir;
  try {
    opened = await opendir(directory, { bufferSize: openDirectoryBatch });
  } catch (error) {
    // Removed meanwhile, or never there: no keys either way.
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return entries;
    throw error;
  }
  for await (const found of opened) {
    const entry = toEntry(found.name, found.isDirectory());
    if (base === '' && entry.name === reservedPart) continue;
    const matters = entry.kind === 'directory' ? overlaps : isInside;
    if (matters(base + entry.sortName, bounds)) entries.push(entry);
  }
  return entries.sort((a, b) => (a.sortName < b.sortName ? -1 : 1));
}

function toEntry(name: string, isDirectory: boolean): Entry {
  if (!isDirectory) return { name, sortName: name, kind: 'object' };
  if (!name.endsWith(registerSuffix)) return { name, sortName: `${name}/`, kind: 'directory' };
  return { name, sortName: name.slice(0, -registerSuffix.length), kind: 'register' };
}

function isInside(key: string, { prefix, startAfter }: Bounds): boolean {
  return key > startAfter && key.startsWith(prefix);
}

/** Whether a key that begins with `base` can be inside the bounds. */
function overlaps(base: string, { prefix, startAfter }: Bounds): boolean {
  if (!base.startsWith(prefix) && !prefix.startsWith(base)) return false;
  return base > startAfter || startAfter.startsWith(base);
}
