/**
 * A place for objects. Two kinds live there, and a key is of one kind for ever:
 *
 * - an *object* is immutable: put once (again only with the same bytes, as a retry does), read whole
 *   or in part, listed, deleted;
 * - a *register* is a small mutable value that changes only by compare-and-swap: a manifest, a name.
 *
 * Keys are `/`-separated ASCII, `[A-Za-z0-9._-]` between the slashes.
 * Every call ends: with a value, or with a `StorageError` of code `not-found`, `store-unavailable`,
 * `store-denied`, `corrupt` or `no-space`. What is returned was read in full; a short or changed
 * body is an error, never data.
 */
export interface ObjectStore {
  /** The URL as people write it, without secrets. */
  readonly url: string;
  /** Stores an object under `key`; durable when it resolves. The parts are concatenated. */
  put(key: string, parts: readonly Uint8Array[], options?: CallOptions): Promise<void>;
  /** The whole object, or `range` of it. A range that is not all there is an error `corrupt`. */
  get(key: string, range?: ByteRange, options?: ReadOptions): Promise<Uint8Array>;
  /** Up to `maxBytes` from the object's start (less when it is shorter), and the object's size. */
  getStart(key: string, maxBytes: number, options?: ReadOptions): Promise<ObjectStart>;
  /** Objects and registers whose key begins with `prefix`, in byte order of the keys. */
  list(prefix: string, options?: ListOptions): Promise<ListPage>;
  /** Removes an object; no error when it is not there. */
  delete(key: string, options?: CallOptions): Promise<void>;
  /** The register's value, or `undefined` when there is none. */
  load(key: string, options?: CallOptions): Promise<RegisterValue | undefined>;
  /**
   * Replaces the register's value if its version is still `expected` (`undefined`: if there is
   * none). Returns the new version, or `undefined` when another value was there: nothing changed.
   * An error means that the outcome is unknown; the caller loads and looks for its own nonce.
   */
  swap(
    key: string,
    expected: string | undefined,
    value: Uint8Array,
    options?: CallOptions,
  ): Promise<string | undefined>;
  /** Removes a register whatever its version; no error when it is not there. */
  remove(key: string, options?: CallOptions): Promise<void>;
  /** Lets go of sockets and files. */
  close(): Promise<void>;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
}

export interface ReadOptions extends CallOptions {
  /**
   * Asked for memory for what is read, by each attempt anew: one that failed may go on writing to
   * its memory. A store need not ask.
   */
  readonly allocate?: (lengthBytes: number) => Uint8Array;
}

export interface ByteRange {
  readonly offset: number;
  readonly lengthBytes: number;
}

export interface ObjectStart {
  readonly bytes: Uint8Array;
  readonly objectBytes: number;
}

export interface RegisterValue {
  readonly value: Uint8Array;
  /** Opaque, never empty; differs from that of every earlier value of this register. */
  readonly version: string;
}

export interface ListOptions extends CallOptions {
  /** Only keys after this one in byte order. */
  readonly startAfter?: string;
  /** At most this many entries; a store may return fewer. */
  readonly maxKeys?: number;
}

export interface ListedKey {
  readonly key: string;
  /** Bytes of the object; of a register, of its present value. */
  readonly sizeBytes: number;
}

export interface ListPage {
  readonly keys: ListedKey[];
  /** Whether keys after the last one of this page remain. */
  readonly truncated: boolean;
}

/** All keys under `prefix` after `startAfter`, page by page. */
export async function* listAll(
  store: ObjectStore,
  prefix: string,
  startAfter?: string,
): AsyncGenerator<ListedKey> {
  let after = startAfter;
  for (;;) {
    const page = await store.list(prefix, after === undefined ? {} : { startAfter: after });
    yield* page.keys;
    const last = page.keys.at(-1);
    if (!page.truncated || last === undefined) return;
    after = last.key;
  }
}
