import { expect, test } from 'vitest';
import { parseMoment } from './moment.ts';

test.each([
  ['2026-11-20T10:15:00Z', '2026-11-20T10:15:00.000Z'],
  ['2026-11-20T10:15Z', '2026-11-20T10:15:00.000Z'],
  ['2026-11-20 10:15:00.25z', '2026-11-20T10:15:00.250Z'],
  ['2026-11-20T10:15:00.123+01:00', '2026-11-20T09:15:00.123Z'],
  ['2026-10-25T02:30:00+02:00', '2026-10-25T00:30:00.000Z'],
  ['2026-10-25T02:30:00+01:00', '2026-10-25T01:30:00.000Z'],
])('%s is a moment', (text, iso) => {
  expect(new Date(parseMoment(text) ?? Number.NaN).toISOString()).toBe(iso);
});

test.each([
  '2026-11-20T10:15:00',
  '2026-11-20',
  '10:15',
  '2026-13-20T10:15:00Z',
  '2026-02-30T10:15:00Z',
  '2026-11-20T25:15:00Z',
  'monday',
  '2026-11-20T101500Z',
])('%s is none', (text) => {
  expect(parseMoment(text)).toBeUndefined();
});
