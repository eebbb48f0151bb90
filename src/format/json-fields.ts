import type { StorageError } from '../base/errors.ts';
import { corrupt } from './binary.ts';

export function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as unknown;
  } catch {
    throw corrupt(`${what} that is not JSON`);
  }
}

/** Reads fields of a JSON object, each required to be what the format says. */
export class Fields {
  private readonly object: Readonly<Record<string, unknown>>;
  private readonly what: string;

  constructor(value: unknown, what: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw corrupt(`${what} that is not a JSON object`);
    }
    this.object = value as Record<string, unknown>;
    this.what = what;
  }

  has(key: string): boolean {
    return this.object[key] !== undefined;
  }

  text(key: string): string {
    const value = this.object[key];
    if (typeof value !== 'string') throw this.wrong(key, 'text');
    return value;
  }

  matching(key: string, pattern: RegExp): string {
    const value = this.text(key);
    if (!pattern.test(value)) throw this.wrong(key, `text like ${pattern.source}`);
    return value;
  }

  oneOf<T extends string>(key: string, values: readonly T[]): T {
    const value = this.text(key);
    const known = values.find((candidate) => candidate === value);
    if (known === undefined) throw this.wrong(key, `one of ${values.join(', ')}`);
    return known;
  }

  count(key: string, absent?: number): number {
    const value = this.object[key] ?? absent;
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
      throw this.wrong(key, 'a whole number');
    }
    return value;
  }

  flag(key: string): boolean {
    const value = this.object[key];
    if (typeof value !== 'boolean') throw this.wrong(key, 'true or false');
    return value;
  }

  list(key: string): readonly unknown[] {
    const value = this.object[key];
    if (!Array.isArray(value)) throw this.wrong(key, 'a list');
    return value;
  }

  /** An object of which all values are text. */
  texts(key: string): Readonly<Record<string, string>> {
    const value = this.object[key];
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    if (!isObject || !Object.values(value).every((each) => typeof each === 'string')) {
      throw this.wrong(key, 'an object of texts');
    }
    return value as Record<string, string>;
  }

  nested<T>(key: string, decode: (value: unknown) => T): T {
    if (!this.has(key)) throw this.wrong(key, 'there');
    return decode(this.object[key]);
  }

  optional<T>(key: string, decode: (value: unknown) => T, absent?: null): T | undefined {
    const value = this.object[key] ?? (key in this.object ? null : absent);
    if (value === undefined) throw this.wrong(key, 'a value or null');
    return value === null ? undefined : decode(value);
  }

  private wrong(key: string, expected: string): StorageError {
    return corrupt(`${this.what}: "${key}" is not ${expected}`);
  }
}
