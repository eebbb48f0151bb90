import type { Patch } from './engine.ts';

/** A planted bug: one promise of the engine broken in its source, and how soon that must be seen. */
export interface PlantedBug {
  readonly name: string;
  readonly patches: readonly Patch[];
  /** Seeds within which it must be caught. */
  readonly seeds: number;
}

export function planted(
  name: string,
  seeds: number,
  file: string,
  find: string,
  put: string,
): PlantedBug {
  return { name, seeds, patches: [{ file, find, put }] };
}
