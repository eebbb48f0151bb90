/**
 * Sizes and durations as people write them. Sizes are binary with or without the `iB`, as with
 * qemu and lvm: `4T` is 4 TiB. `GB` is refused, because half the world means 10^9 bytes by it.
 */

export const sizeHint = 'a size such as 10GiB, 512M or a number of bytes';
export const durationHint = 'a duration such as 5s, 250ms, 10m or 1h';

const sizeUnits: readonly (readonly [suffix: string, bytes: number])[] = [
  ['PiB', 2 ** 50],
  ['TiB', 2 ** 40],
  ['GiB', 2 ** 30],
  ['MiB', 2 ** 20],
  ['KiB', 2 ** 10],
  ['B', 1],
];

const durationUnits: readonly (readonly [suffix: string, milliseconds: number])[] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
  ['ms', 1],
];

/** A whole number of bytes below 2^53, or `undefined` when the text is no size. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?(?:([kmgtp])(?:ib)?|b)?$/i.exec(text.trim());
  if (match === null) return undefined;
  const letter = match[2]?.toUpperCase();
  const unit = sizeUnits.find(([suffix]) => suffix[0] === (letter ?? 'B'));
  return wholeProduct(match[1], unit?.[1]);
}

/** A whole number of milliseconds, or `undefined` when the text is no duration. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?(ms|s|m|h|d)$/.exec(text.trim());
  const unit = durationUnits.find(([suffix]) => suffix === match?.[2]);
  return wholeProduct(match?.[1], unit?.[1]);
}

function wholeProduct(digits: string | undefined, factor: number | undefined): number | undefined {
  if (digits === undefined || factor === undefined) return undefined;
  const product = Number(digits) * factor;
  return Number.isSafeInteger(product) ? product : undefined;
}

/** The shortest exact form, which `parseSize` reads back: `10GiB`, `1536MiB`, `1000B`. */
export function formatSize(bytes: number): string {
  return exact(bytes, sizeUnits, '0B');
}

/** The shortest exact form, which `parseDuration` reads back: `5s`, `1500ms`. */
export function formatDuration(milliseconds: number): string {
  return exact(milliseconds, durationUnits, '0s');
}

function exact(
  amount: number,
  units: readonly (readonly [suffix: string, factor: number])[],
  zero: string,
): string {
  const unit = units.find(([, factor]) => amount >= factor && amount % factor === 0);
  return unit === undefined ? zero : `${amount / unit[1]}${unit[0]}`;
}

/** A size for the eye, rounded to one decimal: `117.7MiB`. */
export function roundSize(bytes: number): string {
  return round(bytes, sizeUnits, '0B');
}

/** A duration for the eye, rounded to one decimal: `2.5h`. */
export function roundDuration(milliseconds: number): string {
  return round(milliseconds, durationUnits, '0s');
}

function round(
  amount: number,
  units: readonly (readonly [suffix: string, factor: number])[],
  zero: string,
): string {
  const unit = units.find(([, factor]) => amount >= factor);
  return unit === undefined ? zero : `${Math.round((amount / unit[1]) * 10) / 10}${unit[0]}`;
}
