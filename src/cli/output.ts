import { isoTime } from '../base/clock.ts';
import { errorTraits, toStorageError } from '../base/errors.ts';
import { createLog, type Log, type LogLevel } from '../base/log.ts';

export interface Streams {
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
  readonly stderrIsTerminal: boolean;
}

export interface Column {
  readonly header: string;
  readonly align?: 'right';
}

/**
 * The one place that prints. Results go to standard output, as text or as JSON; all else, errors,
 * warnings, progress and the log, to standard error.
 */
export class Output {
  readonly #streams: Streams;
  readonly #json: boolean;
  #progressShown = false;

  constructor(streams: Streams, json: boolean) {
    this.#streams = streams;
    this.#json = json;
  }

  /** What the command was asked for: with `--json`, `data` on one line; else the lines of `text`. */
  result(data: unknown, text: () => string): void {
    this.#clearProgress();
    const written = this.#json ? JSON.stringify(data) : text();
    this.#streams.stdout.write(written.endsWith('\n') || written === '' ? written : `${written}\n`);
  }

  /** Help, as it is laid out. */
  help(text: string, asError: boolean): void {
    (asError ? this.#streams.stderr : this.#streams.stdout).write(text);
  }

  warning(message: string): void {
    this.#clearProgress();
    const written = this.#json ? JSON.stringify({ warning: { message } }) : `warning: ${message}`;
    this.#streams.stderr.write(`${written}\n`);
  }

  /** What is going on; only for someone who watches, and gone when the next thing is printed. */
  progress(message: string): void {
    if (!this.#streams.stderrIsTerminal || this.#json) return;
    this.#clearProgress();
    this.#streams.stderr.write(message);
    this.#progressShown = true;
  }

  /** Prints the error as one sentence and returns the exit status that goes with it. */
  failure(error: unknown): number {
    this.#clearProgress();
    const { code, message, cause } = toStorageError(error);
    if (this.#json) {
      this.#streams.stderr.write(`${JSON.stringify({ error: { code, message } })}\n`);
    } else {
      this.#streams.stderr.write(`elasticdrive: ${clause(message)}\n`);
      // What has no code of its own is our mistake, and whoever reports it needs to say where.
      if (code === 'internal' && cause instanceof Error) {
        this.#streams.stderr.write(`${cause.stack ?? ''}\n`);
      }
    }
    return errorTraits[code].exitStatus;
  }

  /** Log lines on standard error: text, or with `--json` one object in each line. */
  log(minimum: LogLevel, wallMs: () => number): Log {
    return createLog((level, message, fields) => {
      const time = isoTime(wallMs());
      this.#clearProgress();
      if (this.#json) {
        const line = JSON.stringify({ time, level, message, ...fields });
        this.#streams.stderr.write(`${line}\n`);
        return;
      }
      const pairs = Object.entries(fields)
        .filter(([, value]) => value !== undefined)
        .map(([name, value]) => ` ${name}=${quoted(String(value))}`);
      this.#streams.stderr.write(`${time} ${level.padEnd(5)} ${message}${pairs.join('')}\n`);
    }, minimum);
  }

  #clearProgress(): void {
    if (!this.#progressShown) return;
    this.#progressShown = false;
    this.#streams.stderr.write('\r\u001B[K');
  }
}

/** A sentence as what follows a colon: "There is none." as "there is none". */
function clause(sentence: string): string {
  const text = /^[A-Z][a-z]* /.test(sentence)
    ? sentence.charAt(0).toLowerCase() + sentence.slice(1)
    : sentence;
  return text.replace(/\.$/, '');
}

function quoted(text: string): string {
  return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text);
}

/** Rows under their headers, in columns as wide as what they hold. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const all = [columns.map((column) => column.header), ...rows];
  const widths = columns.map((_, index) =>
    Math.max(...all.map((cells) => (cells[index] ?? '').length)),
  );
  const lines = all.map((cells) =>
    columns
      .map(({ align }, index) => {
        const cell = cells[index] ?? '';
        const width = widths[index] ?? 0;
        return align === 'right' ? cell.padStart(width) : cell.padEnd(width);
      })
      .join('  ')
      .trimEnd(),
  );
  return `${lines.join('\n')}\n`;
}

/** `name  value` lines. */
export function fields(pairs: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join('');
}
