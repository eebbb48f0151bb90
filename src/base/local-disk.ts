/**
 * The local disk as the engine sees it: one directory, paths relative to it, `/`-separated.
 * Every failure is a `StorageError`: `no-space` when the disk is full, `not-found`, or `local-io`.
 */
export interface LocalDisk {
  /** Opens a file for reading and writing; `create` makes it new and empty. */
  open(path: string, options: { readonly create: boolean }): Promise<LocalFile>;
  /** Names in `directory`, sorted; empty when it does not exist. */
  list(directory: string): Promise<string[]>;
  /** The whole file, or `undefined` when it does not exist. */
  readFile(path: string): Promise<Uint8Array | undefined>;
  /** Puts a file in place at once and for good: after a crash it is the old one or the new one. */
  replaceFile(path: string, bytes: Uint8Array): Promise<void>;
  /** Renames a file or directory, durably. */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file or a directory with all in it; no error when it is not there. */
  remove(path: string): Promise<void>;
}

export interface LocalFile {
  /** Writes the parts one after the other at `position`; in the file, but not yet durable. */
  write(parts: readonly Uint8Array[], position: number): Promise<void>;
  /** As `write`, but done when it returns: for a few bytes, which the kernel takes into its cache. */
  writeHere(bytes: Uint8Array, position: number): void;
  /** As `write`, and these bytes (no others) are durable when it resolves: one trip, not two. */
  writeDurably(parts: readonly Uint8Array[], position: number): Promise<void>;
  /** Fills `into` from `position`; a shorter file is an error `local-io`. */
  read(into: Uint8Array, position: number): Promise<void>;
  /** Makes what was written durable (`fdatasync`). */
  sync(): Promise<void>;
  sizeBytes(): Promise<number>;
  close(): Promise<void>;
}
