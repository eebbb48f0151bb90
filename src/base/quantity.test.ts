import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  formatDuration,
  formatSize,
  parseDuration,
  parseSize,
  roundDuration,
  roundSize,
} from './quantity.ts';

describe('sizes', () => {
  it.each([
    ['0', 0],
    ['4096', 4096],
    ['4096B', 4096],
    ['10GiB', 10 * 2 ** 30],
    ['10gib', 10 * 2 ** 30],
    ['10G', 10 * 2 ** 30],
    ['4T', 4 * 2 ** 40],
    ['4 TiB', 4 * 2 ** 40],
    ['1.5K', 1536],
    ['1P', 2 ** 50],
  ])('reads %s', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each([
    '',
    '10GB',
    '10kB',
    '-1',
    'G',
    '1e3',
    '0x10',
    '10GiBs',
    '1,5G',
    '1.3B',
    '9000P',
    '10 G iB',
    'Infinity',
  ])('refuses %j', (text) => {
    expect(parseSize(text)).toBeUndefined();
  });

  it('reads back whatever it writes', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (bytes) => {
        expect(parseSize(formatSize(bytes))).toBe(bytes);
      }),
    );
  });

  it('reads whole multiples of a unit exactly', () => {
    const unit = fc.constantFrom(['K', 10], ['M', 20], ['G', 30], ['T', 40] as const);
    fc.assert(
      fc.property(fc.nat(8000), unit, (count, [letter, shift]) => {
        expect(parseSize(`${count}${letter}iB`)).toBe(count * 2 ** shift);
        expect(parseSize(`${count}${letter}`)).toBe(count * 2 ** shift);
      }),
    );
  });

  it('rounds for the eye', () => {
    expect(roundSize(0)).toBe('0B');
    expect(roundSize(123_456_789)).toBe('117.7MiB');
    expect(roundSize(10 * 2 ** 30)).toBe('10GiB');
  });
});

describe('durations', () => {
  it.each([
    ['5s', 5000],
    ['250ms', 250],
    ['1h', 3_600_000],
    ['2m', 120_000],
    ['1.5s', 1500],
    ['7d', 604_800_000],
  ])('reads %s', (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds);
  });

  it.each(['', '5', 's', '5 sec', '-5s', '0.5ms', '5S', '1h30m'])('refuses %j', (text) => {
    expect(parseDuration(text)).toBeUndefined();
  });

  it('reads back whatever it writes', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (milliseconds) => {
        expect(parseDuration(formatDuration(milliseconds))).toBe(milliseconds);
      }),
    );
  });

  it('rounds for the eye', () => {
    expect(roundDuration(0)).toBe('0s');
    expect(roundDuration(90)).toBe('90ms');
    expect(roundDuration(9_000_000)).toBe('2.5h');
  });
});
