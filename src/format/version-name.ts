/** Between the name of a volume and that of a version of it; no name has it. */
const separator = '@';

/** A version of a volume: a snapshot by its name or id. */
export interface VersionName {
  readonly volume: string;
  readonly version: string;
}

/** `VOLUME@VERSION` in its parts; `undefined` when it names a volume. */
export function parseVersionName(name: string): VersionName | undefined {
  const at = name.indexOf(separator);
  return at < 0 ? undefined : { volume: name.slice(0, at), version: name.slice(at + 1) };
}

export function formatVersionName({ volume, version }: VersionName): string {
  return `${volume}${separator}${version}`;
}
