/** Structured log lines. Fields never hold secrets, keys or data of a volume. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A log whose lines all carry `fields`. */
  with(fields: LogFields): Log;
}

const levels: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

/** A log that hands each line at or above `minimum` to `sink`. */
export function createLog(
  sink: (level: LogLevel, message: string, fields: LogFields) => void,
  minimum: LogLevel = 'info',
  bound: LogFields = {},
): Log {
  const emit =
    (level: LogLevel) =>
    (message: string, fields: LogFields = {}) => {
      if (levels.indexOf(level) < levels.indexOf(minimum)) return;
      sink(level, message, { ...bound, ...fields });
    };
  return {
    debug: emit('debug'),
    info: emit('info'),
    warn: emit('warn'),
    error: emit('error'),
    with: (fields) => createLog(sink, minimum, { ...bound, ...fields }),
  };
}

export const silentLog: Log = createLog(() => undefined, 'error');
