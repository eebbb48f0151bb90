import { closestMatch } from 'leven';

/** `; did you mean "x"?` when a candidate is near enough, else nothing. */
export function didYouMean(wrong: string, candidates: readonly string[]): string {
  const maxDistance = Math.max(1, Math.floor(wrong.length * 0.4));
  const nearest = closestMatch(wrong, candidates, { maxDistance });
  return nearest === undefined ? '' : `; did you mean "${nearest}"?`;
}
