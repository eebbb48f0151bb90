import { isAbsolute, resolve } from 'node:path';
import {
  durationHint,
  formatDuration,
  formatSize,
  parseDuration,
  parseSize,
  sizeHint,
} from '../../base/quantity.ts';

/** What a value of the configuration can be, how it is read and how it is shown. */
export interface Kind<T> {
  /** The placeholder in `--help`: `<size>`. */
  readonly placeholder: string;
  /** Completes the sentence "expected …". */
  readonly expected: string;
  /** Whether it holds several values: a flag that may be repeated, words in the environment. */
  readonly isList?: true;
  /** Whether a flag without a value says something: true. */
  readonly isFlag?: true;
  /** A flag or an environment variable; a repeated flag gives several texts. */
  fromTexts(texts: readonly string[], baseDirectory: string): T | undefined;
  /** A value of a TOML file. */
  fromToml(value: unknown, baseDirectory: string): T | undefined;
  show(value: T): string;
}

export interface Bounds {
  readonly minimum: number;
  readonly maximum: number;
}

export function size(bounds: Bounds): Kind<number> {
  return number('size', sizeHint, bounds, formatSize, parseSize, true);
}

export function duration(bounds: Bounds): Kind<number> {
  return number('duration', durationHint, bounds, formatDuration, parseDuration, false);
}

export function count(bounds: Bounds): Kind<number> {
  const parse = (text: string): number | undefined =>
    /^\d{1,15}$/.test(text) ? Number(text) : undefined;
  return number('count', 'a whole number', bounds, String, parse, true);
}

function number(
  placeholder: string,
  hint: string,
  { minimum, maximum }: Bounds,
  show: (value: number) => string,
  parse: (text: string) => number | undefined,
  bareNumber: boolean,
): Kind<number> {
  const within = (value: number | undefined): number | undefined =>
    value !== undefined && value >= minimum && value <= maximum ? value : undefined;
  const quoted = placeholder !== 'count';
  return {
    placeholder,
    expected: `${hint}, from ${show(minimum)} to ${show(maximum)}`,
    fromTexts: (texts) => within(lastOf(texts, parse)),
    fromToml: (value) => {
      if (typeof value === 'string' && quoted) return within(parse(value));
      return bareNumber && Number.isSafeInteger(value) ? within(Number(value)) : undefined;
    },
    show,
  };
}

/** Of a flag that is given twice, the last one counts. */
function lastOf<T>(
  texts: readonly string[],
  parse: (text: string) => T | undefined,
): T | undefined {
  const last = texts.at(-1);
  return last === undefined ? undefined : parse(last);
}

/** Text that `parse` accepts; the value is what `parse` made of it. */
export function text(
  placeholder: string,
  expected: string,
  parse: (value: string, baseDirectory: string) => string | undefined = notEmpty,
): Kind<string> {
  return {
    placeholder,
    expected,
    fromTexts: (texts, base) => lastOf(texts, (last) => parse(last, base)),
    fromToml: (value, base) => (typeof value === 'string' ? parse(value, base) : undefined),
    show: (value) => value,
  };
}

function notEmpty(value: string): string | undefined {
  return value === '' ? undefined : value;
}

/** A path; a relative one is relative to the file that it stands in, or to the working directory. */
export const path: Kind<string> = text(
  'path',
  'a path (a leading ~ is not expanded)',
  (value, base) => {
    if (value === '' || value.startsWith('~') || value.includes('\0')) return undefined;
    return isAbsolute(value) ? value : resolve(base, value);
  },
);

export const boolean: Kind<boolean> = {
  placeholder: 'true|false',
  expected: 'true or false',
  isFlag: true,
  fromTexts: (texts) =>
    lastOf(texts, (last) => (last === 'true' ? true : last === 'false' ? false : undefined)),
  fromToml: (value) => (typeof value === 'boolean' ? value : undefined),
  show: String,
};

export function choice<const C extends string>(choices: readonly C[]): Kind<C> {
  const pick = (value: unknown): C | undefined => choices.find((each) => each === value);
  return {
    placeholder: choices.join('|'),
    expected: `one of ${choices.map((each) => `"${each}"`).join(', ')}`,
    fromTexts: (texts) => lastOf(texts, pick),
    fromToml: pick,
    show: (value) => value,
  };
}

/** A list of texts, each of which `parse` accepts. */
export function list(
  placeholder: string,
  expected: string,
  parse: (value: string, baseDirectory: string) => string | undefined,
): Kind<readonly string[]> {
  const all = (values: readonly unknown[], base: string): string[] | undefined => {
    const parsed = values.flatMap((value) => {
      const one = typeof value === 'string' ? parse(value, base) : undefined;
      return one === undefined ? [] : [one];
    });
    return parsed.length === values.length && parsed.length > 0 ? parsed : undefined;
  };
  return {
    placeholder,
    expected,
    isList: true,
    fromTexts: (texts, base) => all(texts, base),
    fromToml: (value, base) => (Array.isArray(value) ? all(value, base) : undefined),
    show: (values) => values.join(' '),
  };
}
