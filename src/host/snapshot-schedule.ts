import { formatDuration, parseDuration } from '../base/quantity.ts';
import type { Snapshot } from '../format/snapshot.ts';

/**
 * When snapshots are made by themselves and when they go: a pure function of the schedules, the
 * snapshots that there are, and the time. Nothing is remembered, so nothing has to be made up for.
 */
export const scheduleHint =
  '"every 1h keep 24", "hourly keep 24", "daily keep 7", "daily at 02:30 keep 7", "weekly keep 4" or "monthly keep 12"';

/** Tag of the snapshots that a schedule made: it touches no others. */
export const scheduleTag = 'schedule';

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;
const everyMinimumMs = minuteMs;
const everyMaximumMs = 366 * dayMs;
const keepMaximum = 500;
/** The first day of 1970 was a Thursday. */
const daysFromMonday = 3;

type Period = 'every' | 'hourly' | 'daily' | 'weekly' | 'monthly';

export interface Schedule {
  /** Without what it keeps: by this it knows its own. */
  readonly name: string;
  readonly period: Period;
  readonly everyMs: number;
  /** When the day begins, or the week and month with it; minutes after midnight. */
  readonly atMinutes: number;
  readonly keep: number;
}

/** What to do now. */
export interface SnapshotPlan {
  readonly create: readonly Schedule[];
  readonly remove: readonly Snapshot[];
}

export function parseSchedule(text: string): Schedule | undefined {
  const words = text.trim().toLowerCase().split(/\s+/);
  const keep = words.at(-2) === 'keep' ? wholeNumber(words.at(-1), keepMaximum) : undefined;
  if (keep === undefined || keep === 0) return undefined;
  const [period = '', ...rest] = words.slice(0, -2);
  if (period === 'every' && rest.length === 1) return everySchedule(rest[0] ?? '', keep);
  if (period !== 'hourly' && period !== 'daily' && period !== 'weekly' && period !== 'monthly')
    return undefined;
  if (rest.length === 0) return { name: period, period, everyMs: hourMs, atMinutes: 0, keep };
  const atMinutes = rest.length === 2 && rest[0] === 'at' ? minutesOf(rest[1] ?? '') : undefined;
  if (atMinutes === undefined || period === 'hourly') return undefined;
  return { name: `${period} at ${rest[1]}`, period, everyMs: dayMs, atMinutes, keep };
}

function everySchedule(text: string, keep: number): Schedule | undefined {
  const everyMs = parseDuration(text);
  if (everyMs === undefined || everyMs < everyMinimumMs || everyMs > everyMaximumMs)
    return undefined;
  const name = `every ${formatDuration(everyMs)}`;
  return { name, period: 'every', everyMs, atMinutes: 0, keep };
}

function wholeNumber(text: string | undefined, maximum: number): number | undefined {
  const value = /^\d{1,4}$/.test(text ?? '') ? Number(text) : undefined;
  return value !== undefined && value <= maximum ? value : undefined;
}

function minutesOf(text: string): number | undefined {
  const [, hours, minutes] = /^([01]\d|2[0-3]):([0-5]\d)$/.exec(text) ?? [];
  return hours === undefined ? undefined : Number(hours) * 60 + Number(minutes);
}

export function formatSchedule({ name, keep }: Schedule): string {
  return `${name} keep ${keep}`;
}

/**
 * One snapshot for each period, made when it has begun or as soon after that as can be; however many
 * were missed, one. `zone` says when days begin. What a clone reads or somebody holds is not removed,
 * nor what is not completed; neither counts as one of those that are kept.
 */
export function planSnapshots(
  schedules: readonly Schedule[],
  snapshots: readonly Snapshot[],
  nowMs: number,
  zone: string,
): SnapshotPlan {
  const create: Schedule[] = [];
  const remove: Snapshot[] = [];
  for (const schedule of schedules) {
    const own = snapshots
      .filter(({ tags }) => tags[scheduleTag] === schedule.name)
      .sort((a, b) => Date.parse(b.createdAt) - Date.parse(a.createdAt));
    const now = periodOf(schedule, nowMs, zone);
    // A clock that was set back makes none anew, and none a second time when it is that hour again.
    const isMade = own.some(
      ({ createdAt }) => periodOf(schedule, Date.parse(createdAt), zone) >= now,
    );
    if (!isMade) create.push(schedule);
    remove.push(...own.filter(isRemovable).slice(schedule.keep));
  }
  return { create, remove };
}

function isRemovable({ isCompleted, clones, holds }: Snapshot): boolean {
  return isCompleted && clones.length === 0 && (holds?.length ?? 0) === 0;
}

/** The number of the period that a time is in; rises with time. */
function periodOf({ period, everyMs, atMinutes }: Schedule, timeMs: number, zone: string): number {
  if (period === 'every' || period === 'hourly') return Math.floor(timeMs / everyMs);
  const { day, minutes } = localTime(timeMs, zone);
  const since = minutes < atMinutes ? day - 1 : day;
  if (period === 'daily') return since;
  if (period === 'weekly') return Math.floor((since + daysFromMonday) / 7);
  const date = new Date(since * dayMs);
  return date.getUTCFullYear() * 12 + date.getUTCMonth();
}

const formats = new Map<string, Intl.DateTimeFormat>();

/** Made once: that takes a hundred times as long as using it. */
function formatOf(zone: string): Intl.DateTimeFormat {
  const known = formats.get(zone);
  if (known !== undefined) return known;
  const made = new Intl.DateTimeFormat('en-US', {
    timeZone: zone,
    hourCycle: 'h23',
    ...{ year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric' },
  });
  formats.set(zone, made);
  return made;
}

/** The day where `zone` is, in days since 1970, and how many minutes of it clocks there show. */
function localTime(timeMs: number, zone: string): { day: number; minutes: number } {
  const parts = formatOf(zone).formatToParts(timeMs);
  const part = (type: Intl.DateTimeFormatPartTypes): number =>
    Number(parts.find((each) => each.type === type)?.value);
  const midnightMs = Date.UTC(part('year'), part('month') - 1, part('day'));
  return { day: midnightMs / dayMs, minutes: part('hour') * 60 + part('minute') };
}
