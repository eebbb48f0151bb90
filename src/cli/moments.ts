import { Option } from 'commander';
import { StorageError } from '../base/errors.ts';
import { momentHint, parseMoment } from '../base/moment.ts';
import type { WantedMoment } from '../volume/wanted-moment.ts';

/** Options of commands that go back to a moment of a volume that keeps its past. */
export const momentOptions: readonly Option[] = [
  new Option('--at <time>', `as it was, with all that was answered before: ${momentHint}`),
  new Option('--flushed', 'with --at: as it was when the last flush before that was answered'),
];

/** The moment that is asked for; `undefined`: now. */
export function momentIn(options: Readonly<Record<string, unknown>>): WantedMoment | undefined {
  const { at: text, flushed } = options;
  if (typeof text !== 'string') {
    if (flushed === true) throw new StorageError('usage', '--flushed says more about --at');
    return undefined;
  }
  const timeMs = parseMoment(text);
  if (timeMs === undefined) throw new StorageError('usage', `--at expected ${momentHint}`);
  return { timeMs, flushed: flushed === true };
}
