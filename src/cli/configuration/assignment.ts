/** A value of one key as some source gave it, before anyone asked whether the key exists. */
export interface Assignment {
  /** `['cache', 'memory']`, `['store', 0, 'url']`, `['volume', 'NAME', 'durability']`. */
  readonly path: readonly (string | number)[];
  readonly value: RawValue;
  /** Where it stands, for people: `config.toml:12`, `--listen`, `ELASTICDRIVE_LISTEN`. */
  readonly origin: string;
  /** What relative paths in the value are relative to. */
  readonly baseDirectory: string;
}

export type RawValue =
  | { readonly texts: readonly string[] }
  | { readonly toml: unknown }
  /** A `[table]` header: holds no value, but may be misspelt. */
  | { readonly table: true };
