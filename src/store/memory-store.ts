import { assert } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import type { ListedKey, ObjectStore, ReadOptions, RegisterValue } from '../base/object-store.ts';
import { throwIfAborted } from './cancel.ts';
import { checkKey, checkPrefix } from './keys.ts';
import { concatenate } from './parts.ts';

const defaultMaxKeys = 1000;

/**
 * A store in this process's memory, for tests and the simulator. It is stricter than the world: it
 * asserts that an object is never put again with other bytes and that a key keeps its kind.
 */
export function createMemoryStore(): ObjectStore {
  const objects = new Map<string, Uint8Array>();
  const registers = new Map<string, RegisterValue>();
  let lastVersion = 0;
  let closed = false;

  const enter = (key: string, signal: AbortSignal | undefined): void => {
    if (closed) throw new StorageError('shutting-down', 'The store has been closed.');
    throwIfAborted(signal);
    checkKey(key);
  };
  const find = (key: string): Uint8Array => {
    const bytes = objects.get(key);
    if (bytes === undefined) throw new StorageError('not-found', `There is no object ${key}.`);
    return bytes;
  };
  const isPresent = (version: string | undefined, key: string): boolean =>
    registers.get(key)?.version === version;

  return {
    url: 'memory:',
    async put(key, parts, options) {
      enter(key, options?.signal);
      assert(!registers.has(key), `${key} is a register and cannot become an object`);
      const bytes = concatenate(parts);
      const before = objects.get(key);
      assert(
        before === undefined || Buffer.compare(before, bytes) === 0,
        `object ${key} was put twice with different bytes`,
      );
      objects.set(key, bytes);
    },
    async get(key, range, options) {
      enter(key, options?.signal);
      const bytes = find(key);
      if (range === undefined) return copyOf(bytes, options);
      const end = range.offset + range.lengthBytes;
      if (end > bytes.length) {
        throw new StorageError('corrupt', `${key} ends at ${bytes.length}, before byte ${end}.`);
      }
      return copyOf(bytes.subarray(range.offset, end), options);
    },
    async getStart(key, maxBytes, options) {
      enter(key, options?.signal);
      const bytes = find(key);
      return { bytes: copyOf(bytes.subarray(0, maxBytes), options), objectBytes: bytes.length };
    },
    async list(prefix, options = {}) {
      enter('any', options.signal);
      checkPrefix(prefix);
      const { startAfter = '', maxKeys = defaultMaxKeys } = options;
      const keys: ListedKey[] = [];
      const sizes = function* (): Generator<ListedKey> {
        for (const [key, bytes] of objects) yield { key, sizeBytes: bytes.length };
        for (const [key, { value }] of registers) yield { key, sizeBytes: value.length };
      };
      for (const listed of sizes()) {
        if (listed.key.startsWith(prefix) && listed.key > startAfter) keys.push(listed);
      }
      keys.sort((a, b) => (a.key < b.key ? -1 : 1));
      return { keys: keys.slice(0, maxKeys), truncated: keys.length > maxKeys };
    },
    async delete(key, options) {
      enter(key, options?.signal);
      assert(!registers.has(key), `${key} is a register; remove it`);
      objects.delete(key);
    },
    async load(key, options) {
      enter(key, options?.signal);
      const present = registers.get(key);
      return present && { value: present.value.slice(), version: present.version };
    },
    async swap(key, expected, value, options) {
      enter(key, options?.signal);
      assert(!objects.has(key), `${key} is an object and cannot become a register`);
      if (!isPresent(expected, key)) return undefined;
      lastVersion += 1;
      const version = String(lastVersion);
      registers.set(key, { value: value.slice(), version });
      return version;
    },
    async remove(key, options) {
      enter(key, options?.signal);
      assert(!objects.has(key), `${key} is an object; delete it`);
      registers.delete(key);
    },
    async close() {
      closed = true;
    },
  };
}

function copyOf(bytes: Uint8Array, options: ReadOptions | undefined): Uint8Array {
  const copy = options?.allocate?.(bytes.length) ?? new Uint8Array(bytes.length);
  copy.set(bytes);
  return copy;
}
