import { isStorageError, StorageError } from '../base/errors.ts';
import type { VolumeCatalog } from '../host/volume-catalog.ts';
import type { LeaseWatch, TakeOver } from '../volume/take-over.ts';
import type { Output } from './output.ts';

/** What `serve --take-over` and `--force` were given: all volumes, certain ones or none. */
export interface TakeOverWishes {
  readonly whenDead: true | readonly string[];
  readonly byForce: true | readonly string[];
}

export function takeOverWishes(options: Readonly<Record<string, unknown>>): TakeOverWishes {
  const of = (value: unknown): true | readonly string[] =>
    value === true ? true : Array.isArray(value) ? (value as string[]) : [];
  return { whenDead: of(options['takeOver']), byForce: of(options['force']) };
}

/** What `--take-over` and `--force` of a command for one volume say. */
export function takeOverIn(options: Readonly<Record<string, unknown>>): TakeOver {
  if (options['force'] === true) return 'now';
  return options['takeOver'] === true ? 'when-dead' : 'never';
}

/**
 * How the wish of a client is met while the daemon runs: force is for its start alone, or two
 * daemons would take a volume from each other for ever.
 */
export function takeOverOf({ whenDead }: TakeOverWishes): (volume: string) => TakeOver {
  return (volume) => (whenDead === true || whenDead.includes(volume) ? 'when-dead' : 'never');
}

/**
 * Takes over what others have, before anybody is served. A volume that was named and cannot be had
 * is an error; of the others, those that stay where they are get a warning.
 */
export async function takeOverHeld(
  catalog: VolumeCatalog,
  { whenDead, byForce }: TakeOverWishes,
  output: Output,
): Promise<void> {
  if (whenDead !== true && whenDead.length === 0 && byForce !== true && byForce.length === 0)
    return;
  const held = new Map((await catalog.held()).map(({ name, holder }) => [name, holder]));
  if (byForce === true && held.size > 1) {
    throw new StorageError(
      'usage',
      `others have several volumes: name those to take, --force ${[...held.keys()].join(' ')}`,
    );
  }
  const forced = (name: string): boolean => byForce === true || byForce.includes(name);
  const watched = (name: string): boolean => whenDead === true || whenDead.includes(name);
  const progress = new WatchProgress(output);
  const taking = [...held].map(async ([name, host]) => {
    if (forced(name)) {
      output.warning(
        `taking ${name} from ${host} by force: what ${host} answered and has not uploaded is not in it; if ${host} lives, its clients may read old data until it next renews its lease`,
      );
      await catalog.attach(name, 'now');
    } else if (watched(name)) {
      await catalog
        .attach(name, 'when-dead', (watch) => progress.show(watch))
        .catch((error) => {
          if (whenDead !== true || !isStorageError(error, 'held')) throw error;
          output.warning(error.message);
        });
    }
  });
  await Promise.all(taking);
}

/** One line for all leases that are watched. */
export class WatchProgress {
  readonly #output: Output;
  readonly #watches = new Map<string, LeaseWatch>();

  constructor(output: Output) {
    this.#output = output;
  }

  show(watch: LeaseWatch): void {
    this.#watches.set(watch.volume, watch);
    if (watch.remainingMs === 0) this.#watches.delete(watch.volume);
    const [first, ...others] = [...this.#watches.values()].sort(
      (a, b) => b.remainingMs - a.remainingMs,
    );
    if (first === undefined) return;
    const more = others.length === 0 ? '' : ` and ${others.length} more`;
    const seconds = (ms: number): string => `${Math.ceil(ms / 1000)} s`;
    const left = `${seconds(first.remainingMs)} of ${seconds(first.leaseMs)}`;
    this.#output.progress(
      `waiting whether ${first.host} still has ${first.volume}${more}: ${left} left`,
    );
  }
}
