import { Option } from 'commander';
import { isoTime } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { formatDuration, parseDuration } from '../base/quantity.ts';
import type { Manifest } from '../format/manifest.ts';

/** Ten years: more is a mistake. */
const retainMaximumMs = 3660 * 86_400_000;
const retainHint = 'a duration such as 24h or 7d, or 0 for not at all';

export const retainOption = new Option(
  '--retain <duration>',
  `how long all that is written is kept, to go back to any moment: ${retainHint}`,
);

/** Milliseconds; `undefined` when the option was not given. */
export function retainIn(options: Readonly<Record<string, unknown>>): number | undefined {
  const text = options['retain'];
  if (typeof text !== 'string') return undefined;
  const retainMs = text === '0' ? 0 : parseDuration(text);
  if (retainMs !== undefined && retainMs <= retainMaximumMs) return retainMs;
  throw new StorageError('usage', `--retain expected ${retainHint}`);
}

export function describeRetention({ retention }: Manifest): string {
  return retention === undefined ? 'nothing but snapshots' : formatDuration(retention.retainMs);
}

/** From when until when the volume can be had, for people. */
export async function describeWindow(manifest: Manifest, nowMs: number): Promise<string> {
  const { windowOf } = await import('../volume/moments.ts');
  const window = windowOf(manifest, nowMs);
  if (window !== undefined) return `${isoTime(window.fromMs)} to ${isoTime(window.throughMs)}`;
  return manifest.retention === undefined ? 'no time' : 'no time yet: from its next checkpoint on';
}

/** What `--json` says of it. */
export async function retentionFields(
  manifest: Manifest,
  nowMs: number,
): Promise<Record<string, unknown>> {
  const { windowOf } = await import('../volume/moments.ts');
  const window = windowOf(manifest, nowMs);
  return {
    retainMs: manifest.retention?.retainMs ?? 0,
    from: window === undefined ? null : isoTime(window.fromMs),
    through: window === undefined ? null : isoTime(window.throughMs),
  };
}
