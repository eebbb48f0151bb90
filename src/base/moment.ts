/** A moment as people write it, to the millisecond, and where: without a zone nobody knows when it is. */
export const momentHint = 'a time such as 2026-11-20T10:15:00Z or 2026-11-20T11:15:00+01:00';

const pattern = /^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2})(:\d{2}(?:\.\d{1,3})?)?(Z|[+-]\d{2}:\d{2})$/i;

/** Milliseconds since 1970; `undefined` when the text is no moment. */
export function parseMoment(text: string): number | undefined {
  const [whole, date, minutes, seconds = '', zone] = pattern.exec(text.trim()) ?? [];
  if (whole === undefined) return undefined;
  const timeMs = Date.parse(`${date}T${minutes}${seconds || ':00'}${zone?.toUpperCase()}`);
  if (Number.isNaN(timeMs)) return undefined;
  // The 31st of a shorter month is no day.
  const isDay = new Date(`${date}T00:00:00Z`).toISOString().startsWith(date ?? '');
  return isDay ? timeMs : undefined;
}
