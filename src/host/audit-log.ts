import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type Clock, isoTime } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';

/** One use of a key. Nothing of it is secret. */
export interface AuditEvent {
  readonly action:
    | 'unwrap'
    | 'wrap'
    | 'create'
    | 'rotate'
    | 'new-passphrase'
    | 'export'
    | 'import'
    | 'delete';
  readonly volume?: string;
  readonly volumeId?: string;
  readonly generation?: number;
  readonly provider: string;
  readonly key: string;
  readonly keyId: string;
  readonly keyVersion: number;
  /** "ok", or the sentence that says what went wrong. */
  readonly result: string;
}

/** Who asks. */
export interface Asker {
  readonly uid: number | undefined;
  readonly pid: number;
  /** The command of this program: "serve". */
  readonly command: string;
}

/**
 * Every use of a key, as lines of JSON that are only ever added to. What cannot be written there is an
 * error of whatever was done: a use that leaves no trace is one too many.
 */
export class AuditLog {
  readonly #path: string;
  readonly #asker: Asker;
  readonly #clock: Clock;

  constructor(path: string, asker: Asker, clock: Clock) {
    this.#path = path;
    this.#asker = asker;
    this.#clock = clock;
  }

  async add(...events: readonly AuditEvent[]): Promise<void> {
    const time = isoTime(this.#clock.wallMs());
    const lines = events.map((event) => `${JSON.stringify({ time, ...this.#asker, ...event })}\n`);
    try {
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
      const handle = await open(this.#path, 'a', 0o600);
      try {
        // One write to the end of a file: lines of several processes do not mix.
        await handle.write(lines.join(''));
        await handle.datasync();
      } finally {
        await handle.close();
      }
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      const message = `cannot write the audit log ${this.#path} (${code}): no key is used without it`;
      throw new StorageError('local-io', message, { cause });
    }
  }
}
