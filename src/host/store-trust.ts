import { createHash } from 'node:crypto';
import { type Clock, isoTime } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { LocalDisk } from '../base/local-disk.ts';
import type { Log } from '../base/log.ts';
import type { ObjectStore } from '../base/object-store.ts';
import type { Random } from '../base/random.ts';
import { type ProbeVerdict, probeStore } from '../store/probe.ts';

export interface StoreTrustOptions {
  readonly store: ObjectStore;
  /** What besides its URL says which store it is: the server that the bucket is on. */
  readonly endpoint: string | undefined;
  readonly disk: LocalDisk;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** Why a store is not to be written, or `undefined` when it may be. */
export type Distrust = string | undefined;

/**
 * Whether volumes may be written to a store, which takes a compare-and-swap that is one: found out by
 * use when a volume of it is first attached. That a store passed is remembered in the state
 * directory, so that it costs nothing from then on; that it failed, for this process alone.
 */
export class StoreTrust {
  readonly #options: StoreTrustOptions;
  #judging: Promise<Distrust> | undefined;

  constructor(options: StoreTrustOptions) {
    this.#options = options;
  }

  /** Rejects when it cannot be known now, because the store does not answer. */
  judge(): Promise<Distrust> {
    this.#judging ??= this.#judge().catch((error: unknown) => {
      this.#judging = undefined;
      throw error;
    });
    return this.#judging;
  }

  async #judge(): Promise<Distrust> {
    const { store, endpoint, disk, clock, log } = this.#options;
    const identity = endpoint === undefined ? store.url : `${store.url} at ${endpoint}`;
    const hash = createHash('sha256').update(identity).digest('hex').slice(0, 16);
    const path = `trusted-stores/${hash}.json`;
    if ((await disk.readFile(path)) !== undefined) return undefined;
    const startedMs = clock.monotonicMs();
    const verdict = await probeStore(store, this.#options);
    const tookMs = Math.round(clock.monotonicMs() - startedMs);
    if (verdict.trustedForWriting) {
      const record = { store: identity, probedAt: isoTime(clock.wallMs()) };
      await disk.replaceFile(path, Buffer.from(`${JSON.stringify(record)}\n`));
      log.info('the store was probed and can be trusted with volumes', {
        store: store.url,
        tookMs,
      });
      return undefined;
    }
    return distrustOf(verdict);
  }
}

function distrustOf({ url, checks, trustedForReading }: ProbeVerdict): string {
  const failed = checks.filter(({ ok }) => !ok);
  const findings = failed.map(({ name, detail }) => `${name} (${detail})`).join(', ');
  const silent = failed.find(({ code }) => code === 'store-unavailable');
  if (silent !== undefined) {
    const message = `${url} could not be probed yet: ${silent.detail}`;
    throw new StorageError('store-unavailable', message);
  }
  // With no right to write, there was nothing to try reading on.
  const couldWrite = checks.some(({ name, ok }) => name === 'write' && ok);
  if (couldWrite && !trustedForReading) {
    throw new StorageError('unsupported', `${url} cannot hold volumes: it failed ${findings}`);
  }
  return `${url} cannot be trusted with writing: it failed ${findings}`;
}
