import type { BlockDevice } from '../base/block-device.ts';
import { allocationName, dirtyBitmapPrefix, dirtyFlag, stateFlag } from './wire.ts';

/** A run of bytes with the flags that its context defines. */
export interface FlaggedExtent {
  readonly lengthBytes: number;
  readonly flags: number;
}

/** A metadata context that a client has selected. */
export interface MetaContext {
  readonly name: string;
  /** What requests and replies know it by. */
  readonly id: number;
  /** As `BlockDevice.status`. */
  status(
    offset: number,
    lengthBytes: number,
    maxExtents: number,
  ): Promise<FlaggedExtent[]> | FlaggedExtent[];
}

/** Queries that stand for every context whose name begins with them. */
const wildcards = ['base:', 'qemu:', dirtyBitmapPrefix];

/** The names of the contexts that match the queries; of all, when there is no query. */
export async function listContexts(
  device: BlockDevice,
  queries: readonly string[],
): Promise<string[]> {
  const isWanted = (name: string): boolean =>
    queries.length === 0 ||
    queries.some(
      (query) => query === name || (wildcards.includes(query) && name.startsWith(query)),
    );
  const found = [allocationName].filter(isWanted);
  // Whoever asks for allocation alone costs the device nothing.
  if (queries.length > 0 && !queries.some((query) => query.startsWith('qemu:'))) return found;
  const moments = (await device.moments?.()) ?? [];
  return [...found, ...moments.map((moment) => dirtyBitmapPrefix + moment).filter(isWanted)];
}

/** Those of the queries that can name a context, each once. */
export function contextNames(queries: readonly string[]): string[] {
  const names = queries.filter(
    (query) =>
      !wildcards.includes(query) &&
      (query === allocationName || query.startsWith(dirtyBitmapPrefix)),
  );
  return [...new Set(names)];
}

/** The contexts of these names that there are. */
export async function selectContexts(
  device: BlockDevice,
  names: readonly string[],
): Promise<MetaContext[]> {
  const selected: MetaContext[] = [];
  for (const name of names) {
    const status = await statusOf(device, name);
    if (status !== undefined) selected.push({ name, id: selected.length + 1, status });
  }
  return selected;
}

async function statusOf(
  device: BlockDevice,
  name: string,
): Promise<MetaContext['status'] | undefined> {
  if (name === allocationName) return (...range) => flagged(device.status(...range), stateOf);
  const changes = await device.changesSince?.(name.slice(dirtyBitmapPrefix.length));
  if (changes === undefined) return undefined;
  return (...range) =>
    flagged(changes.status(...range), ({ changed }) => (changed ? dirtyFlag : 0));
}

function stateOf(extent: { readonly hole: boolean; readonly zero: boolean }): number {
  return (extent.hole ? stateFlag.hole : 0) | (extent.zero ? stateFlag.zero : 0);
}

function flagged<T extends { readonly lengthBytes: number }>(
  extents: Promise<T[]> | T[],
  flagsOf: (extent: T) => number,
): Promise<FlaggedExtent[]> | FlaggedExtent[] {
  const withFlags = (found: T[]): FlaggedExtent[] =>
    found.map((extent) => ({ lengthBytes: extent.lengthBytes, flags: flagsOf(extent) }));
  return Array.isArray(extents) ? withFlags(extents) : extents.then(withFlags);
}
