import { describe, expect, test } from 'vitest';
import type { Snapshot } from '../format/snapshot.ts';
import {
  formatSchedule,
  parseSchedule,
  planSnapshots,
  type Schedule,
  scheduleTag,
} from './snapshot-schedule.ts';

const minuteMs = 60_000;

function schedule(text: string): Schedule {
  const parsed = parseSchedule(text);
  if (parsed === undefined) throw new Error(`not a schedule: ${text}`);
  return parsed;
}

function snapshotOf(name: string, createdAt: string, about: Partial<Snapshot> = {}): Snapshot {
  return {
    id: `${name} ${createdAt}`,
    name: 'any',
    segment: 1,
    checkpoint: undefined,
    isCompleted: true,
    sizeBytes: 4096,
    createdAt,
    description: '',
    tags: { [scheduleTag]: name },
    clones: [],
    ...about,
  };
}

/** Runs schedules as a daemon would that looks every `everyMs`; what is there at the end. */
function live(
  texts: readonly string[],
  from: string,
  until: string,
  zone: string,
  isUp: (timeMs: number) => boolean = () => true,
): Snapshot[] {
  const schedules = texts.map(schedule);
  let snapshots: Snapshot[] = [];
  for (let nowMs = Date.parse(from); nowMs < Date.parse(until); nowMs += 5 * minuteMs) {
    if (!isUp(nowMs)) continue;
    const { create, remove } = planSnapshots(schedules, snapshots, nowMs, zone);
    snapshots = snapshots.filter((each) => !remove.includes(each));
    const createdAt = new Date(nowMs).toISOString();
    for (const { name } of create) snapshots.push(snapshotOf(name, createdAt));
  }
  return snapshots;
}

const times = (snapshots: readonly Snapshot[]): string[] =>
  snapshots.map(({ createdAt }) => createdAt.slice(0, 16));

test.each(['every 1h keep 24', 'hourly keep 24', 'daily keep 7', 'daily at 02:30 keep 7'])(
  '%s is what it says',
  (text) => {
    expect(formatSchedule(schedule(text))).toBe(text);
  },
);

test.each([
  'every keep 3',
  'every 10s keep 3',
  'daily',
  'daily keep 0',
  'daily keep 1000',
  'daily at 24:00 keep 1',
  'hourly at 02:30 keep 1',
  'daily keep seven',
  'yearly keep 1',
  '',
])('"%s" is no schedule', (text) => {
  expect(parseSchedule(text)).toBeUndefined();
});

describe('days', () => {
  const zone = 'Europe/Berlin';

  test('begin at midnight where the daemon is, on the day that has 23 hours and that with 25', () => {
    const spring = live(['daily keep 9'], '2026-03-27T12:00:00Z', '2026-03-31T12:00:00Z', zone);
    expect(times(spring).slice(1)).toEqual([
      '2026-03-27T23:00',
      '2026-03-28T23:00',
      '2026-03-29T22:00',
      '2026-03-30T22:00',
    ]);
    const autumn = live(['daily keep 9'], '2026-10-23T12:00:00Z', '2026-10-27T12:00:00Z', zone);
    expect(times(autumn).slice(1)).toEqual([
      '2026-10-23T22:00',
      '2026-10-24T22:00',
      '2026-10-25T23:00',
      '2026-10-26T23:00',
    ]);
  });

  test('have one snapshot where the hour of it is left out, and where it comes twice', () => {
    const texts = ['daily at 02:30 keep 9'];
    const spring = live(texts, '2026-03-28T12:00:00Z', '2026-03-30T12:00:00Z', zone);
    // 02:30 is not there on the 29th: at 03:00.
    expect(times(spring).slice(1)).toEqual(['2026-03-29T01:00', '2026-03-30T00:30']);
    const autumn = live(texts, '2026-10-24T12:00:00Z', '2026-10-26T12:00:00Z', zone);
    expect(times(autumn).slice(1)).toEqual(['2026-10-25T00:30', '2026-10-26T01:30']);
  });

  test('of weeks begin on Monday, of months on the first', () => {
    const weekly = live(['weekly keep 9'], '2026-11-18T12:00:00Z', '2026-12-01T12:00:00Z', zone);
    expect(times(weekly).slice(1)).toEqual(['2026-11-22T23:00', '2026-11-29T23:00']);
    const monthly = live(['monthly keep 9'], '2026-11-18T12:00:00Z', '2027-01-02T12:00:00Z', zone);
    expect(times(monthly).slice(1)).toEqual(['2026-11-30T23:00', '2026-12-31T23:00']);
  });
});

test('what was missed while the daemon was down is made once', () => {
  const isUp = (timeMs: number): boolean =>
    timeMs < Date.parse('2026-11-20T03:00:00Z') || timeMs >= Date.parse('2026-11-20T09:20:00Z');
  const made = live(
    ['hourly keep 24'],
    '2026-11-20T01:10:00Z',
    '2026-11-20T11:10:00Z',
    'UTC',
    isUp,
  );
  expect(times(made)).toEqual([
    '2026-11-20T01:10',
    '2026-11-20T02:00',
    '2026-11-20T09:20',
    '2026-11-20T10:00',
    '2026-11-20T11:00',
  ]);
});

test('as many are kept as is said, of each schedule for itself', () => {
  const made = live(
    ['every 30m keep 3', 'daily keep 2'],
    '2026-11-17T00:00:00Z',
    '2026-11-20T12:00:00Z',
    'UTC',
  );
  const own = (name: string): string[] =>
    times(made.filter((each) => each.tags['schedule'] === name));
  expect(own('daily')).toEqual(['2026-11-19T00:00', '2026-11-20T00:00']);
  expect(own('every 30m')).toEqual(['2026-11-20T10:30', '2026-11-20T11:00', '2026-11-20T11:30']);
});

test('what a clone needs, somebody holds, is not completed or was made by others stays', () => {
  const nowMs = Date.parse('2026-11-20T12:00:00Z');
  const since = '2026-11-01T00:00:00.000Z';
  const old = (day: number, about?: Partial<Snapshot>): Snapshot =>
    snapshotOf('daily', `2026-11-${day}T00:00:00.000Z`, about);
  const snapshots = [
    old(10),
    old(11, { clones: [{ volumeId: 'aa'.repeat(16), since }] }),
    old(12, { holds: ['audit'] }),
    old(13, { isCompleted: false }),
    old(14, { tags: {} }),
    old(15, { tags: { [scheduleTag]: 'weekly' } }),
    old(16),
    old(20),
  ];
  const { create, remove } = planSnapshots([schedule('daily keep 1')], snapshots, nowMs, 'UTC');
  expect(create).toEqual([]);
  expect(remove.map(({ createdAt }) => createdAt.slice(0, 10))).toEqual([
    '2026-11-16',
    '2026-11-10',
  ]);
});

test('a clock that was set back makes nothing anew', () => {
  const nowMs = Date.parse('2026-11-20T12:00:00Z');
  const later = [snapshotOf('hourly', '2026-11-20T14:00:00.000Z')];
  expect(planSnapshots([schedule('hourly keep 2')], later, nowMs, 'UTC').create).toEqual([]);
});
